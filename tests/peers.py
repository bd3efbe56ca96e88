"""Real peers: programs of dcmtk, pynetdicom as requestor, a running node, a PostgreSQL server. Loopback only."""

import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
import yaml
from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, _config, build_context
from pynetdicom.association import Association

from node.config import load_config
from node.ledger.schema import Instance, Series
from node.service import Node
from node.sop_classes import TRANSFER_SYNTAXES, VERIFICATION
from tests.dicom_files import write
from tests.waiting import wait_until

Address = tuple[str, int]
Completed = subprocess.CompletedProcess[str]

POSTGRESQL_BIN = Path("/usr/lib/postgresql")
ROLES: list[dict[str, Any]] = [
    {"role": "structure_set", "all": {"Modality": "RTSTRUCT"}},
    {"role": "plan", "all": {"Modality": "RTPLAN"}},
    {"role": "dose", "all": {"Modality": "RTDOSE"}},
    {"role": "registration", "all": {"Modality": "REG"}},
    {"role": "cbct", "all": {"Modality": "CT", "SeriesDescription": {"glob": "*cbct*"}}},
    {"role": "planning_ct", "all": {"Modality": "CT"}},
]
PEERS: dict[str, dict[str, Any]] = {
    "CONSOLE": {"ae_title": "CONSOLE", "host": "127.0.0.1", "port": 104, "may": ["echo", "store"]},
    "VIEWER": {"ae_title": "VIEWER", "host": "127.0.0.1", "port": 104, "may": ["echo", "query"]},
    "ELSEWHERE": {"ae_title": "ELSEWHERE", "host": "192.0.2.1", "port": 104, "may": ["echo", "store"]},
}


