"""The command that lists the control charts: trend."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node.commands.options import ConfigOption, JsonOption, existing_ledger
from node.config import load_config
from node.errors import NodeError
from node.view import trend_record


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(trend)


def trend(
    pipeline: Annotated[str | None, typer.Argument(metavar="[PIPELINE]", help="Name of a pipeline; all.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the control charts of all findings, by device and pipeline, with how each stands."""
    settings = load_config(config)
    if pipeline is not None and pipeline not in settings.pipelines:
        raise NodeError(f"the configuration has no pipeline {pipeline}")
    ledger = existing_ledger(settings)
    records = [trend_record(chart) for chart in ledger.trends.all(pipeline)]
    ledger.close()
    if as_json:
        Console().print_json(data=records)
        return
    table = Table("pipeline", "device", "finding", "points", "last", "mean", "sigma", "unit", "state")
    for one in records:
        numbers = ("" if one[key] is None else f"{one[key]:.3g}" for key in ("last", "mean", "sigma"))
        words = (escape(str(one[key])) for key in ("pipeline", "device", "finding", "points"))
        table.add_row(*words, *numbers, escape(one["unit"]), one["state"])
    Console().print(table if records else "no result has been filed yet")
