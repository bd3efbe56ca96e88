"""Commands that answer a question by many trainings: study data-size, study ablation."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from node.commands.models import (
    DataOption,
    DeviceOption,
    MethodOption,
    OutputOption,
    PipelineArgument,
    SettingsOption,
    UpdatesOption,
    settings_for,
    training_settings,
)
from node.commands.options import ConfigOption
from pipelines.base import DataSizeOptions, TrainingOptions
from pipelines.base import Progress as PipelineProgress

Size: TypeAlias = int | Literal["all"]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="Answer a question by many trainings.", no_args_is_help=True)
    group.command("data-size")(data_size)
    group.command()(ablation)
    app.add_typer(group, name="study")


def data_size(
    pipeline: PipelineArgument,
    data: DataOption,
    sizes: Annotated[str, typer.Option(help="Training slices, as 16,32,64; `all` is every slice there is.")],
    output: OutputOption = Path("runs/data_size"),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each size.")] = 3,
    method: MethodOption = None,
    updates: UpdatesOption = None,
    validation_slices: Annotated[
        int, typer.Option(min=1, help="Slices of each validation volume that are judged.")
    ] = 24,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at the same time, each on one thread.")] = 1,
    device: DeviceOption = None,
    settings: SettingsOption = None,
    config: ConfigOption = None,
) -> None:
    """How many slices does the training need? Goes on where an earlier run with the same output stopped."""
    options = DataSizeOptions(
        sizes=_sizes(sizes),
        training=TrainingOptions(method=method, updates=updates, device=device, settings=training_settings(settings)),
        seeds=seeds,
        validation_slices=validation_slices,
        jobs=jobs,
    )
    studied = settings_for(data, config).pipeline(pipeline, verify=False)
    _answer(lambda progress: studied.study_data_size(data, output, options, progress), output)


def ablation(
    pipeline: PipelineArgument,
    data: DataOption,
    output: OutputOption = Path("runs/ablation"),
    updates: UpdatesOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="0 unless the settings say otherwise.")] = None,
    device: DeviceOption = None,
    settings: SettingsOption = None,
    config: ConfigOption = None,
) -> None:
    """What do the choices of the method do, early and late? Of a segmentation: HU windows and weights of the organs."""
    options = TrainingOptions(updates=updates, seed=seed, device=device, settings=training_settings(settings))
    studied = settings_for(data, config).pipeline(pipeline, verify=False)
    _answer(lambda progress: studied.study_ablation(data, output, options, progress), output)


def _answer(study: Callable[[PipelineProgress], str], output: Path) -> None:
    # No column for the time left: the study knows better, as it knows its cells.
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reading", total=1.0)
        answer = study(lambda done, what: progress.update(task, completed=done, description=what))
    typer.echo(answer)
    typer.echo(f"table, figure and rows: {output}")


def _sizes(sizes: str) -> tuple[Size, ...]:
    return tuple(_size(word.strip()) for word in sizes.split(","))


def _size(word: str) -> Size:
    if word == "all":
        return "all"
    if not word.isascii() or not word.isdigit():
        raise typer.BadParameter(f"{word!r} is neither a number of slices nor `all`", param_hint="--sizes")
    return int(word)
