"""The command that makes up a research collection of prostate implants: phantom implant."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress


def implant(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the collection goes.")],
    patients: Annotated[int, typer.Option(min=2, max=9999)] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another cohort.")] = 0,
    effect: Annotated[
        float, typer.Option(min=0.0, help="Of the dose on the hazard of failure; 0 switches it off.")
    ] = 1.0,
    events: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Part of the patients who are expected to fail.")
    ] = 0.2,
) -> None:
    """Prostate implants of I-125 seeds: CT, structure set, plan and dose of every patient, with outcomes."""
    from models.simulated_implant import ImplantCohortSettings
    from pipelines.implant_phantom_study import write_implant_cohort

    settings = ImplantCohortSettings(patients=patients, effect=effect, event_part=events)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("implants", total=1.0)
        failures = write_implant_cohort(
            settings, output, seed, lambda done, what: progress.update(task, completed=done, description=what)
        )
    typer.echo(f"{patients} patients, {failures} with failure, in {output}")
