"""kill -9 of the node: nothing that it acknowledged is lost, and nothing arrives twice as two things."""

from pathlib import Path

from tests.pacs import Pacs, pacs
from tests.system.killing import Kill, attempt_started, stalling_pacs
from tests.system.node_process import copying, node_process
from tests.waiting import wait_until


def test_killed_while_it_receives(tmp_path: Path) -> None:
    with pacs() as peer, node_process(tmp_path / "node", {"PACS": peer.peer()}, {"copy": copying("PACS")}) as node:
        kill = Kill(node, peer)
        kill.at(lambda kill: wait_until(lambda: len(kill.sender.acknowledged) >= 15))
        assert kill.faults() == []


def test_killed_while_a_job_runs(tmp_path: Path) -> None:
    settings = {"folder": str(tmp_path), "trouble": "waits"}
    pipeline = copying("PACS", settings=settings) | {"class": "tests.trials:TrialCopy"}
    with pacs() as peer, node_process(tmp_path / "node", {"PACS": peer.peer()}, {"copy": pipeline}) as node:
        kill = Kill(node, peer)
        kill.at(attempt_started(tmp_path))
        assert kill.faults() == []
        assert [job.attempts for job in node.jobs()] == [2]


def test_killed_while_it_delivers(tmp_path: Path) -> None:
    with (
        stalling_pacs(taken_first=7) as peer,
        node_process(tmp_path / "node", {"PACS": peer.peer()}, {"copy": copying("PACS")}) as node,
    ):
        kill = Kill(node, peer)
        kill.at(lambda kill: wait_until(lambda: has_stalled(peer, 8)))
        assert kill.faults() == []
        assert len(peer.associations[0].datasets) == 8


def has_stalled(peer: Pacs, instance: int) -> bool:
    return bool(peer.associations) and len(peer.associations[0].datasets) == instance
