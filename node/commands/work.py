"""Commands about what the ledger knows: jobs, show, retry, release, reject, collect."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node import approval
from node.commands.options import ByOption, ConfigOption, JsonOption, existing_ledger
from node.config import Config, load_config
from node.errors import NodeError
from node.ledger.schema import JobState
from node.storage import Storage
from node.view import full_record, job_record, moment
from pipelines.stability import QUALITY_PAGE

ResultArgument = Annotated[int, typer.Argument(metavar="RESULT", help="Id of a result; see rtnode show.")]
DecidedBy = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; goes into the audit trail.")]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="Goes into the audit trail.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(jobs)
    app.command()(show)
    app.command()(retry)
    app.command()(release)
    app.command()(reject)
    app.command()(collect)


def jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the jobs, the newest first."""
    ledger = existing_ledger(load_config(config))
    found = ledger.jobs.all(state)
    ledger.close()
    if as_json:
        Console().print_json(data=[job_record(job) for job in found])
        return
    table = Table("job", "pipeline", "state", "attempts", "created", "reason")
    for job in found:
        table.add_row(str(job.id), job.pipeline, job.state, str(job.attempts), moment(job.created_at), job.reason or "")
    Console().print(table)


def show(
    job_id: Annotated[int, typer.Argument(metavar="ID", help="Id of a job.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell all about one job: inputs, findings, deliveries and what happened."""
    settings = load_config(config)
    ledger = existing_ledger(settings)
    record = {**full_record(ledger, job_id), "page": _page_of(settings, job_id)}
    ledger.close()
    if as_json:
        Console().print_json(data=record)
    else:
        _print_record(record)


def _page_of(settings: Config, job_id: int) -> dict[str, str | None]:
    """Where a person can look at the job: on the status page, and in the file beside the result."""
    web = settings.node.web
    file = settings.node.state_dir.resolve() / "results" / str(job_id) / QUALITY_PAGE
    return {
        "address": f"http://{web.bind}:{web.port}/jobs/{job_id}" if web and web.port else None,
        "file": str(file) if file.is_file() else None,
    }


def retry(
    job_id: Annotated[int, typer.Argument(metavar="ID", help="Id of a failed job, or of one with failed deliveries.")],
    by: ByOption = "operator",
    config: ConfigOption = None,
) -> None:
    """Try a failed job, or the failed deliveries of a finished one, once more."""
    ledger = existing_ledger(load_config(config))
    result = ledger.jobs.result_of(job_id)
    deliveries = ledger.deliveries.of_result(result.id) if result else []
    again = [ledger.jobs.retry(job_id, by), *(ledger.deliveries.retry(one.id, by) for one in deliveries)]
    ledger.close()
    if not any(again):
        raise NodeError(f"job {job_id} has nothing that failed")
    typer.echo(f"queued again: {sum(again)}")


def release(result: ResultArgument, by: DecidedBy, why: WhyOption, config: ConfigOption = None) -> None:
    """Send a held result after all."""
    settings = load_config(config)
    ledger = existing_ledger(settings)
    sent = approval.release(settings, ledger, result, by, why)
    ledger.close()
    typer.echo(
        f"result {result} is released" if sent else f"result {result} stays held until a second person releases it"
    )


def reject(result: ResultArgument, by: DecidedBy, why: WhyOption, config: ConfigOption = None) -> None:
    """Decide that a held result is never sent."""
    ledger = existing_ledger(load_config(config))
    ledger.decisions.reject(result, by, why)
    ledger.close()
    typer.echo(f"result {result} is rejected")


def collect(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A data set of collections.yaml; all.")] = None,
    config: ConfigOption = None,
) -> None:
    """Copy received series, de-identified, into the research data sets of collections.yaml."""
    from node.collection import Collector

    settings = load_config(config)
    chosen = [rule for rule in settings.collections if name in (None, rule.name)]
    if not chosen:
        raise NodeError(f"collections.yaml has no data set {name or 'at all'}")
    ledger = existing_ledger(settings)
    for rule in chosen:
        outcome = Collector(rule, ledger, Storage(settings.node.state_dir)).collect()
        typer.echo(f"{rule.name}: {outcome.added} series added, {outcome.removed} removed, in {rule.folder}")
        for reason, count in outcome.left_out.items():
            typer.echo(f"{rule.name}: {count} series left out: {reason}")
    ledger.close()


def _print_record(record: dict[str, Any]) -> None:
    console = Console()
    console.print(f"job {record['id']} of {record['pipeline']}: {record['state']} {record['reason'] or ''}")
    for where in filter(None, record["page"].values()):
        console.print(f"page: {where}", soft_wrap=True)
    agreement = record["agreement"]
    if agreement:
        console.print(f"the result in shadow {escape(agreement['sentence'])}", soft_wrap=True)
    for title, rows in (
        ("inputs", record["inputs"]),
        ("findings", record["result"]["findings"] if record["result"] else []),
        ("agreement", agreement["findings"] if agreement else []),
        ("trend", record["trend"]),
        ("deliveries", record["deliveries"]),
        ("events", record["events"]),
    ):
        if rows:
            table = Table(*rows[0], title=title, title_justify="left")
            for row in rows:
                table.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
            console.print(table)
