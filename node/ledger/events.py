"""The audit trail: every change of state as an event, each holding the hash of the one before.

Who changes or removes an event breaks the chain from there on; `first_broken` finds the place. Who cuts off its end
leaves a whole chain; for that its `Head` is kept elsewhere.
"""

import hashlib
import json
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.ledger.database import Database
from node.ledger.schema import Event

FIRST_HASH = "0" * 64
"""What the first event holds as the hash before it."""
NODE = "node"
"""Who acts when no person and no peer does."""


class What(StrEnum):
    """What happened."""

    NODE_STARTED = "node started"
    NODE_STOPPED = "node stopped"
    PEER_REFUSED = "peer refused"
    PEER_QUERIED = "peer queried"
    INSTANCE_RECEIVED = "instance received"
    INSTANCE_CONFLICT = "instance in conflict"
    INSTANCE_QUARANTINED = "instance quarantined"
    INSTANCES_REMOVED = "instances removed"
    SERIES_RECEIVING = "series receiving"
    SERIES_SETTLED = "series settled"
    SERIES_INCOMPLETE = "series incomplete"
    SERIES_REJECTED = "series rejected"
    JOB_WAITING = "job waiting"
    JOB_QUEUED = "job queued"
    JOB_RUNNING = "job running"
    JOB_FINISHED = "job finished"
    JOB_FAILED = "job failed"
    JOB_SUPERSEDED = "job superseded"
    RESULT_HELD = "result held"
    RESULT_RELEASED = "result released"
    RESULT_RELEASED_BY_ONE = "result released by the first of two persons"
    RESULT_REJECTED = "result rejected"
    RESULT_HELD_TOO_LONG = "result held too long"
    RESULT_IN_SHADOW = "result kept in shadow"
    AGREEMENT_QUEUED = "agreement queued"
    AGREEMENT_RUNNING = "agreement running"
    AGREEMENT_MEASURED = "agreement measured"
    AGREEMENT_FAILED = "agreement failed"
    AGREEMENT_SUPERSEDED = "agreement superseded"
    TREND_ALARM = "trend alarm"
    DELIVERY_QUEUED = "delivery queued"
    DELIVERY_SENDING = "delivery sending"
    DELIVERY_DELIVERED = "delivery delivered"
    DELIVERY_COMMITTED = "delivery committed"
    DELIVERY_FAILED = "delivery failed"


def append(session: Session, what: What, subject: str, why: str | None = None, who: str = NODE) -> None:
    """Add an event to the transaction that makes the change."""
    previous = session.scalar(select(Event.hash).order_by(Event.id.desc()).limit(1)) or FIRST_HASH
    event = Event(at=datetime.now(UTC), who=who, what=what, subject=subject, why=why, previous_hash=previous, hash="")
    event.hash = _hash_of(event)
    session.add(event)
    session.flush()


@dataclass(frozen=True)
class Head:
    """The last event of a chain: kept elsewhere, it shows when the chain was cut off before it."""

    event_id: int
    hash: str


class EventLedger:
    """Reading of the audit trail, and events that change nothing else in the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, what: What, subject: str, why: str | None = None, who: str = NODE) -> None:
        """Record something that the ledger holds nothing else of."""
        with self._database.write() as session:
            append(session, what, subject, why, who)

    def head(self) -> Head | None:
        """The last event; None for an empty chain."""
        with self._database.read() as session:
            last = session.scalar(select(Event).order_by(Event.id.desc()).limit(1))
            return Head(last.id, last.hash) if last else None

    def has(self, head: Head) -> bool:
        """Whether the chain, if it is whole, leads to this event."""
        with self._database.read() as session:
            event = session.get(Event, head.event_id)
            return event is not None and event.hash == head.hash

    def holds(self, event_hash: str) -> bool:
        """Whether an event of the chain has this hash."""
        with self._database.read() as session:
            return session.scalar(select(Event.id).where(Event.hash == event_hash)) is not None

    def of(self, subject: str) -> list[Event]:
        """The events of one subject such as `job/7`, oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(Event).where(Event.subject == subject).order_by(Event.id)))

    def first_broken(self) -> int | None:
        """Id of the first event whose content or place in the chain is not what was written; None if all hold."""
        previous = FIRST_HASH
        with closing(self._all()) as events:
            for event in events:
                if event.previous_hash != previous or event.hash != _hash_of(event):
                    return event.id
                previous = event.hash
        return None

    def _all(self) -> Generator[Event, None, None]:
        """Read piece by piece; the cursor of the database is open until the generator is closed."""
        query = select(Event).order_by(Event.id).execution_options(yield_per=1000)
        with self._database.read() as session, closing(session.scalars(query)) as events:
            yield from events


def _hash_of(event: Event) -> str:
    content = [event.at.isoformat(), event.who, event.what, event.subject, event.why, event.previous_hash]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
