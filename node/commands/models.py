"""Commands of the one who trains and trusts models: models, train, evaluate."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from node.commands.options import ConfigOption, JsonOption
from node.config import Config, load_config
from node.log import start_log
from pipelines.base import TrainingOptions

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the images.")]
OutputOption = Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the results go.")]
PipelineArgument = Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of a file of config/pipelines.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(models)
    app.command()(train)
    app.command()(evaluate)


def models(
    action: Annotated[
        str, typer.Argument(help="`list`, or `verify`: exit status 1 if a file is not what its card says.")
    ] = "list",
    as_json: JsonOption = False,
) -> None:
    """List the shipped weights with their cards, and verify them."""
    from models.weights import shipped

    records = [_model_record(name) for name in shipped()]
    if as_json:
        Console().print_json(data=records)
    else:
        table = Table("weights", "sha256", "state")
        for record in records:
            table.add_row(*record.values())
        Console().print(table)
    if action == "verify" and any(record["state"] != "verified" for record in records):
        raise typer.Exit(1)


def train(
    pipeline: PipelineArgument,
    data: DataOption,
    output: OutputOption = Path("runs"),
    slices: Annotated[int | None, typer.Option(min=1, help="Training slices of each domain; all if left out.")] = None,
    updates: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    config: ConfigOption = None,
) -> None:
    """Train the model of a pipeline; goes on where an earlier run with the same output stopped."""
    options = TrainingOptions(updates=updates, slices=slices, seed=seed, device=device)
    trained = settings_for(data, config).pipeline(pipeline, verify=False)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("train", total=1.0)
        weights = trained.train(
            data, output, options, lambda done, what: progress.update(task, completed=done, description=what)
        )
    typer.echo(f"weights and card: {weights}")


def evaluate(
    pipeline: PipelineArgument,
    data: DataOption,
    output: OutputOption = Path("runs/evaluation"),
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the model of a pipeline on held-out images."""
    evaluated = settings_for(data, config).pipeline(pipeline)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("evaluate", total=1.0)
        figures = evaluated.evaluate(
            data, output, lambda done, what: progress.update(task, completed=done, description=what)
        )
    if as_json:
        Console().print_json(data=dict(figures))
        return
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


def settings_for(data: Path, config: Path | None) -> Config:
    """The configuration, once it is sure that the images are of nobody who has opted out."""
    from node.collection import check_opt_outs

    settings = load_config(config)
    check_opt_outs(settings.collections, data)
    # Says which series the reader leaves out, and why.
    start_log("WARNING")
    return settings


def _model_record(name: str) -> dict[str, str]:
    from models.weights import WeightsError, load_weights

    try:
        card, _ = load_weights(name)
    except WeightsError as error:
        return {"weights": name, "sha256": "", "state": str(error)}
    return {"weights": name, "sha256": card.sha256, "state": "verified"}
