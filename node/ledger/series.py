"""The ledger's account of instances and series."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from node.ledger import events
from node.ledger.database import Database
from node.ledger.events import What
from node.ledger.schema import Instance, InstanceState, Link, LinkKind, Series, SeriesState
from node.ledger.succession import supersede_jobs_of
from node.storage import Identity

_SETTLED_EVENTS = {
    SeriesState.SETTLED: What.SERIES_SETTLED,
    SeriesState.INCOMPLETE: What.SERIES_INCOMPLETE,
    SeriesState.REJECTED: What.SERIES_REJECTED,
}


@dataclass(frozen=True)
class Arrival:
    """What is known of an instance when it has arrived."""

    identity: Identity
    modality: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    size_bytes: int
    calling_ae_title: str


@dataclass(frozen=True)
class SetAside:
    """An instance that is kept for a person but belongs to no series."""

    state: InstanceState
    path: str | None
    reason: str


@dataclass(frozen=True)
class Settlement:
    """What was decided about a series, from its headers."""

    state: SeriesState
    role: str
    reason: str | None
    links: frozenset[tuple[LinkKind, str]]
    body_parts: frozenset[str] = frozenset()
    """Of Body Part Examined; empty where no header states it."""
    acquired_at: datetime | None = None
    """Local time as the headers state it; None where they state no date."""


class SeriesLedger:
    """Instances and series."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def receive(self, arrival: Arrival, path: str, keep: Callable[[], None]) -> Instance | None:
        """Record a new instance; `keep` puts its file in place before the row is committed.

        Returns
        -------
        None when recorded, else the instance that already has the SOP Instance UID; nothing is changed then. One whose
        file was removed after the retention time gets it back, for its sender believes what it is answered.
        """
        with self._database.write() as session:
            first = session.scalar(
                select(Instance).where(
                    Instance.sop_instance_uid == arrival.identity.sop_instance_uid,
                    Instance.state == InstanceState.RECEIVED,
                )
            )
            if first is not None and not _is_without_file(first, arrival):
                return first
            keep()
            if first is not None:
                first.path = path
                return None
            series = _open_series(session, arrival)
            session.add(_instance(arrival, series.id, InstanceState.RECEIVED, path, None))
            subject = f"instance/{arrival.identity.sop_instance_uid}"
            events.append(session, What.INSTANCE_RECEIVED, subject, who=arrival.calling_ae_title)
        return None

    def set_aside(self, arrival: Arrival, aside: SetAside) -> None:
        """Record an instance that is in conflict with the first of its UID, or that was refused."""
        conflict = aside.state is InstanceState.CONFLICT
        with self._database.write() as session:
            series = _series_of(session, arrival.identity.series_instance_uid) if conflict else None
            session.add(_instance(arrival, series.id if series else None, aside.state, aside.path, aside.reason))
            what = What.INSTANCE_CONFLICT if conflict else What.INSTANCE_QUARANTINED
            subject = f"instance/{arrival.identity.sop_instance_uid}"
            events.append(session, what, subject, aside.reason, who=arrival.calling_ae_title)

    def receiving(self) -> list[Series]:
        """The series that are not settled yet."""
        with self._database.read() as session:
            return list(session.scalars(select(Series).where(Series.state == SeriesState.RECEIVING)))

    def instances(self, series_id: int) -> list[Instance]:
        """The instances that make up a series, conflicts left out, in the order of their arrival."""
        with self._database.read() as session:
            return list(session.scalars(_received(series_id)))

    def settle(self, series: Series, instance_count: int, settlement: Settlement) -> bool:
        """Record the decision; False, and nothing changed, when another instance arrived in the meantime."""
        with self._database.write() as session:
            row = session.get_one(Series, series.id)
            count = session.scalar(select(func.count()).select_from(_received(series.id).subquery()))
            if row.state != SeriesState.RECEIVING or count != instance_count:
                return False
            row.state, row.role, row.reason = settlement.state, settlement.role, settlement.reason
            row.body_parts = sorted(settlement.body_parts)
            row.acquired_at = settlement.acquired_at
            row.revision += 1
            row.settled_at = datetime.now(UTC)
            session.query(Link).filter(Link.series_id == row.id).delete()
            session.add_all(Link(series_id=row.id, kind=kind, uid=uid) for kind, uid in settlement.links)
            events.append(session, _SETTLED_EVENTS[settlement.state], f"series/{row.id}", settlement.reason)
        return True

    def unrouted(self) -> list[Series]:
        """The series that have settled and whose jobs are not queued yet, the one that settled first to begin with."""
        rows = select(Series).where(Series.state != SeriesState.RECEIVING, Series.routed_revision < Series.revision)
        with self._database.read() as session:
            return list(session.scalars(rows.order_by(Series.settled_at, Series.id)))

    def routed(self, series: Series) -> None:
        """Record that the jobs of this revision are queued."""
        with self._database.write() as session:
            session.get_one(Series, series.id).routed_revision = series.revision

    def get(self, series_id: int) -> Series:
        """The series of this id."""
        with self._database.read() as session:
            return session.get_one(Series, series_id)

    def all(self) -> list[Series]:
        """Every series, oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(Series).order_by(Series.id)))

    def of_patient(self, patient_id: str) -> list[Series]:
        """All series of a patient, oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(Series).where(Series.patient_id == patient_id).order_by(Series.id)))

    def links(self, series_ids: Iterable[int]) -> dict[int, set[tuple[LinkKind, str]]]:
        """What each of the series shares or refers to."""
        found: dict[int, set[tuple[LinkKind, str]]] = {series_id: set() for series_id in series_ids}
        with self._database.read() as session:
            for link in session.scalars(select(Link).where(Link.series_id.in_(found))):
                found[link.series_id].add((LinkKind(link.kind), link.uid))
        return found

    def sop_instance_uids(self, series_ids: Iterable[int]) -> dict[str, int]:
        """The series that holds each SOP Instance UID, for those of the given series."""
        received = Instance.state == InstanceState.RECEIVED
        with self._database.read() as session:
            rows = session.execute(
                select(Instance.sop_instance_uid, Instance.series_id).where(
                    Instance.series_id.in_(list(series_ids)), received
                )
            )
            return {uid: series_id for uid, series_id in rows if series_id is not None}

    def counts(self) -> dict[str, int]:
        """How many series are in each state."""
        with self._database.read() as session:
            rows = session.execute(select(Series.state, func.count()).group_by(Series.state))
            return {str(state): count for state, count in rows}

    def set_aside_counts(self) -> dict[str, int]:
        """How many instances are kept for a person, by state."""
        with self._database.read() as session:
            rows = session.execute(
                select(Instance.state, func.count())
                .where(Instance.state != InstanceState.RECEIVED)
                .group_by(Instance.state)
            )
            return {str(state): count for state, count in rows}