def config_folder(
    folder: Path,
    node: Mapping[str, Any] | None = None,
    peers: Mapping[str, Any] | None = None,
    roles: Sequence[Mapping[str, Any]] | None = None,
    pipelines: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """A configuration folder with short waits and a free port; what is given goes on top, or in place of the lists."""
    settings = {
        "port": 0,
        "state_dir": str(folder / "state"),
        "web": None,
        "min_free_gib": 0,
        "settle": {"grace_s": 0.05, "quiet_s": 1.0},
        **(node or {}),
    }
    config = folder / "config"
    files = {"node": settings, "peers": PEERS if peers is None else peers, "roles": ROLES if roles is None else roles}
    files |= {f"pipelines/{name}": pipeline for name, pipeline in (pipelines or {}).items()}
    for name, content in files.items():
        path = config / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    return config


@dataclass(frozen=True)
class RunningNode:
    """A node in this process, and what one can see of it."""

    node: Node
    address: Address
    state_dir: Path

    def series(self, dataset: Dataset) -> Series:
        """The ledger's row of the dataset's series."""
        rows = self.node.ledger.series.of_patient(dataset.PatientID)
        return next(row for row in rows if row.series_instance_uid == dataset.SeriesInstanceUID)

    def settled(self, dataset: Dataset, revision: int = 1) -> Series:
        """The row as soon as the series has settled, whatever the outcome."""
        wait_until(lambda: self.has(dataset) and self.series(dataset).revision >= revision, what="the series settles")
        return self.series(dataset)

    def has(self, dataset: Dataset) -> bool:
        """Whether the ledger knows the dataset's series."""
        rows = self.node.ledger.series.of_patient(dataset.PatientID)
        return dataset.SeriesInstanceUID in {row.series_instance_uid for row in rows}

    def instances(self, dataset: Dataset) -> list[Instance]:
        """The instances of the dataset's series."""
        return self.node.ledger.series.instances(self.series(dataset).id)

    def stored(self, dataset: Dataset) -> bytes:
        """The file that holds the dataset."""
        paths = {row.sop_instance_uid: row.path for row in self.instances(dataset)}
        return (self.state_dir / str(paths[dataset.SOPInstanceUID])).read_bytes()

    def files(self, folder: str) -> list[Path]:
        """All files below a folder of the state."""
        return sorted(path for path in (self.state_dir / folder).rglob("*") if path.is_file())


@contextmanager
def running_node(config: Path) -> Iterator[RunningNode]:
    """A node in this process, from start to stop."""
    settings = load_config(config)
    node = Node(settings)
    address = node.start()
    try:
        yield RunningNode(node, address, settings.node.state_dir)
    finally:
        node.stop()


def echoscu(address: Address, *options: str, calling: str = "CONSOLE", called: str = "RTNODE") -> Completed:
    """C-ECHO by dcmtk."""
    return dcmtk("echoscu", "-v", "-aet", calling, "-aec", called, *options, address[0], str(address[1]))


def storescu(
    files: Sequence[Path], address: Address, *options: str, calling: str = "CONSOLE", called: str = "RTNODE"
) -> Completed:
    """C-STORE of files, over one association, by dcmtk."""
    return dcmtk(
        "storescu", "-v", "-aet", calling, "-aec", called, *options, address[0], str(address[1]), *map(str, files)
    )


def dcmtk(program: str, *arguments: str) -> Completed:
    """Run a program of dcmtk to its end; standard error goes into the output."""
    require_program(program)
    return subprocess.run(
        [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
    )


def require_program(program: str) -> None:
    """Skip the test where the program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@contextmanager
def associated(
    address: Address,
    contexts: Mapping[str, Sequence[str]],
    calling: str = "CONSOLE",
    called: str = "RTNODE",
    tls: ssl.SSLContext | None = None,
) -> Iterator[Association]:
    """An association of pynetdicom with the transfer syntaxes proposed for each SOP class, each by itself."""
    ae = AE(calling)
    ae.network_timeout = 30
    proposed = [build_context(UID(uid), syntax) for uid, syntaxes in contexts.items() for syntax in syntaxes]
    association = ae.associate(
        *address, contexts=proposed, ae_title=called, tls_args=(tls, "127.0.0.1") if tls else None
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def send_files(files: Sequence[Path], address: Address, calling: str = "CONSOLE") -> list[int]:
    """Send files byte for byte over one association, under the UIDs that their meta information says; the statuses."""
    metas = [read_file_meta_info(path) for path in files]
    contexts: dict[str, list[str]] = {}
    for meta in metas:
        syntaxes = contexts.setdefault(meta.MediaStorageSOPClassUID, [])
        if meta.TransferSyntaxUID not in syntaxes:
            syntaxes.append(meta.TransferSyntaxUID)
    with associated(address, contexts, calling) as association:
        assert association.is_established, "the node does not accept the association"
        return [stored(association, path) for path in files]


def stored(association: Association, file: Path) -> int:
    """Send one file byte for byte; the status, -1 without an answer."""
    with patch.object(_config, "STORE_SEND_CHUNKED_DATASET", True):
        return int(association.send_c_store(file).get("Status", -1))


def send_encoded(files: Sequence[bytes], folder: Path, address: Address, calling: str = "CONSOLE") -> list[int]:
    """Send Part-10 files that lie in memory."""
    return send_files(write(files, Path(tempfile.mkdtemp(dir=folder))), address, calling)


def echo_status(address: Address, calling: str = "CONSOLE", called: str = "RTNODE") -> int | None:
    """C-ECHO by pynetdicom; None when the association is rejected."""
    with associated(address, {VERIFICATION: TRANSFER_SYNTAXES[:1]}, calling, called) as association:
        return int(association.send_c_echo().Status) if association.is_established else None


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A new PostgreSQL server on a socket of its own; the URL of its first database."""
    programs = max(POSTGRESQL_BIN.glob("*/bin"), default=None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="rtnode-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "nobody", "nogroup")
        as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    initdb: list[Path | str] = [
        programs / "initdb",
        "-D",
        folder / "data",
        "-U",
        "rtnode",
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
    ]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **as_user)
    command: list[Path | str] = [
        programs / "postgres",
        "-D",
        folder / "data",
        "-k",
        folder,
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **as_user)
    try:
        ready: list[Path | str] = [programs / "pg_isready", "-q", "-h", folder]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, what="PostgreSQL takes connections")
        yield f"postgresql+psycopg://rtnode@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed again
        server.wait(timeout=30)
        shutil.rmtree(folder)


def new_database(server_url: str) -> str:
    """URL of an empty schema of its own, which is all that a ledger sees, and far cheaper than a database."""
    name = f"test_{uuid.uuid4().hex}"
    host = server_url.partition("host=")[2]
    with psycopg.connect(f"user=rtnode dbname=postgres host={host}", autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{server_url}&options=-csearch_path%3D{name}"
