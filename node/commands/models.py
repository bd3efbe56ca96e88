"""Commands of the one who trains and trusts models: models, train, evaluate."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from node.commands.model_import import import_model
from node.commands.options import ConfigOption, JsonOption
from node.config import Config, load_config
from node.log import start_log
from pipelines.base import Pipeline, TrainingOptions

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the images.")]
OutputOption = Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the results go.")]
MethodOption = Annotated[
    str | None,
    typer.Option(help="How to train: `unpaired` or `supervised`; `witness` trains what judges the results."),
]
UpdatesOption = Annotated[
    int | None, typer.Option(min=1, help="Updates of the weights; if left out, as the settings or the method say.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; cpu unless the settings say otherwise.")]
SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="YAML with training settings by name, losses among them."),
]
PipelineArgument = Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of a file of config/pipelines.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer()
    group.callback(invoke_without_command=True)(models)
    group.command("list")(list_models)
    group.command("verify")(verify_models)
    group.command("import")(import_model)
    app.add_typer(group, name="models")
    app.command()(train)
    app.command()(evaluate)


def models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the shipped weights with their cards, verify them, or import what was trained elsewhere."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        _show_models(as_json)


def list_models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the shipped weights with their cards."""
    _show_models(as_json or context.obj)


def verify_models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List them; exit status 1 if a file is not what its card says."""
    if any(record["state"] != "verified" for record in _show_models(as_json or context.obj)):
        raise typer.Exit(1)


def train(
    pipeline: PipelineArgument,
    data: DataOption,
    output: OutputOption = Path("runs"),
    slices: Annotated[int | None, typer.Option(min=1, help="Training slices of each domain; all if left out.")] = None,
    method: MethodOption = None,
    updates: UpdatesOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="0 unless the settings say otherwise.")] = None,
    device: DeviceOption = None,
    settings: SettingsOption = None,
    config: ConfigOption = None,
) -> None:
    """Train the model of a pipeline; goes on where an earlier run with the same output stopped."""
    options = TrainingOptions(
        method=method, updates=updates, slices=slices, seed=seed, device=device, settings=training_settings(settings)
    )
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
    comparators: Annotated[bool, typer.Option(help="Tune classical filters and measure them beside the model.")] = True,
    record: Annotated[bool, typer.Option("--record", help="Write the figures into the card of the weights.")] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure the limits on the validation patients, write them into the card."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the model of a pipeline on held-out images, or the limits of its findings."""
    # A calibration makes what the card has to agree with: the domain, and which witness it is.
    evaluated = settings_for(data, config).pipeline(pipeline, verify=not calibrate)
    if calibrate:
        _calibrate(evaluated, data, output, as_json)
        return
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("evaluate", total=1.0)
        figures = evaluated.evaluate(
            data,
            output,
            lambda done, what: progress.update(task, completed=done, description=what),
            comparators,
            record,
        )
    if as_json:
        Console().print_json(data=dict(figures))
        return
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


def _calibrate(pipeline: Pipeline, data: Path, output: Path, as_json: bool) -> None:
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("calibrate", total=1.0)
        limits = pipeline.calibrate(
            data, output, lambda done, what: progress.update(task, completed=done, description=what)
        )
    if as_json:
        Console().print_json(data={name: limit.model_dump() for name, limit in limits.items()})
        return
    table = Table("finding", "flag above", "hold above")
    for name, limit in limits.items():
        table.add_row(name, f"{limit.flag_above:.4g}", f"{limit.hold_above:.4g}")
    Console().print(table)


def settings_for(data: Path, config: Path | None) -> Config:
    """The configuration, once it is sure that the images are of nobody who has opted out."""
    from node.collection import check_opt_outs

    settings = load_config(config)
    check_opt_outs(settings.collections, data)
    # Says which series the reader leaves out, and why.
    start_log("WARNING")
    return settings


def training_settings(file: Path | None) -> dict[str, Any]:
    """Settings of a YAML file; none without a file."""
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{file} can not be read: {error}", param_hint="--settings") from error
    if not isinstance(content, dict):
        raise typer.BadParameter(f"{file} is no mapping of settings", param_hint="--settings")
    return content


def _show_models(as_json: bool) -> list[dict[str, str]]:
    """Print the shipped weights and whether each is what its card says."""
    from models.prognosis import load_prognosis, shipped_prognoses
    from models.weights import shipped

    records = [_model_record(name, _sha256_with_judges) for name in shipped()]
    records += [_model_record(name, lambda name: load_prognosis(name)[0].sha256) for name in shipped_prognoses()]
    if as_json:
        Console().print_json(data=records)
        return records
    table = Table("weights", "sha256", "state")
    for record in records:
        table.add_row(*record.values())
    Console().print(table)
    return records


def _sha256_with_judges(name: str) -> str:
    """Of weights that are what their card says, as are the domain and the witness that it names."""
    from models.inference import check_judging
    from models.weights import load_weights

    card, _ = load_weights(name)
    check_judging(name, card)
    return card.sha256


def _model_record(name: str, sha256_of: Callable[[str], str]) -> dict[str, str]:
    from models.weights import WeightsError

    try:
        return {"weights": name, "sha256": sha256_of(name), "state": "verified"}
    except WeightsError as error:
        return {"weights": name, "sha256": "", "state": str(error)}
