"""Commands about a folder of images: simulate, run, send.

What runs a pipeline is imported by the command that does: it brings torch along, which takes seconds.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, track
from rich.table import Table

from node.commands.options import ConfigOption, JsonOption
from node.config import Config, When, load_config
from node.errors import NodeError
from node.folder import FolderSeries, Plan, order_of, outgoing, plans, series_of
from node.headers import UnreadableInstance
from node.routing import route
from node.scu import Outgoing, Scu

if TYPE_CHECKING:
    from pipelines.execution import JobReport

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of DICOM files, searched to the bottom.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(simulate)
    app.command()(run)
    app.command()(send)


def simulate(folder: FolderArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what the node would do with these files, without running anything."""
    settings = load_config(config)
    series = series_of(folder, settings.roles)
    found = plans(settings, settings.loaded_pipelines(), series)
    if as_json:
        Console().print_json(data={"series": [_series_record(one) for one in series],
                                   "jobs": [_plan_record(settings, plan) for plan in found]})  # fmt: skip
        return
    _print_series(series)
    _print_plans(settings, found)


def run(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of a file of config/pipelines.")],
    folder: FolderArgument,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the new DICOM files go.")],
    series: Annotated[
        str | None,
        typer.Option(metavar="UID", help="Series to start on, whatever its role and body part; else by these."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one pipeline on a folder, without the network; exit status 1 when the input is rejected."""
    settings = load_config(config)
    found = series_of(folder, settings.roles)
    reports = [
        _run_plan(settings, plan, found, output / plan.trigger.known.series_instance_uid if several else output)
        for chosen in [_chosen(settings, pipeline, found, series)]
        for several in [len(chosen) > 1]
        for plan in chosen
    ]
    if as_json:
        records = [report.model_dump(mode="json") for report in reports]
        Console().print_json(data=records[0] if len(records) == 1 else records)
    else:
        _print_reports(reports, output)
    if any(report.status == "rejected" for report in reports):
        raise typer.Exit(1)


def send(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or folders searched to the bottom.")],
    to: Annotated[str, typer.Option("--to", metavar="PEER", help="Name of a peer of peers.yaml.")],
    config: ConfigOption = None,
) -> None:
    """Send files to a peer, one association for each series; exit status 1 unless all were taken."""
    settings = load_config(config)
    if to not in settings.peers:
        raise NodeError(f"peers.yaml has no peer {to}; known are {', '.join(sorted(settings.peers))}")
    by_series = _outgoing_by_series(paths)
    scu = Scu(settings.node.ae_title)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"to {to}", total=sum(map(len, by_series.values())))
        for instances in by_series.values():
            scu.send(settings.peers[to], instances, lambda one, status: progress.advance(task))
    typer.echo(f"{to} has taken {sum(map(len, by_series.values()))} instances of {len(by_series)} series")


def _chosen(settings: Config, pipeline: str, found: list[FolderSeries], series: str | None) -> list[Plan]:
    loaded = settings.pipeline(pipeline)
    if series is not None:
        triggers = [one for one in found if one.known.series_instance_uid == series]
        known = [one.known for one in found]
        chosen = [Plan(pipeline, one, route(loaded.needs, one.known, known)) for one in triggers]
    else:
        chosen = plans(settings, {pipeline: loaded}, found)
    if not chosen:
        awaited = _awaited(settings.pipelines[pipeline].when)
        raise NodeError(f"no series of the folder starts {pipeline}: it waits for {awaited}; see rtnode simulate")
    for plan in chosen:
        if plan.route.missing:
            raise NodeError(f"{pipeline} {plan.route.reason}")
    return chosen


def _awaited(when: When) -> str:
    body_part = f" and the body part {' or '.join(when.body_part)}" if when.body_part else ""
    return f"the role {when.role}{body_part}"


def _run_plan(settings: Config, plan: Plan, found: list[FolderSeries], output: Path) -> "JobReport":
    from pipelines.execution import execute

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(plan.pipeline, total=1.0)
        order = order_of(settings, plan, found, output)
        return execute(order, lambda done, what: progress.update(task, completed=done, description=what))


def _outgoing_by_series(paths: list[Path]) -> dict[str, list[Outgoing]]:
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    found: dict[str, list[Outgoing]] = {}
    for file in track(
        (file for file in files if file.is_file()), "reading", console=Console(stderr=True), transient=True
    ):
        try:
            series_instance_uid, one = outgoing(file)
        except UnreadableInstance:
            continue
        found.setdefault(series_instance_uid, []).append(one)
    if not found:
        raise NodeError("there is no DICOM file to send")
    return found


def _series_record(one: FolderSeries) -> dict[str, object]:
    return {
        "series_instance_uid": one.known.series_instance_uid,
        "modality": one.modality,
        "role": one.known.role,
        "body_parts": sorted(one.known.body_parts),
        "state": one.known.state.value,
        "instances": len(one.paths),
        "reason": one.reason,
    }


def _plan_record(settings: Config, plan: Plan) -> dict[str, object]:
    return {
        "pipeline": plan.pipeline,
        "trigger": plan.trigger.known.series_instance_uid,
        "inputs": [{"role": role, "series_instance_uid": one.series_instance_uid} for role, one in plan.route.inputs],
        "missing": list(plan.route.missing),
        "remarks": list(plan.route.remarks),
        "send_to": _receivers(settings, plan),
    }


def _print_series(series: list[FolderSeries]) -> None:
    table = Table("series", "modality", "role", "body part", "instances", "state", "reason")
    for one in series:
        known = one.known
        table.add_row(
            _short(known.series_instance_uid),
            one.modality,
            known.role,
            escape(", ".join(sorted(known.body_parts))),
            str(len(one.paths)),
            known.state.value,
            one.reason or "",
        )
    Console().print(table)


def _receivers(settings: Config, plan: Plan) -> list[str]:
    pipeline = settings.pipelines[plan.pipeline]
    return [] if pipeline.shadow else list(pipeline.send_to)


def _print_plans(settings: Config, found: list[Plan]) -> None:
    table = Table("pipeline", "starts on", "inputs", "would go to")
    for plan in found:
        taken = plan.route.reason if plan.route.missing else ", ".join(role for role, _ in plan.route.inputs)
        inputs = "; ".join((taken, *plan.route.remarks))
        peers = "nobody (shadow)" if settings.pipelines[plan.pipeline].shadow else ", ".join(_receivers(settings, plan))
        table.add_row(plan.pipeline, _short(plan.trigger.known.series_instance_uid), inputs, peers)
    Console().print(table if found else "no pipeline would start")


def _print_reports(reports: "list[JobReport]", output: Path) -> None:
    for report in reports:
        made = sum(len(one.instances) for one in report.series)
        table = Table("finding", "value", "unit", "verdict", "text")
        for finding in report.findings:
            table.add_row(
                finding.name, f"{finding.value:.4g}", escape(finding.unit), finding.verdict, escape(finding.text)
            )
        Console().print(f"{report.status.value}: {report.reason or f'{made} instances in {output}'}")
        Console().print(f"verdict: {report.verdict.value}, {report.seconds:.1f} s")
        if report.findings:
            Console().print(table)


def _short(uid: str) -> str:
    return uid if len(uid) <= 24 else f"…{uid[-23:]}"
