"""Commands that make patients up, and projections of them or of a CT: phantom headneck, pelvis, course, projections.

What makes them is imported by the command that does: it takes seconds.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from node.commands.phantom_head import head
from node.commands.phantom_implant import implant
from node.errors import NodeError
from node.folder import series_of

OutputOption = Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the DICOM files go.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Another seed is another patient.")]
MatrixOption = Annotated[int, typer.Option(min=32, max=1024, help="Rows and columns of the images.")]
SlicesOption = Annotated[int, typer.Option(min=3, max=400)]
FractionsOption = Annotated[int, typer.Option(min=0, max=40)]

_LEAST_PHOTONS = 100.0
"""With fewer the noise of the readout alone would make negative counts that no reader takes."""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="Write a made-up patient, or projections of a CT.", no_args_is_help=True)
    group.command()(headneck)
    group.command()(pelvis)
    group.command()(course)
    group.command()(projections)
    group.command()(head)
    group.command()(implant)
    app.add_typer(group, name="phantom")


def headneck(
    output: OutputOption,
    seed: SeedOption = 0,
    matrix: MatrixOption = 128,
    slices: SlicesOption = 40,
    fractions: FractionsOption = 4,
) -> None:
    """Head and neck: planning CT, structure set, plan, dose, and the MVCT of some fractions."""
    _write_study("headneck", output, seed, matrix, slices, fractions)


def pelvis(
    output: OutputOption,
    seed: SeedOption = 0,
    matrix: MatrixOption = 128,
    slices: SlicesOption = 40,
    fractions: FractionsOption = 4,
) -> None:
    """Male pelvis: planning CT and MR, structure set, plan, dose, and the CBCT of some fractions."""
    _write_study("pelvis", output, seed, matrix, slices, fractions)


def course(
    output: OutputOption,
    patients: Annotated[
        int, typer.Option(min=1, max=5000, help="A cohort with outcomes; one is a patient to send.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is other patients.")] = 0,
    effect: Annotated[
        float, typer.Option(help="Logarithm of the hazard ratio for one SD of the response to treatment; 0: none.")
    ] = 1.0,
) -> None:
    """Chest tumours under treatment: planning CT, GTV, five CBCT, records and outcomes, as a research collection."""
    from models.simulated_response import ResponseSettings
    from pipelines.course_phantom import write_courses

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("course", total=1.0)
        write_courses(
            output,
            patients,
            seed,
            ResponseSettings(effect=effect),
            progress=lambda done, what: progress.update(task, completed=done, description=what),
        )
    typer.echo(f"{patients} patients in {output}")


def projections(
    output: OutputOption,
    ct: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with a CT series; else a made-up head and neck, written beside them."),
    ] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="Which CT, where the folder has several.")] = None,
    slices: Annotated[
        str | None, typer.Option(metavar="FROM:TO", help="Only these, from 0 at the feet, TO left out; else all.")
    ] = None,
    geometry: Annotated[
        str, typer.Option(help="fan: a turn for each slice. parallel: half a turn, all slices in a view.")
    ] = "fan",
    views: Annotated[int, typer.Option(min=2, max=20_000, help="Of each turn, or half turn.")] = 80,
    photons: Annotated[
        float,
        typer.Option(min=_LEAST_PHOTONS, help="On each detector element in each view; inf: no noise."),
    ] = 1e5,
    water: Annotated[
        float,
        typer.Option(min=0.003, max=0.1, help="Attenuation of water, 1/mm; 0.00716 is that of 1 MeV."),
    ] = 0.0193,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is other noise, and another made-up patient.")] = 0,
) -> None:
    """Few-view projections of a CT (DICOM-CT-PD), a file for each view; same options, same files."""
    if ct is None and series is not None:
        raise typer.BadParameter("it chooses among those of --ct", param_hint="--series")
    from models.scan_simulation import Exposure
    from pipelines.dicom.image_series import read_image_series
    from pipelines.phantom_study import Kind, write_planning_ct
    from pipelines.projection_phantom import RayKind, SimulatedScanner, write_projections

    scanner = SimulatedScanner(
        rays=RayKind(_known_geometry(geometry)),
        views=views,
        exposure=Exposure(photons=photons, water_per_mm=water),
        seed=seed,
        slices=_slice_range(slices),
    )
    paths = write_planning_ct(Kind.HEADNECK, output, seed=seed) if ct is None else _ct_paths(ct, series)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=1.0)
        written = write_projections(
            read_image_series(paths),
            scanner,
            output / "projections",
            lambda done, what: progress.update(task, completed=done, description=what),
        )
    typer.echo(f"{len(written)} views in {output / 'projections'}")


def _write_study(kind: str, output: Path, seed: int, matrix: int, slices: int, fractions: int) -> None:
    from pipelines.phantom_study import Kind, PhantomSize, write_phantom

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("phantom", total=1.0)
        write_phantom(
            Kind(kind),
            output,
            seed=seed,
            size=PhantomSize(matrix=matrix, slices=slices, fractions=fractions),
            progress=lambda done, what: progress.update(task, completed=done, description=what),
        )
    typer.echo(f"{sum(1 for path in output.rglob('*.dcm'))} files in {output}")


def _known_geometry(word: str) -> str:
    if word == "cone":
        raise typer.BadParameter(
            "cone-beam projections are not made, as none are reconstructed", param_hint="--geometry"
        )
    if word not in ("fan", "parallel"):
        raise typer.BadParameter(f"{word!r} is neither fan nor parallel", param_hint="--geometry")
    return word


def _slice_range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    words = text.split(":")
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise typer.BadParameter(f"{text!r} is not two numbers of slices, as 20:24", param_hint="--slices")
    return int(words[0]), int(words[1])


def _ct_paths(folder: Path, series_instance_uid: str | None) -> tuple[Path, ...]:
    found = [one for one in series_of(folder, ()) if one.modality == "CT"]
    chosen = [one for one in found if series_instance_uid in (None, one.known.series_instance_uid)]
    if len(chosen) == 1:
        return chosen[0].paths
    if series_instance_uid is not None:
        raise NodeError(f"{folder} has no CT series {series_instance_uid}")
    several = ", ".join(one.known.series_instance_uid for one in found)
    raise NodeError(
        f"{folder} has several CT series, choose with --series: {several}" if found else f"{folder} has no CT"
    )
