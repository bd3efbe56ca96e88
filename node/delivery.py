"""The outbox: every series of a released result goes to its peers, with proof for each instance.

A peer that is down costs the others nothing: each has a thread of its own. What failed waits longer and longer, what
was refused or is too old waits for a person.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from pydicom import Dataset
from pydicom.uid import UID, generate_uid

from node.config import DeliveryWaits, Peer
from node.errors import DeliveryError, PeerRefused
from node.ledger import Ledger
from node.ledger.deliveries import Answer
from node.ledger.schema import Delivery, ResultInstance
from node.scu import Outgoing, Scu
from node.storage import Storage

BATCH = 50
"""Answers that are recorded in one transaction; a crash costs at most the proof of so many, which are sent again."""
COMMITMENT_WAIT = timedelta(hours=1)
"""How long a peer may take to commit before it is asked again."""

log = logging.getLogger(__name__)


class Outbox:
    """Deliveries under way."""

    def __init__(
        self,
        ledger: Ledger,
        storage: Storage,
        peers: Mapping[str, Peer],
        waits: DeliveryWaits,
        scu: Scu,
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._storage = storage
        self._peers = peers
        self._waits = waits
        self._scu = scu
        self._wake = wake
        self._threads = ThreadPoolExecutor(max_workers=max(1, len(peers)), thread_name_prefix="delivery")
        self._under_way: dict[str, tuple[Delivery, Future[None]]] = {}

    def start_due(self) -> None:
        """Start what is due, for every peer that is free."""
        self._forget_finished()
        for delivery in self._ledger.deliveries.claim_due(self._under_way):
            future = self._threads.submit(self._deliver, delivery)
            self._under_way[delivery.peer] = (delivery, future)
            future.add_done_callback(lambda _: self._wake())

    def request_commitments(self) -> None:
        """Ask the peers that offer it to commit to what they have taken; who never does is asked no more."""
        peers = [name for name, peer in self._peers.items() if peer.commitment]
        self._give_up_commitments(peers)
        before = datetime.now(UTC) - COMMITMENT_WAIT
        for delivery in self._ledger.deliveries.awaiting_commitment(peers, before):
            self._request_commitment(delivery)

    def _give_up_commitments(self, peers: Sequence[str]) -> None:
        within = timedelta(hours=self._waits.commit_within_h)
        reason = f"the peer has not committed within {self._waits.commit_within_h:g} h"
        for delivery in self._ledger.deliveries.give_up_commitment(peers, datetime.now(UTC) - within, reason):
            log.error("commitment given up", extra={"delivery": delivery.id, "peer": delivery.peer})

    def on_commitment(self, report: Dataset, calling_ae_title: str) -> None:
        """Record the answer to a request for commitment (PS3.4 J.3.3)."""
        failed = report.get("FailedSOPSequence") or []
        reason = f"the peer does not commit to {len(failed)} instances" if failed else None
        if not self._ledger.deliveries.committed(str(report.get("TransactionUID", "")), reason, calling_ae_title):
            log.warning("commitment report for an unknown transaction", extra={"ae_title": calling_ae_title})

    def stop(self) -> None:
        """Wait for what is being sent; nothing new is started."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _forget_finished(self) -> None:
        for peer, (delivery, future) in list(self._under_way.items()):
            if not future.done():
                continue
            error = future.exception()
            if error is not None:
                log.error("delivery failed", extra={"delivery": delivery.id, "error": type(error).__name__})
                self._wait_or_give_up(delivery, f"internal error: {type(error).__name__}")
            # Only now: while the ledger can not be written, the delivery stays with the outbox.
            del self._under_way[peer]

    def _deliver(self, delivery: Delivery) -> None:
        peer = self._peers.get(delivery.peer)
        if peer is None:
            self._ledger.deliveries.fail(delivery, f"the configuration has no peer {delivery.peer}")
            return
        try:
            self._send(delivery, peer)
        except PeerRefused as error:
            log.error("delivery refused", extra={"delivery": delivery.id, "peer": delivery.peer, "reason": str(error)})
            self._ledger.deliveries.fail(delivery, str(error))
        except (DeliveryError, OSError) as error:
            self._wait_or_give_up(delivery, str(error))
        else:
            self._ledger.deliveries.delivered(delivery)
            log.info("delivered", extra={"delivery": delivery.id, "peer": delivery.peer})
            if peer.commitment:
                self._request_commitment(delivery)

    def _send(self, delivery: Delivery, peer: Peer) -> None:
        instances = self._ledger.deliveries.instances(delivery)
        ids = {instance.sop_instance_uid: instance.id for instance in instances}
        answers: list[Answer] = []

        def on_answer(outgoing: Outgoing, status: int) -> None:
            answers.append(Answer(ids[outgoing.sop_instance_uid], status))
            if len(answers) >= BATCH:
                self._ledger.deliveries.record(delivery, answers)
                answers.clear()

        try:
            # A series that failed in the middle is sent whole again: a TPS files what one association brought, and
            # the same UIDs make a repeated instance harmless.
            self._scu.send(peer, [self._outgoing(instance) for instance in instances], on_answer)
        finally:
            self._ledger.deliveries.record(delivery, answers)

    def _request_commitment(self, delivery: Delivery) -> None:
        transaction_uid = UID(generate_uid(prefix=None))
        instances = [self._outgoing(instance) for instance in self._ledger.deliveries.instances(delivery)]
        # Recorded before it is asked: a quick peer answers while the request's association is still open.
        self._ledger.deliveries.ask_commitment(delivery, transaction_uid)
        try:
            self._scu.request_commitment(self._peers[delivery.peer], transaction_uid, instances)
        except (DeliveryError, PeerRefused) as error:
            log.warning("commitment not asked", extra={"delivery": delivery.id, "reason": str(error)})

    def _wait_or_give_up(self, delivery: Delivery, reason: str) -> None:
        now = datetime.now(UTC)
        if now - delivery.queued_at > timedelta(hours=self._waits.give_up_after_h):
            log.error("delivery given up", extra={"delivery": delivery.id, "peer": delivery.peer, "reason": reason})
            self._ledger.deliveries.fail(delivery, f"given up after {self._waits.give_up_after_h:g} h: {reason}")
            return
        wait_s = waiting_time_s(delivery.attempts, self._waits)
        log.warning("delivery waits", extra={"delivery": delivery.id, "peer": delivery.peer, "reason": reason})
        self._ledger.deliveries.wait(delivery, now + timedelta(seconds=wait_s), reason)

    def _outgoing(self, instance: ResultInstance) -> Outgoing:
        return Outgoing(
            instance.sop_class_uid,
            instance.sop_instance_uid,
            instance.transfer_syntax_uid,
            self._storage.absolute(instance.path),
        )


def waiting_time_s(attempts: int, waits: DeliveryWaits) -> float:
    """Seconds until the next attempt: doubled after each, up to the maximum."""
    doublings = min(attempts - 1, 30)
    return min(waits.first_wait_s * float(2**doublings), waits.max_wait_s)
