"""The ledger's account of deliveries: the outbox, and the proof of every instance that a peer has taken."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from node.ledger import events
from node.ledger.database import Database
from node.ledger.events import What
from node.ledger.schema import (
    Delivery,
    DeliveryProof,
    DeliveryState,
    Job,
    JobState,
    Result,
    ResultInstance,
)


@dataclass(frozen=True)
class Answer:
    """The status that a peer gave for one instance."""

    result_instance_id: int
    status: int


class DeliveryLedger:
    """The outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim_due(self, busy_peers: Iterable[str]) -> list[Delivery]:
        """Take what is due now to send it: the oldest of every peer that is not busy."""
        taken: dict[str, Delivery] = {}
        with self._database.write() as session:
            due = select(Delivery).where(
                Delivery.state == DeliveryState.QUEUED,
                Delivery.next_attempt_at <= datetime.now(UTC),
                Delivery.peer.not_in(list(busy_peers)),
            )
            for delivery in session.scalars(due.order_by(Delivery.id)):
                taken.setdefault(delivery.peer, delivery)
            for delivery in taken.values():
                delivery.state = DeliveryState.SENDING
                delivery.attempts += 1
                events.append(session, What.DELIVERY_SENDING, f"delivery/{delivery.id}", f"attempt {delivery.attempts}")
        return list(taken.values())

    def instances(self, delivery: Delivery) -> list[ResultInstance]:
        """What is sent, in the order in which it was made."""
        rows = select(ResultInstance).where(
            ResultInstance.result_id == delivery.result_id,
            ResultInstance.series_instance_uid == delivery.series_instance_uid,
        )
        with self._database.read() as session:
            return list(session.scalars(rows.order_by(ResultInstance.id)))

    def record(self, delivery: Delivery, answers: Sequence[Answer]) -> None:
        """Keep the status of every instance that the peer has answered."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            for answer in answers:
                session.merge(
                    DeliveryProof(
                        delivery_id=delivery.id,
                        result_instance_id=answer.result_instance_id,
                        status=answer.status,
                        answered_at=now,
                    )
                )

    def delivered(self, delivery: Delivery) -> None:
        """Every instance was taken."""
        with self._database.write() as session:
            row = session.get_one(Delivery, delivery.id)
            row.state, row.reason, row.delivered_at = DeliveryState.DELIVERED, None, datetime.now(UTC)
            events.append(session, What.DELIVERY_DELIVERED, f"delivery/{row.id}")

    def wait(self, delivery: Delivery, until: datetime, reason: str) -> None:
        """Another attempt follows, unless the job was superseded while its result was sent."""
        with self._database.write() as session:
            row = session.get_one(Delivery, delivery.id)
            if _is_superseded(session, row):
                _fail(session, row, f"superseded: {reason}")
                return
            row.state, row.reason, row.next_attempt_at = DeliveryState.QUEUED, reason, until
            events.append(session, What.DELIVERY_QUEUED, f"delivery/{row.id}", reason)

    def fail(self, delivery: Delivery, reason: str) -> None:
        """No further attempt; a person has to look."""
        with self._database.write() as session:
            _fail(session, session.get_one(Delivery, delivery.id), reason)

    def recover(self) -> int:
        """Put back what was being sent when the node stopped; returns how many deliveries."""
        with self._database.write() as session:
            rows = list(session.scalars(select(Delivery).where(Delivery.state == DeliveryState.SENDING)))
            for row in rows:
                if _is_superseded(session, row):
                    _fail(session, row, "superseded while it was sent")
                    continue
                row.state = DeliveryState.QUEUED
                events.append(session, What.DELIVERY_QUEUED, f"delivery/{row.id}", "the node stopped while it was sent")
            return len(rows)

    def retry(self, delivery_id: int, who: str) -> bool:
        """Queue a failed delivery once more; False if it has not failed, or its job was superseded."""
        with self._database.write() as session:
            row = session.get(Delivery, delivery_id)
            if row is None or row.state != DeliveryState.FAILED or _is_superseded(session, row):
                return False
            now = datetime.now(UTC)
            row.state, row.reason, row.attempts, row.queued_at, row.next_attempt_at = (
                DeliveryState.QUEUED, None, 0, now, now,
            )  # fmt: skip
            events.append(session, What.DELIVERY_QUEUED, f"delivery/{row.id}", "tried again by hand", who)
            return True

    def of_result(self, result_id: int) -> list[Delivery]:
        """The deliveries of a result."""
        with self._database.read() as session:
            return list(session.scalars(select(Delivery).where(Delivery.result_id == result_id).order_by(Delivery.id)))

    def get(self, delivery_id: int) -> Delivery | None:
        """The delivery of this id."""
        with self._database.read() as session:
            return session.get(Delivery, delivery_id)

    def proofs(self, delivery_id: int) -> dict[int, int]:
        """Status by result instance id."""
        with self._database.read() as session:
            rows = session.scalars(select(DeliveryProof).where(DeliveryProof.delivery_id == delivery_id))
            return {row.result_instance_id: row.status for row in rows}

    def ask_commitment(self, delivery: Delivery, transaction_uid: str) -> None:
        """Remember the transaction under which the peer will answer (PS3.4 J.3.2)."""
        with self._database.write() as session:
            row = session.get_one(Delivery, delivery.id)
            row.commitment_uid, row.commitment_asked_at = transaction_uid, datetime.now(UTC)

    def awaiting_commitment(self, peers: Sequence[str], asked_before: datetime) -> list[Delivery]:
        """What was delivered to these peers and neither committed to nor asked about since then."""
        rows = select(Delivery).where(
            Delivery.state == DeliveryState.DELIVERED,
            Delivery.peer.in_(peers),
            (Delivery.commitment_asked_at.is_(None)) | (Delivery.commitment_asked_at < asked_before),
        )
        with self._database.read() as session:
            return list(session.scalars(rows))

    def give_up_commitment(self, peers: Sequence[str], delivered_before: datetime, reason: str) -> list[Delivery]:
        """Let a person look at what these peers took so long ago and have not committed to; returns it."""
        rows = select(Delivery).where(
            Delivery.state == DeliveryState.DELIVERED,
            Delivery.peer.in_(peers),
            Delivery.delivered_at < delivered_before,
        )
        with self._database.write() as session:
            given_up = list(session.scalars(rows))
            for row in given_up:
                _fail(session, row, reason)
            return given_up

    def committed(self, transaction_uid: str, failed_reason: str | None, who: str) -> bool:
        """Record the peer's answer, a late one too; False for a transaction that nobody asked for."""
        with self._database.write() as session:
            row = session.scalar(select(Delivery).where(Delivery.commitment_uid == transaction_uid))
            if row is None or row.state not in (DeliveryState.DELIVERED, DeliveryState.FAILED):
                return row is not None
            if failed_reason is None:
                row.state, row.reason = DeliveryState.COMMITTED, None
                events.append(session, What.DELIVERY_COMMITTED, f"delivery/{row.id}", who=who)
            elif row.state == DeliveryState.DELIVERED:
                _fail(session, row, failed_reason)
            return True

    def counts(self) -> dict[str, int]:
        """How many deliveries are in each state."""
        with self._database.read() as session:
            rows = session.execute(select(Delivery.state, func.count()).group_by(Delivery.state))
            return {str(state): count for state, count in rows}


