"""The course of the demonstration: send, wait, and tell what came of it."""

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from node.config import Config, Peer, Web
from node.demo.peers import ReceivingPeer
from node.folder import FolderSeries, outgoing, series_of
from node.ledger import Ledger
from node.ledger.schema import DeliveryState, JobState, SeriesState
from node.scu import Scu
from node.service import Node
from node.view import full_record
from pipelines.base import Progress
from pipelines.organ_pictures import organs_on_images
from pipelines.pictures import Picture, before_and_after, result_alone

CONSOLE_AE_TITLE = "CONSOLE"
LOOK_EVERY_S = 0.2
QUIET_S = 1.5
"""Only when nothing was under way for so long is it over."""
LONGEST_S = 1800.0
TEMPLATE = "copy_series"
"""Name of the pipeline that shows the way, which is off otherwise."""


@dataclass(frozen=True)
class Arrived:
    """A series that was sent to the node, and what the node made of it."""

    role: str
    modality: str
    instances: int
    state: str
    reason: str


@dataclass(frozen=True)
class Told:
    """Everything that the demonstration has to tell."""

    arrived: list[Arrived]
    jobs: list[dict[str, Any]]
    received: Mapping[str, int]
    pictures: list[Picture]
    is_good: bool


def run_course(config: Config, input_dir: Path, output: Path, progress: Progress) -> Told:
    """Start node, TPS and PACS, send every series of `input_dir`, wait until nothing is under way, and look.

    Raises
    ------
    node.errors.NodeError
        If the folder has no DICOM, or an association fails.
    """
    state_dir = output / "state"
    shutil.rmtree(state_dir, ignore_errors=True)
    series = series_of(input_dir, config.roles)
    with _peers(config, output / "received") as peers, _node(_on_free_ports(config, peers, state_dir)) as running:
        node, port = running
        _send(series, Peer(ae_title=config.node.ae_title, host="127.0.0.1", port=port), progress)
        wait_until_idle(node.ledger, progress)
        return _told(node.ledger, state_dir, output / "pictures", peers)


@contextmanager
def _peers(config: Config, folder: Path) -> Iterator[dict[str, tuple[ReceivingPeer, int]]]:
    """One simulated peer for each that a pipeline sends to."""
    shutil.rmtree(folder, ignore_errors=True)
    names = sorted({name for pipeline in config.pipelines.values() for name in pipeline.send_to})
    started = {name: ReceivingPeer(config.peers[name].ae_title, folder / name) for name in names}
    try:
        yield {name: (peer, peer.start()) for name, peer in started.items()}
    finally:
        for peer in started.values():
            peer.stop()


@contextmanager
def _node(config: Config) -> Iterator[tuple[Node, int]]:
    node = Node(config)
    _, port = node.start()
    try:
        yield node, port
    finally:
        node.stop()


def _on_free_ports(config: Config, peers: Mapping[str, tuple[ReceivingPeer, int]], state_dir: Path) -> Config:
    """The site's configuration, moved to a state folder of its own and to this machine."""
    told = {
        name: config.peers[name].model_copy(
            update={"host": "127.0.0.1", "port": port, "tls": None, "commitment": False}
        )
        for name, (_, port) in peers.items()
    }
    console = Peer(ae_title=CONSOLE_AE_TITLE, host="127.0.0.1", port=0, may=frozenset({"echo", "store"}))
    node = config.node.model_copy(
        update={
            "bind": "127.0.0.1",
            "port": 0,
            "state_dir": state_dir,
            "ledger": "sqlite",
            "engine": "local",
            "tls": None,
            "web": Web(port=0),
            "min_free_gib": 0.0,
        }
    )
    # The template is switched on as well: it shows the whole way for what has no model yet.
    pipelines = {
        name: one.model_copy(update={"enabled": one.enabled or name == TEMPLATE})
        for name, one in config.pipelines.items()
    }
    return Config(config.folder, node, {**told, "CONSOLE": console}, config.roles, pipelines)


