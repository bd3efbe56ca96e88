"""The node's loop: from the series that arrive to the results that peers have committed to."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.ledger import Ledger
from node.ledger.schema import DeliveryState, JobState
from tests.ct import new_ct_series
from tests.pacs import Commitment, Faults, Pacs, pacs, send
from tests.peers import PEERS, ROLES, RunningNode, config_folder, running_node
from tests.waiting import wait_until


def copying(*send_to: str) -> dict[str, Any]:
    return {"class": "pipelines.copy_series:CopySeries", "when": {"role": "planning_ct"}, "send_to": list(send_to)}


@contextmanager
def node_sending_to(folder: Path, *destinations: Pacs) -> Iterator[RunningNode]:
    peers = {**PEERS, **{one.ae_title: peer_settings(one) for one in destinations}}
    pipelines = {"copy": copying(*(one.ae_title for one in destinations))}
    with running_node(config_folder(folder, {}, peers, ROLES, pipelines)) as node:
        for one in destinations:
            one.report_to = node.address
        yield node


def peer_settings(one: Pacs) -> dict[str, Any]:
    return one.peer(commitment=True, may={"echo", "store"}).model_dump(mode="json")


def test_a_peer_commits_or_not_and_both_is_recorded(tmp_path: Path) -> None:
    with (
        pacs(ae_title="GIVES") as gives,
        pacs(Faults(commitment=Commitment.REFUSED), "REFUSES") as refuses,
        pacs(Faults(commitment=Commitment.NEVER_ANSWERED), "SILENT") as silent,
        node_sending_to(tmp_path, gives, refuses, silent) as node,
    ):
        send(new_ct_series(), node.address)
        expected = {"committed": 1, "failed": 1, "delivered": 1}
        wait_until(lambda: silent.commitment_requests and node.node.ledger.deliveries.counts() == expected)
        found = {one.peer: (one.state, one.reason) for one in node.node.ledger.deliveries.of_result(1)}
    assert found == {
        "GIVES": (DeliveryState.COMMITTED, None),
        "REFUSES": (DeliveryState.FAILED, "the peer does not commit to 1 instances"),
        "SILENT": (DeliveryState.DELIVERED, None),
    }


def test_a_series_that_comes_out_of_order_and_twice_makes_one_result(tmp_path: Path) -> None:
    series = new_ct_series(12)
    mixed = random.Random(1).sample([*series, *series], 24)
    silent = Faults(commitment=Commitment.NEVER_ANSWERED)
    with pacs(silent) as peer, node_sending_to(tmp_path, peer) as node:
        assert set(send(mixed, node.address)) == {0x0000}
        wait_until(lambda: len(peer.datasets) == 12)
        wait_until(lambda: peer.commitment_requests)
        assert len(node.instances(series[0])) == 12
    assert len(peer.sop_instance_uids) == 12
    assert [len(association.datasets) for association in peer.associations] == [12, 0]


def test_a_series_that_had_settled_when_the_node_died_is_routed_at_the_next_start(
    tmp_path: Path, scheduler: str
) -> None:
    config = config_folder(tmp_path, {"engine": scheduler}, PEERS, ROLES, {})
    series = new_ct_series()
    with running_node(config) as node:
        send(series, node.address)
        settled = node.settled(series[0])
    forget_routing(tmp_path / "state", settled.id)
    config = config_folder(tmp_path, {"engine": scheduler}, PEERS, ROLES, {"copy": copying()})
    with running_node(config) as node:
        wait_until(node.node.ledger.jobs.all)
        (job,) = node.node.ledger.jobs.all()
    assert (job.series_id, job.state) == (settled.id, JobState.QUEUED)


def forget_routing(state_dir: Path, series_id: int) -> None:
    """As if the node had died between settling and routing."""
    ledger = Ledger(f"sqlite:///{state_dir / 'ledger.sqlite3'}")
    row = ledger.series.get(series_id)
    row.revision -= 1
    ledger.series.routed(row)
    assert len(ledger.series.unrouted()) == 1
    ledger.close()


def test_a_sender_has_time_to_go_on_after_the_node_was_down(tmp_path: Path, scheduler: str) -> None:
    settle = {"grace_s": 0.05, "quiet_s": 600}
    config = config_folder(tmp_path, {"engine": scheduler, "settle": settle}, PEERS, ROLES, {})
    series = new_ct_series(12)
    with running_node(config) as node:
        send([*series[:4], *series[6:9]], node.address)
        wait_until(lambda: len(node.instances(series[0])) == 7)
    settle["quiet_s"] = 2.0
    config = config_folder(tmp_path, {"engine": scheduler, "settle": settle}, PEERS, ROLES, {})
    with running_node(config) as node:
        send(series, node.address)
        assert node.settled(series[0]).state == "settled"
        assert len(node.instances(series[0])) == 12