def queue_deliveries(
    session: Session,
    result_id: int,
    instances: Sequence[ResultInstance],
    peers_of_modality: Mapping[str, Sequence[str]],
) -> None:
    """One delivery for each series of the result and each peer that takes it."""
    now = datetime.now(UTC)
    series = {instance.series_instance_uid: instance.modality for instance in instances}
    for series_instance_uid, modality in series.items():
        for peer in peers_of_modality.get(modality, ()):
            delivery = Delivery(
                result_id=result_id,
                series_instance_uid=series_instance_uid,
                peer=peer,
                state=DeliveryState.QUEUED,
                queued_at=now,
                next_attempt_at=now,
            )
            session.add(delivery)
            session.flush()
            events.append(session, What.DELIVERY_QUEUED, f"delivery/{delivery.id}")


def cancel_deliveries(session: Session, job_id: int, reason: str) -> None:
    """What waits to be sent of this job's result is not sent any more."""
    rows = session.scalars(
        select(Delivery).join(Result).where(Result.job_id == job_id, Delivery.state == DeliveryState.QUEUED)
    )
    for row in rows:
        _fail(session, row, f"superseded: {reason}")


def _is_superseded(session: Session, row: Delivery) -> bool:
    job = select(Job.state).join(Result).where(Result.id == row.result_id)
    return session.scalar(job) == JobState.SUPERSEDED


def _fail(session: Session, row: Delivery, reason: str) -> None:
    row.state, row.reason = DeliveryState.FAILED, reason
    events.append(session, What.DELIVERY_FAILED, f"delivery/{row.id}", reason)