def _send(series: list[FolderSeries], node: Peer, progress: Progress) -> None:
    scu = Scu(CONSOLE_AE_TITLE)
    for number, one in enumerate(series, start=1):
        scu.send(node, [outgoing(path)[1] for path in one.paths], lambda sent, status: None)
        progress(0.3 * number / len(series), f"sent {number} of {len(series)} series")


def wait_until_idle(ledger: Ledger, progress: Progress) -> None:
    """Until nothing is received, run or sent any more; jobs that wait for something do not count."""
    never = threading.Event()
    busy_at = started = monotonic()
    while monotonic() < started + LONGEST_S:
        left, jobs = under_way(ledger), ledger.jobs.counts()
        done = jobs.get(JobState.FINISHED.value, 0)
        progress(0.3 + 0.7 * done / max(1, sum(jobs.values())), f"{left} under way")
        if left:
            busy_at = monotonic()
        elif monotonic() > busy_at + QUIET_S:
            # Only a look at the ledger ends it: on a busy machine the next one may come long after the last.
            return
        never.wait(LOOK_EVERY_S)


def under_way(ledger: Ledger) -> int:
    """How many series, jobs and deliveries are not at their end."""
    # In the order in which one becomes the next: what moves on while the ledger is read is counted once at least.
    series = ledger.series.counts().get(SeriesState.RECEIVING.value, 0) + len(ledger.series.unrouted())
    jobs, deliveries = ledger.jobs.counts(), ledger.deliveries.counts()
    running = sum(jobs.get(state.value, 0) for state in (JobState.QUEUED, JobState.RUNNING))
    sending = sum(deliveries.get(state.value, 0) for state in (DeliveryState.QUEUED, DeliveryState.SENDING))
    return series + running + sending


def _told(ledger: Ledger, state_dir: Path, pictures_dir: Path, peers: Mapping[str, tuple[ReceivingPeer, int]]) -> Told:
    jobs = [full_record(ledger, job.id) for job in reversed(ledger.jobs.all())]
    received = {name: len(peer.files()) for name, (peer, _) in peers.items()}
    failed = any(job["state"] == JobState.FAILED or _has_failed_delivery(job) for job in jobs)
    return Told(
        arrived=_arrived(ledger),
        jobs=jobs,
        received=received,
        pictures=list(_pictures(ledger, state_dir, pictures_dir, jobs)),
        is_good=bool(jobs) and not failed and any(received.values()),
    )


def _has_failed_delivery(job: Mapping[str, Any]) -> bool:
    return any(delivery["state"] == DeliveryState.FAILED for delivery in job["deliveries"])


def _arrived(ledger: Ledger) -> list[Arrived]:
    found = [
        Arrived(one.role or "", one.modality, len(ledger.series.instances(one.id)), one.state, one.reason or "")
        for one in ledger.series.all()
    ]
    return sorted(found, key=lambda one: (one.modality, one.role))


def _pictures(ledger: Ledger, state_dir: Path, pictures_dir: Path, jobs: list[dict[str, Any]]) -> Iterator[Picture]:
    shutil.rmtree(pictures_dir, ignore_errors=True)
    for job in jobs:
        if job["result"] is None:
            continue
        trigger = ledger.jobs.inputs(job["id"])[0]
        before = [state_dir / path for path in trigger.paths]
        made = ledger.jobs.result_instances(job["result"]["id"])
        after = [state_dir / one.path for one in made if one.modality == "CT"]
        organs = [state_dir / one.path for one in made if one.modality == "SEG"]
        title, png = f"job {job['id']}: {job['pipeline']}", pictures_dir / f"job_{job['id']}.png"
        if organs:
            yield organs_on_images(before, organs[0], png, title)
        elif after:
            is_image = trigger.role != "projections"
            yield before_and_after(before, after, png, title) if is_image else result_alone(after, png, title)
