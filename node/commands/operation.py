"""Commands of the one who runs the node: serve, check, status, conformance."""

import shutil
import signal
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import typer
from rich.console import Console
from rich.table import Table

from node.commands.options import ConfigOption, JsonOption, existing_ledger
from node.config import Config, load_config
from node.conformance import statement
from node.errors import DeliveryError, PeerRefused
from node.log import start_log
from node.scu import Scu
from node.storage import BYTES_PER_GIB
from node.view import counts


@dataclass(frozen=True)
class Checked:
    """One line of `rtnode check`."""

    what: str
    ok: bool
    result: str


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(serve)
    app.command()(check)
    app.command()(status)
    app.command()(conformance)


def serve(config: ConfigOption = None) -> None:
    """Run the node until SIGTERM or SIGINT."""
    from node.service import Node

    start_log()
    stop = threading.Event()

    def _on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, _on_signal)
    node = Node(load_config(config))
    try:
        node.start()
        stop.wait()
    finally:
        node.stop()


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check configuration, weights, disk and peers (C-ECHO); exit status 1 if a check fails."""
    settings = load_config(config)
    settings.loaded_pipelines()
    results = [Checked("configuration and weights", True, str(settings.folder)), _disk(settings)]
    results += [_peer(settings, name) for name in sorted(settings.peers)]
    _print_checks(results, as_json)
    if not all(one.ok for one in results):
        raise typer.Exit(1)


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say how many series, jobs and deliveries are in which state."""
    settings = load_config(config)
    ledger = existing_ledger(settings)
    found = counts(ledger)
    ledger.close()
    if as_json:
        Console().print_json(data=found)
        return
    table = Table("what", "state", "count")
    for what, states in found.items():
        for state, count in sorted(states.items()):
            table.add_row(what, state, str(count))
    Console().print(table)


def conformance() -> None:
    """Print the DICOM conformance statement, made from the tables that the code uses."""
    typer.echo(statement(), nl=False)


def _disk(settings: Config) -> Checked:
    folder = settings.node.state_dir
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free_gib = shutil.disk_usage(existing).free / BYTES_PER_GIB
    result = f"{free_gib:.1f} GiB free, the floor is {settings.node.min_free_gib:g} GiB"
    return Checked(f"disk of {Path(folder)}", free_gib >= settings.node.min_free_gib, result)


def _peer(settings: Config, name: str) -> Checked:
    peer = settings.peers[name]
    what = f"{name} ({peer.ae_title} at {peer.host}:{peer.port})"
    if "echo" not in peer.may:
        return Checked(what, True, "not asked: may not echo")
    try:
        Scu(settings.node.ae_title).echo(peer)
    except (DeliveryError, PeerRefused) as error:
        return Checked(what, False, str(error))
    return Checked(what, True, "answers C-ECHO")


def _print_checks(results: list[Checked], as_json: bool) -> None:
    if as_json:
        Console().print_json(data=[asdict(one) for one in results])
        return
    table = Table("check", "", "result")
    for one in results:
        table.add_row(one.what, "ok" if one.ok else "[red]fails[/red]", one.result)
    Console().print(table)
