"""The command that makes up a cohort of head CTs after cardiac arrest: phantom head."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress


def head(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the research collection goes.")],
    patients: Annotated[int, typer.Option(min=1, max=5000, help="Every third of them is kept for the test.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another cohort.")] = 0,
    effect: Annotated[
        float, typer.Option(help="Of one standard deviation of swelling on the log-odds of the poor outcome; 0: none.")
    ] = 2.0,
) -> None:
    """Head CTs after cardiac arrest: a research collection with outcomes, for training and tests."""
    from models.simulated_oedema import OedemaCohortSettings
    from pipelines.head_phantom_study import write_head_cohort

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("phantom", total=1.0)
        cohort = write_head_cohort(
            output,
            OedemaCohortSettings(patients=patients, effect=effect),
            seed,
            progress=lambda done, what: progress.update(task, completed=done, description=what),
        )
    typer.echo(f"{patients} patients in {output}, {int(cohort.poor.sum())} with the poor outcome")
