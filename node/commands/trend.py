"""The command that lists the control charts: trend."""

from collections.abc import Iterable
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node.commands.options import ConfigOption, JsonOption, existing_ledger
from node.config import load_config
from node.errors import NodeError
from node.view import Record, trend_record


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
    if not records:
        Console().print("no result has been filed yet")
    # The ledger has them in this order.
    for (name, device), charts in groupby(records, lambda one: (one["pipeline"], one["device"])):
        _print_charts(f"{name}, {device}", charts)


def _print_charts(title: str, charts: Iterable[Record]) -> None:
    table = Table(title=escape(title), title_justify="left")
    table.add_column("finding", no_wrap=True)
    for column in ("points", "last", "mean", "sigma", "unit", "state"):
        table.add_column(column)
    for one in charts:
        numbers = ("" if one[key] is None else f"{one[key]:.3g}" for key in ("last", "mean", "sigma"))
        table.add_row(escape(one["finding"]), str(one["points"]), *numbers, escape(one["unit"]), one["state"])
    Console().print(table)
