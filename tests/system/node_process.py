"""A node as the operator runs it: `rtnode serve` in a process of its own, on a port that stays its own when it dies."""

import hashlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from pydicom import Dataset, dcmread

from node.config import Peer
from node.ledger import Ledger
from node.ledger.schema import DeliveryState, Instance, Job, JobState
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
CONSOLE = Peer(ae_title="CONSOLE", host="127.0.0.1", port=104, may=frozenset({"echo", "store"}))
ROLES = [{"role": "cbct", "all": {"Modality": "CT"}}, {"role": "structure_set", "all": {"Modality": "RTSTRUCT"}}]
START_S = 90.0
UNDER_WAY = {JobState.QUEUED, JobState.RUNNING, DeliveryState.QUEUED, DeliveryState.SENDING}


@dataclass
class NodeProcess:
    """One node; it can be killed and started again."""

    folder: Path
    peers: Mapping[str, Peer]
    pipelines: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    roles: list[dict[str, Any]] = field(default_factory=lambda: ROLES)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        # Bound but not listening: whoever connects while the node is dead is refused, and nobody else gets the port.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._reserved.getsockname()
        self._starts = 0
        self._write_config()

    @property
    def state_dir(self) -> Path:
        """Where the node keeps its files."""
        return self.folder / "state"

    def start(self) -> None:
        """Start the process; returns when it listens."""
        self._starts += 1
        log = self._log()
        with log.open("wb") as stderr:
            command = [sys.executable, "-m", "node", "serve", "--config", str(self.folder)]
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stderr=stderr, stdout=stderr)
        wait_until(self._listens_or_ended, START_S, f"the node listens: {log}")
        assert self.process.poll() is None, log.read_text()

    def kill(self) -> None:
        """SIGKILL, as a power failure would do it; its workers notice and end themselves."""
        assert self.process is not None
        workers = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive, "workers outlive the node"

    def stop(self) -> None:
        """SIGTERM; the node has to end in good order."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(timeout=60) == 0, self._log().read_text()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def close(self) -> None:
        """Stop, and give the port back."""
        try:
            self.stop()
        finally:
            self._reserved.close()

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The node's ledger, read beside it."""
        url = str(self.settings.get("ledger", f"sqlite:///{self.state_dir / 'ledger.sqlite3'}"))
        # Looked at many times a second while a test waits: migrating would be most of the work.
        ledger = Ledger(url, migrate=False)
        try:
            yield ledger
        finally:
            ledger.close()

    def command(self, *arguments: str) -> str:
        """What `rtnode` prints when it is called beside the node; AssertionError when it fails."""
        command = [sys.executable, "-m", "node", *arguments, "--config", str(self.folder)]
        run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """`rtnode`, called beside the node and not waited for."""
        command = [sys.executable, "-m", "node", *arguments, "--config", str(self.folder)]
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def jobs(self) -> list[Job]:
        """The jobs, the oldest first."""
        with self.ledger() as ledger:
            return ledger.jobs.all()[::-1]

    def wait_until_idle(self, deadline_s: float = 60.0) -> None:
        """Until no job and no delivery is under way."""
        with self.ledger() as ledger:
            wait_until(lambda: not UNDER_WAY & {*ledger.jobs.counts(), *ledger.deliveries.counts()}, deadline_s)

    def lost(self, acknowledged: Mapping[str, Dataset]) -> list[str]:
        """The acknowledged instances, by SOP Instance UID, that are not in ledger and storage as they were sent."""
        with self.ledger() as ledger:
            series = ledger.series.of_patient(next(iter(acknowledged.values())).PatientID) if acknowledged else []
            rows = {row.sop_instance_uid: row for one in series for row in ledger.series.instances(one.id)}
        return [uid for uid, sent in acknowledged.items() if not self._is_kept(rows.get(uid), sent)]

    def _is_kept(self, row: Instance | None, sent: Dataset) -> bool:
        if row is None or row.path is None:
            return False
        path = self.state_dir / row.path
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row.sha256:
            return False
        return bool(dcmread(path) == sent)

    def events(self) -> list[str]:
        """The log's lines since the last start, without their data."""
        return [json.loads(line)["event"] for line in self._log().read_text().splitlines() if line.startswith("{")]

    def _log(self) -> Path:
        return self.folder / f"log-{self._starts}.jsonl"

    def _listens_or_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or "listening" in self.events()

    def _write_config(self) -> None:
        (self.folder / "pipelines").mkdir(parents=True)
        node = {
            "port": self.address[1],
            "state_dir": str(self.state_dir),
            "web": None,
            "min_free_gib": 0,
            "settle": {"grace_s": 0.1, "quiet_s": 2.0},
            "delivery": {"first_wait_s": 0.2, "max_wait_s": 1.0},
            **self.settings,
        }
        peers = {name: peer.model_dump(mode="json") for name, peer in {"CONSOLE": CONSOLE, **self.peers}.items()}
        documents = {"node": node, "peers": peers, "roles": self.roles}
        documents |= {f"pipelines/{name}": pipeline for name, pipeline in self.pipelines.items()}
        for name, document in documents.items():
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(document))


@contextmanager
def node_process(
    folder: Path,
    peers: Mapping[str, Peer],
    pipelines: Mapping[str, Mapping[str, Any]],
    **changes: Any,
) -> Iterator[NodeProcess]:
    """A node that listens; it is stopped in good order at the end."""
    node = NodeProcess(folder, peers, pipelines, **changes)
    try:
        node.start()
        yield node
    finally:
        node.close()


def copying(*send_to: str, **changes: Any) -> dict[str, Any]:
    """The pipeline file of a node that copies every CT series."""
    return {
        "class": "pipelines.copy_series:CopySeries",
        "when": {"role": "cbct"},
        "send_to": list(send_to),
        **changes,
    }
