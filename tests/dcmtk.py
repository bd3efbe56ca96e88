"""Servers of dcmtk: storescp that takes everything, dcmqrscp that can be asked; on loopback, each on a free port."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from node.config import Peer
from tests.peers import require_program
from tests.waiting import wait_until


@dataclass(frozen=True)
class Server:
    """A running server and the folder in which it stores."""

    ae_title: str
    port: int
    folder: Path

    def peer(self, **changes: Any) -> Peer:
        """The server as the node's configuration has it."""
        return Peer(ae_title=self.ae_title, host="127.0.0.1", port=self.port, **changes)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    def datasets(self) -> list[Dataset]:
        """Everything that it has stored."""
        return [dcmread(path) for path in sorted(self.folder.iterdir()) if path.name != "index.dat"]


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Server]:
    """A storescp that keeps what it gets bit by bit."""
    folder.mkdir()
    server = Server("STORESCP", free_port(), folder)
    arguments = ["--aetitle", server.ae_title, "--output-directory", str(folder), "+B", *options, str(server.port)]
    with _running("storescp", arguments, server):
        yield server


@contextmanager
def dcmqrscp(folder: Path, destination: tuple[str, int], port: int | None = None) -> Iterator[Server]:
    """A dcmqrscp that stores, finds, and moves to the node."""
    folder.mkdir()
    server = Server("QRSCP", port or free_port(), folder)
    configuration = folder.parent / "dcmqrscp.cfg"
    configuration.write_text(
        f"""
NetworkTCPPort = {server.port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
node = (RTNODE, {destination[0]}, {destination[1]})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {folder} RW (9, 1024mb) ANY
AETable END
"""
    )
    with _running("dcmqrscp", ["--config", str(configuration)], server):
        yield server


@contextmanager
def _running(program: str, arguments: list[str], server: Server) -> Iterator[None]:
    require_program(program)
    with server.folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        wait_until(lambda: _listens(server) or process.poll() is not None, what=f"{program} listens")
        assert process.poll() is None, server.folder.with_suffix(".log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _listens(server: Server) -> bool:
    with socket.socket() as one:
        return one.connect_ex(server.address) == 0


def free_port() -> int:
    """These programs can not say which port they took, so one is looked for just before they start."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
