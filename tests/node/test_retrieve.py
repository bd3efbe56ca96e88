"""What a job lacks is fetched from real archives: dcmtk's dcmqrscp and Orthanc."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from node.config import Peer
from node.ledger.schema import Job, JobState
from node.retrieve import Retriever
from node.roles import RoleRule
from node.scu import Scu
from tests.ct import new_ct_series
from tests.dcmtk import dcmqrscp, free_port
from tests.dicom_files import structure_set
from tests.orthanc import orthanc
from tests.pacs import send
from tests.peers import PEERS, ROLES, RunningNode, config_folder, running_node
from tests.waiting import wait_until

PIPELINE = {"class": "tests.trials:CopyWithPlan", "when": {"role": "cbct"}}
MAY = {"echo", "store", "query", "retrieve"}
Archive = Callable[[Path], AbstractContextManager[tuple[RunningNode, Peer]]]


@pytest.fixture
def course() -> tuple[list[Dataset], list[Dataset], Dataset]:
    """A CBCT, the planning CT in the same Frame of Reference, and its structure set."""
    planning_ct = new_ct_series(patient_id="COURSE", SeriesDescription="planning")
    frame = planning_ct[0].FrameOfReferenceUID
    cbct = new_ct_series(patient_id="COURSE", SeriesDescription="CBCT", FrameOfReferenceUID=frame)
    return cbct, planning_ct, structure_set(planning_ct)


@contextmanager
def node_with(archive: Peer, folder: Path) -> Iterator[RunningNode]:
    peers: dict[str, Any] = {**PEERS, "ARCHIVE": archive.model_dump(mode="json")}
    with running_node(config_folder(folder, {}, peers, ROLES, {"copy": PIPELINE})) as node:
        yield node


@contextmanager
def with_dcmqrscp(folder: Path) -> Iterator[tuple[RunningNode, Peer]]:
    port = free_port()
    peer = Peer(ae_title="QRSCP", host="127.0.0.1", port=port, may=MAY)
    with node_with(peer, folder) as node, dcmqrscp(folder / "qrscp", node.address, port):
        yield node, peer


@contextmanager
def with_orthanc(folder: Path) -> Iterator[tuple[RunningNode, Peer]]:
    with orthanc({}) as archive, node_with(archive.peer(may=MAY), folder) as node:
        archive.know("node", "RTNODE", node.address)
        yield node, archive.peer()


@pytest.mark.parametrize("archive", [with_dcmqrscp, with_orthanc])
def test_a_job_runs_as_soon_as_the_archive_has_brought_what_it_lacks(
    archive: Archive, tmp_path: Path, course: tuple[list[Dataset], list[Dataset], Dataset]
) -> None:
    cbct, planning_ct, structures = course
    with archive(tmp_path) as (node, peer):
        send([*planning_ct, structures], (peer.host, peer.port), called=peer.ae_title)
        send(cbct, node.address)
        job = ended(node)
        assert (job.state, job.attempts) == (JobState.FINISHED, 1)
        roles = [(one.role, one.series_instance_uid, len(one.paths)) for one in node.node.ledger.jobs.inputs(job.id)]
    assert roles == [
        ("cbct", cbct[0].SeriesInstanceUID, 5),
        ("planning_ct", planning_ct[0].SeriesInstanceUID, 5),
        ("structure_set", structures.SeriesInstanceUID, 1),
    ]


def test_an_old_cbct_that_comes_with_the_prior_starts_nothing(
    tmp_path: Path, course: tuple[list[Dataset], list[Dataset], Dataset]
) -> None:
    cbct, planning_ct, structures = course
    old = new_ct_series(patient_id="COURSE", SeriesDescription="CBCT")
    with with_dcmqrscp(tmp_path) as (node, peer):
        send([*planning_ct, *old, structures], (peer.host, peer.port), called=peer.ae_title)
        send(cbct, node.address)
        trigger = ended(node).series_id
        ledger = node.node.ledger
        wait_until(lambda: ledger.series.counts() == {"settled": 4} and not ledger.series.unrouted(), 60)
        assert [job.series_id for job in ledger.jobs.all()] == [trigger]


def test_a_job_says_what_it_waits_for_while_the_archive_is_down(
    tmp_path: Path, course: tuple[list[Dataset], list[Dataset], Dataset]
) -> None:
    down = Peer(ae_title="QRSCP", host="127.0.0.1", port=free_port(), may=MAY)
    with node_with(down, tmp_path) as node:
        send(course[0], node.address)
        wait_until(lambda: node.node.ledger.jobs.all())
        (job,) = node.node.ledger.jobs.all()
    tie = "tied to it by Frame of Reference or reference (0 of 1 there)"
    assert job.state == JobState.WAITING
    assert job.reason == f"waits for planning_ct {tie} and structure_set {tie}"


def test_what_the_node_holds_already_is_not_asked_for(
    tmp_path: Path, course: tuple[list[Dataset], list[Dataset], Dataset]
) -> None:
    cbct, planning_ct, structures = course
    with with_dcmqrscp(tmp_path) as (node, peer):
        send([*cbct, *planning_ct, structures], (peer.host, peer.port), called=peer.ae_title)
        rules = [RoleRule.model_validate(role) for role in ROLES]
        retriever = Retriever({"ARCHIVE": peer.model_copy(update={"may": frozenset(MAY)})}, rules, Scu("RTNODE"))
        held = {cbct[0].SeriesInstanceUID, structures.SeriesInstanceUID}
        assert retriever.fetch("COURSE", ["planning_ct", "structure_set"], frozenset(held)) == 1
        assert retriever.fetch("SOMEBODY ELSE", ["planning_ct", "structure_set"], frozenset()) == 0
        assert node.settled(planning_ct[0]).role == "planning_ct"


def test_nobody_is_asked_who_may_not_be() -> None:
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=104, may=frozenset({"store", "query"}))
    assert not Retriever({"PACS": peer}, (), Scu("RTNODE")).has_peers


def ended(node: RunningNode) -> Job:
    def last() -> Job | None:
        return next(iter(node.node.ledger.jobs.all()), None)

    wait_until(lambda: (job := last()) is not None and job.state in (JobState.FINISHED, JobState.FAILED), 60)
    job = last()
    assert job is not None
    return job
