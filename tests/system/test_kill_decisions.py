"""kill -9 around a person's decision: a held result reaches nobody, a released one its peer, a rejected one nobody."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from node.errors import NodeError
from node.ledger.schema import Result
from tests.ct import new_ct_series
from tests.pacs import Pacs
from tests.system.killing import Sender, stalling_pacs
from tests.system.node_process import REPOSITORY, NodeProcess, copying, node_process
from tests.waiting import wait_until

SLICES = 5
RELEASED, REJECTED = 1, 2
"""Ids of the two results."""


@pytest.mark.req("NODE-06")
def test_decisions_survive_the_death_of_the_node_and_of_the_command_at_each_step(
    scheduler: str, tmp_path: Path
) -> None:
    pipeline = copying("PACS") | {"class": "tests.trials:HeldCopy"}
    with (
        stalling_pacs(taken_first=2) as peer,
        node_process(tmp_path / "node", {"PACS": peer.peer()}, {"held": pipeline}) as node,
    ):
        for number in (RELEASED, REJECTED):
            Sender(new_ct_series(SLICES, patient_id=f"MADE-{number}"), node.address).send()
        with node.ledger() as ledger:
            wait_until(lambda: ledger.decisions.counts() == {"held": 2}, what="the results are held")

        node.kill()
        without_workers(node, scheduler)
        die_deciding(node, "before", "release", RELEASED)
        die_deciding(node, "before", "reject", REJECTED)
        node.start()
        node.wait_until_idle()
        assert (states(node), peer.associations) == (["held", "held"], [])

        die_deciding(node, "after", "reject", REJECTED)
        node.kill()
        die_deciding(node, "after", "release", RELEASED)
        assert (states(node), peer.associations) == (["released", "rejected"], [])
        node.start()
        wait_until(lambda: has_begun(peer), what="the released result is sent")
        node.kill()
        peer.go_on.set()
        node.start()
        node.wait_until_idle()
        node.kill()
        assert delivered(node) == peer.sop_instance_uids
        assert_nothing_is_left_to_do(node)


def without_workers(node: NodeProcess, scheduler: str) -> None:
    """No job is left to run; a node that starts none of its own workers starts sooner."""
    path = node.folder / "node.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"engine": scheduler}))


def die_deciding(node: NodeProcess, point: str, word: str, result_id: int) -> None:
    """A person decides, and the command is killed before or after its commit."""
    arguments = [word, str(result_id), "--by", "Ohta", "--why", "compared", "--config", str(node.folder)]
    command = [sys.executable, "-m", "tests.system.killed_command", point, *arguments]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert (run.returncode, run.stdout) == (-signal.SIGKILL, ""), run.stderr


def has_begun(peer: Pacs) -> bool:
    return bool(peer.associations) and len(peer.associations[0].datasets) == 3


def results(node: NodeProcess) -> list[Result]:
    with node.ledger() as ledger:
        found = [ledger.jobs.result_of(job.id) for job in node.jobs()]
    return [result for result in found if result]


def states(node: NodeProcess) -> list[str]:
    return [str(result.state) for result in results(node)]


def delivered(node: NodeProcess) -> set[str]:
    """SOP Instance UIDs of the result that was released, all of them."""
    with node.ledger() as ledger:
        instances = ledger.jobs.result_instances(RELEASED)
    assert len(instances) == SLICES
    return {instance.sop_instance_uid for instance in instances}


def assert_nothing_is_left_to_do(node: NodeProcess) -> None:
    """What a next start would take up: no delivery; and each result was decided on once, for good."""
    with node.ledger() as ledger:
        assert (ledger.deliveries.recover(), ledger.deliveries.claim_due([])) == (0, [])
        decisions = {number: ledger.events.of(f"result/{number}")[1:] for number in (RELEASED, REJECTED)}
        assert [(one.what, one.who) for one in decisions[RELEASED]] == [("result released", "Ohta")]
        assert [(one.what, one.who) for one in decisions[REJECTED]] == [("result rejected", "Ohta")]
        with pytest.raises(NodeError, match="is not held, but rejected"):
            ledger.decisions.release(REJECTED, "Sato", "looks fine", lambda _: ["PACS"])
        assert ledger.events.first_broken() is None
