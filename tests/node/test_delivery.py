"""The outbox: every series of a released result reaches its peers once, whatever they do."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node.config import DeliveryWaits, Peer
from node.delivery import Outbox, waiting_time_s
from node.ledger.schema import Delivery, DeliveryState
from node.scu import Scu
from pipelines.stability import Verdict
from tests.node.released import Released
from tests.pacs import Commitment, Faults, Pacs, Rejection, pacs
from tests.pipelines.made import ct_series
from tests.waiting import wait_until

UIDS = {str(dataset.SOPInstanceUID) for dataset in ct_series()}
QUICK = DeliveryWaits(first_wait_s=0.05, max_wait_s=0.2)
AT_ONCE = DeliveryWaits(commit_within_h=1e-9)
MakeOutbox = Callable[..., Outbox]


@pytest.fixture
def released(tmp_path: Path) -> Iterator[Released]:
    one = Released(tmp_path, committing_peers=("COMMITTING",))
    yield one
    one.ledger.close()


@pytest.fixture
def outbox(released: Released) -> Iterator[MakeOutbox]:
    made: list[Outbox] = []

    def make(peers: Mapping[str, Peer], waits: DeliveryWaits = QUICK) -> Outbox:
        made.append(Outbox(released.ledger, released.storage, peers, waits, Scu("RTNODE"), lambda: None))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def work_until(outbox: Outbox, condition: Callable[[], object]) -> None:
    """Let the outbox work as the node's loop does, until the condition holds."""

    def holds() -> object:
        outbox.start_due()
        return condition()

    wait_until(holds)


def until(outbox: Outbox, released: Released, delivery: Delivery, *states: DeliveryState) -> Delivery:
    work_until(outbox, lambda: released.delivery(delivery).state in states)
    return released.delivery(delivery)


def settled(outbox: Outbox, released: Released, delivery: Delivery) -> Delivery:
    return until(outbox, released, delivery, DeliveryState.DELIVERED, DeliveryState.FAILED, DeliveryState.COMMITTED)