def _is_without_file(first: Instance, arrival: Arrival) -> bool:
    return first.path is None and first.sha256 == arrival.sha256


def _received(series_id: int) -> Select[Instance]:
    return (
        select(Instance)
        .where(Instance.series_id == series_id, Instance.state == InstanceState.RECEIVED)
        .order_by(Instance.id)
    )


def _series_of(session: Session, series_instance_uid: str) -> Series | None:
    return session.scalar(select(Series).where(Series.series_instance_uid == series_instance_uid))


def _open_series(session: Session, arrival: Arrival) -> Series:
    """The series that the instance joins: new, or opened again, which supersedes what was made from it before."""
    now = datetime.now(UTC)
    series = _series_of(session, arrival.identity.series_instance_uid)
    if series is None:
        series = Series(
            series_instance_uid=arrival.identity.series_instance_uid,
            study_instance_uid=arrival.identity.study_instance_uid,
            patient_id=arrival.identity.patient_id,
            modality=arrival.modality,
            state=SeriesState.RECEIVING,
            first_received_at=now,
            last_received_at=now,
        )
        session.add(series)
        session.flush()
        events.append(session, What.SERIES_RECEIVING, f"series/{series.id}", who=arrival.calling_ae_title)
    elif series.state != SeriesState.RECEIVING:
        series.state = SeriesState.RECEIVING
        why = "late instances arrived"
        events.append(session, What.SERIES_RECEIVING, f"series/{series.id}", why, who=arrival.calling_ae_title)
        supersede_jobs_of(session, series.id, "late instances arrived for one of its series")
    series.last_received_at = now
    return series


def _instance(
    arrival: Arrival, series_id: int | None, state: InstanceState, path: str | None, reason: str | None
) -> Instance:
    return Instance(
        series_id=series_id,
        sop_instance_uid=arrival.identity.sop_instance_uid,
        sop_class_uid=arrival.sop_class_uid,
        transfer_syntax_uid=arrival.transfer_syntax_uid,
        path=path,
        sha256=arrival.sha256,
        size_bytes=arrival.size_bytes,
        state=state,
        reason=reason,
        calling_ae_title=arrival.calling_ae_title,
        received_at=datetime.now(UTC),
    )
