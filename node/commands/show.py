"""The command that shows everything at once: demo."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from node.commands.options import ConfigOption
from node.config import embedded_config
from node.log import start_log


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(demo)


def demo(
    source: Annotated[
        Path | None, typer.Option("--input", metavar="DIR", help="Your own DICOM files, instead of made-up patients.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where files and pictures go.")] = Path(
        "demo-output"
    ),
    config: ConfigOption = None,
) -> None:
    """Do everything once on this machine: a console, the node, a TPS and a PACS; exit status 0 if all went well."""
    from node.demo.course import run_course
    from node.demo.report import print_tables, write_page

    start_log("ERROR")
    console = Console()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("demo", total=1.0)

        def tell(done: float, what: str) -> None:
            progress.update(task, completed=done, description=what)

        settings = embedded_config(config)
        told = run_course(settings, source or _made_up(output / "input"), output, tell)
    print_tables(told, console)
    write_page(told, output / "index.html")
    console.print(f"pictures and findings: {output / 'index.html'}")
    if not told.is_good:
        raise typer.Exit(1)


def _made_up(folder: Path) -> Path:
    from pipelines.phantom_study import Kind, write_phantom

    shutil.rmtree(folder, ignore_errors=True)
    for kind in Kind:
        write_phantom(kind, folder / kind.value)
    return folder