@pytest.mark.req("NODE-07")
def test_a_released_result_is_delivered_with_proof_for_every_instance(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs(Faults(statuses=[0x0000, 0xB000, 0xB006, 0xB007])) as peer:
        done = settled(outbox({"PACS": peer.peer()}), released, delivery)
        assert (done.state, done.attempts, done.reason) == (DeliveryState.DELIVERED, 1, None)
        assert [one.sop_instance_uids for one in peer.associations] == [[str(d.SOPInstanceUID) for d in ct_series()]]
    proofs = released.ledger.deliveries.proofs(delivery.id)
    assert [proofs[key] for key in sorted(proofs)] == [0x0000, 0xB000, 0xB006, 0xB007, 0x0000]


def test_out_of_resources_is_tried_again_until_everything_is_there(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs(Faults(statuses=[0x0000, 0xA700, 0xA700])) as peer:
        done = settled(outbox({"PACS": peer.peer()}), released, delivery)
        assert (done.state, done.attempts) == (DeliveryState.DELIVERED, 3)
        assert peer.associations[-1].sop_instance_uids == [str(dataset.SOPInstanceUID) for dataset in ct_series()]
    assert set(released.ledger.deliveries.proofs(delivery.id).values()) == {0x0000}


def test_the_status_that_stopped_an_attempt_is_kept(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs(Faults(statuses=[0x0000, 0xC000])) as peer:
        done = settled(outbox({"PACS": peer.peer()}), released, delivery)
    assert (done.state, done.attempts) == (DeliveryState.FAILED, 1)
    assert done.reason == "the peer refused an instance with status 0xC000"
    assert sorted(released.ledger.deliveries.proofs(delivery.id).values()) == [0x0000, 0xC000]


@pytest.mark.parametrize(
    ("faults", "state"),
    [
        (Faults(statuses=[0x0122]), DeliveryState.FAILED),
        (Faults(rejections=[Rejection.PERMANENT]), DeliveryState.FAILED),
        (Faults(rejections=[Rejection.TRANSIENT] * 2), DeliveryState.DELIVERED),
        (Faults(abort_after=[3, 0]), DeliveryState.DELIVERED),
    ],
)
@pytest.mark.req("NODE-07")
def test_only_what_may_pass_is_tried_again(
    released: Released, outbox: MakeOutbox, faults: Faults, state: DeliveryState
) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs(faults) as peer:
        done = settled(outbox({"PACS": peer.peer()}), released, delivery)
    assert (done.state, done.attempts) == (state, 1 if state is DeliveryState.FAILED else 3)


def test_after_an_abort_the_whole_series_comes_again_in_one_association(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs(Faults(abort_after=[2])) as peer:
        settled(outbox({"PACS": peer.peer()}), released, delivery)
        first, second = peer.associations
    assert (first.sop_instance_uids, first.ending) == (second.sop_instance_uids[:2], "aborted")
    assert set(second.sop_instance_uids) == UIDS


def test_a_peer_that_was_down_gets_everything_when_it_is_up(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    peer = Pacs()
    sender = outbox({"PACS": peer.peer()})
    work_until(sender, lambda: released.delivery(delivery).attempts >= 2)
    peer.start()
    done = settled(sender, released, delivery)
    assert done.state == DeliveryState.DELIVERED
    assert sorted(str(dataset.SOPInstanceUID) for dataset in peer.datasets) == sorted(UIDS)
    peer.close()


@pytest.mark.parametrize(("attempt", "wait_s"), [(1, 10), (2, 20), (3, 40), (8, 1280), (9, 1800), (500, 1800)])
@pytest.mark.req("NODE-07")
def test_the_waits_double_up_to_half_an_hour(attempt: int, wait_s: float) -> None:
    assert waiting_time_s(attempt, DeliveryWaits()) == wait_s


def test_the_next_attempt_is_not_before_its_time(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs(Faults(statuses=[0xA700])) as peer:
        sender = outbox({"PACS": peer.peer()}, DeliveryWaits(first_wait_s=600))
        before = datetime.now(UTC)
        work_until(sender, lambda: released.delivery(delivery).reason)
    assert released.delivery(delivery).next_attempt_at - before >= timedelta(seconds=600)


def test_what_can_not_be_delivered_in_time_is_given_up(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    peer = Pacs()
    sender = outbox({"PACS": peer.peer()}, QUICK.model_copy(update={"give_up_after_h": 0.3 / 3600}))
    done = settled(sender, released, delivery)
    peer.close()
    assert done.state == DeliveryState.FAILED
    assert done.reason is not None and done.reason.startswith("given up after")
    assert "can not be reached" in done.reason


def test_a_failed_delivery_that_a_person_retries_is_as_new(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs(Faults(statuses=[0xC000])) as peer:
        sender = outbox({"PACS": peer.peer()})
        assert settled(sender, released, delivery).state == DeliveryState.FAILED
        assert released.ledger.deliveries.retry(delivery.id, "A. Person")
        done = settled(sender, released, delivery)
        assert (done.state, done.attempts) == (DeliveryState.DELIVERED, 1)
        assert peer.sop_instance_uids == UIDS
    assert not released.ledger.deliveries.retry(delivery.id, "A. Person")


def test_a_peer_that_stalls_keeps_no_other_waiting(released: Released, outbox: MakeOutbox) -> None:
    stalled, delivered = released.result({"CT": ["SLOW", "PACS"]})
    with pacs(Faults(stalls=[True]), ae_title="SLOW") as slow, pacs() as peer:
        sender = outbox({"SLOW": slow.peer(), "PACS": peer.peer()})
        assert settled(sender, released, delivered).state == DeliveryState.DELIVERED
        assert released.delivery(stalled).state == DeliveryState.SENDING
        slow.go_on.set()
        assert settled(sender, released, stalled).state == DeliveryState.DELIVERED


def test_a_held_result_goes_nowhere(released: Released) -> None:
    assert released.result({"CT": ["PACS"]}, Verdict.HOLD) == []


def test_a_peer_gets_only_the_modalities_that_it_receives(released: Released) -> None:
    peers = {
        "TPS": Peer(ae_title="TPS", host="tps", port=104, receives=frozenset({"RTSTRUCT"})),
        "PACS": Peer(ae_title="PACS", host="pacs", port=104),
    }
    deliveries = released.result({"CT": [name for name, peer in peers.items() if peer.takes("CT")]})
    assert [delivery.peer for delivery in deliveries] == ["PACS"]


def test_a_delivery_to_a_peer_that_left_the_configuration_waits_for_a_person(
    released: Released, outbox: MakeOutbox
) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    done = settled(outbox({}), released, delivery)
    assert (done.state, done.reason) == (DeliveryState.FAILED, "the configuration has no peer PACS")


def test_a_file_that_is_gone_is_tried_again_later(released: Released, outbox: MakeOutbox) -> None:
    lost, other = released.result({"CT": ["LOST", "PACS"]})
    gone = released.ledger.deliveries.instances(lost)[2]
    with pacs() as peer:
        sender = outbox({"LOST": peer.peer(), "PACS": peer.peer()}, DeliveryWaits(first_wait_s=600))
        released.storage.remove([gone.path])
        work_until(sender, lambda: released.delivery(lost).reason and released.delivery(other).reason)
        assert {len(association.datasets) for association in peer.associations} == {2}
    assert released.delivery(lost).state == released.delivery(other).state == DeliveryState.QUEUED


def test_a_result_superseded_while_it_is_sent_is_not_sent_again(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs(Faults(stalls=[True], statuses=[0xA700])) as peer:
        sender = outbox({"PACS": peer.peer()})
        until(sender, released, delivery, DeliveryState.SENDING)
        released.late_instance()
        peer.go_on.set()
        done = settled(sender, released, delivery)
    assert done.state == DeliveryState.FAILED
    assert done.reason is not None and done.reason.startswith("superseded")
    assert not released.ledger.deliveries.retry(delivery.id, "A. Person")


def test_what_was_being_sent_when_the_node_stopped_is_sent_again(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    assert [one.id for one in released.ledger.deliveries.claim_due(())] == [delivery.id]
    assert released.ledger.deliveries.recover() == 1
    with pacs() as peer:
        assert settled(outbox({"PACS": peer.peer()}), released, delivery).state == DeliveryState.DELIVERED


def test_a_peer_that_never_commits_is_asked_no_more_when_its_time_is_over(
    released: Released, outbox: MakeOutbox
) -> None:
    (delivery,) = released.result({"CT": ["COMMITTING"]})
    with pacs(Faults(commitment=Commitment.NEVER_ANSWERED)) as peer:
        patient = outbox({"COMMITTING": peer.peer(commitment=True)}, DeliveryWaits(commit_within_h=1))
        until(patient, released, delivery, DeliveryState.DELIVERED)
        wait_until(lambda: peer.commitment_requests)
        patient.request_commitments()
        assert released.delivery(delivery).state == DeliveryState.DELIVERED
        outbox({"COMMITTING": peer.peer(commitment=True)}, AT_ONCE).request_commitments()
    done = released.delivery(delivery)
    assert (done.state, done.reason) == (DeliveryState.FAILED, "the peer has not committed within 1e-09 h")
    last = released.ledger.events.of(f"delivery/{delivery.id}")[-1]
    assert (last.what, last.why) == ("delivery failed", done.reason)


def test_a_peer_without_commitment_is_not_waited_for(released: Released, outbox: MakeOutbox) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    with pacs() as peer:
        sender = outbox({"PACS": peer.peer()}, AT_ONCE)
        until(sender, released, delivery, DeliveryState.DELIVERED)
        sender.request_commitments()
    assert released.delivery(delivery).state == DeliveryState.DELIVERED


def test_a_commitment_that_comes_too_late_still_counts(released: Released) -> None:
    (delivery,) = released.result({"CT": ["COMMITTING"]})
    (taken,) = released.ledger.deliveries.claim_due(())
    released.ledger.deliveries.delivered(taken)
    released.ledger.deliveries.ask_commitment(delivery, "1.2.3")
    (given_up,) = released.ledger.deliveries.give_up_commitment(["COMMITTING"], datetime.now(UTC), "too late")
    assert given_up.id == delivery.id
    assert released.ledger.deliveries.committed("1.2.3", None, "COMMITTING")
    done = released.delivery(delivery)
    assert (done.state, done.reason) == (DeliveryState.COMMITTED, None)
