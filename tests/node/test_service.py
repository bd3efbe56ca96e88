"""The node's loop: from the series that arrive to the results that peers have committed to."""

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node import service
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


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where the node tells systemd how it is (sd_notify(3))."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


def next_turn(node: RunningNode) -> None:
    """Wait until the service loop begins another round."""
    before_s = node.node._turned_s
    wait_until(lambda: node.node._turned_s != before_s)


def says_that_it_is_alive(node: RunningNode, systemd: socket.socket) -> bool:
    """What the watchdog hears now; a datagram on this machine is there as soon as it is sent."""
    systemd.setblocking(False)
    node.node._report_alive()
    try:
        return systemd.recv(64) == b"WATCHDOG=1"
    except BlockingIOError:
        return False


def test_systemd_hears_that_the_node_is_ready_and_then_that_it_is_alive(
    tmp_path: Path, scheduler: str, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    with running_node(config_folder(tmp_path, {"engine": scheduler}, PEERS, ROLES, {})):
        heard: set[bytes] = set()
        while heard != {b"READY=1", b"WATCHDOG=1"}:
            heard.add(systemd.recv(64))


def test_the_watchdog_hears_nothing_while_the_loop_does_not_turn(
    tmp_path: Path, scheduler: str, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_node(config_folder(tmp_path, {"engine": scheduler}, PEERS, ROLES, {})) as node:
        assert systemd.recv(64) == b"READY=1"
        assert says_that_it_is_alive(node, systemd)
        with node.node.ledger._database.write():
            # Whatever this round does, it does not get past the ledger.
            next_turn(node)
            later = SimpleNamespace(monotonic=lambda: time.monotonic() + service.LONGEST_ROUND_S)
            monkeypatch.setattr(service, "time", later)
            assert not says_that_it_is_alive(node, systemd)
        next_turn(node)
        assert says_that_it_is_alive(node, systemd)
