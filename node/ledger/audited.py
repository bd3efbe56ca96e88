"""Events with what an audit message says about them: study, patient, instances, who sent and who received."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from node.ledger.database import Database
from node.ledger.schema import Delivery, Event, Instance, InstanceState, JobInput, Result, ResultInstance, Series


@dataclass(frozen=True)
class Concerns:
    """What an event is about; all empty for what concerns no study, and for rows that are gone."""

    patient_ids: tuple[str, ...] = ()
    instances: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Number of instances by Study Instance UID and SOP Class UID."""
    senders: tuple[str, ...] = ()
    """AE titles that brought a series, in the order of their coming."""
    peer: str | None = None
    """Name, as in peers.yaml, of the one that a delivery goes to."""


@dataclass(frozen=True)
class AuditedEvent:
    """One event of the chain, and what it is about."""

    event: Event
    concerns: Concerns


class AuditedLedger:
    """Reading of events for those who keep them outside."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, event_id: int, at_most: int) -> list[AuditedEvent]:
        """The events that follow the one of this id, in the order of the chain."""
        rows = select(Event).where(Event.id > event_id).order_by(Event.id).limit(at_most)
        with self._database.read() as session:
            return [AuditedEvent(event, _concerns(session, event)) for event in session.scalars(rows)]


def _concerns(session: Session, event: Event) -> Concerns:
    kind, _, key = event.subject.partition("/")
    find = _FINDERS.get(kind)
    return find(session, event, int(key)) if find and key.isdecimal() else Concerns()


def _of_series(session: Session, event: Event, series_id: int) -> Concerns:
    series = session.get(Series, series_id)
    if series is None:
        return Concerns()
    # Those that came later belong to a later event, however late this one is read.
    rows = select(Instance).where(
        Instance.series_id == series_id, Instance.state == InstanceState.RECEIVED, Instance.received_at <= event.at
    )
    instances = list(session.scalars(rows.order_by(Instance.id)))
    counts = Counter(instance.sop_class_uid for instance in instances)
    senders = tuple(dict.fromkeys(instance.calling_ae_title for instance in instances))
    return Concerns((series.patient_id,), {series.study_instance_uid: counts}, senders)


def _of_job(session: Session, _: Event, job_id: int) -> Concerns:
    inputs = select(Series).join(JobInput, JobInput.series_id == Series.id).where(JobInput.job_id == job_id)
    found: dict[str, Counter[str]] = {}
    patients: dict[str, None] = {}
    for series in session.scalars(inputs.order_by(Series.id)):
        patients[series.patient_id] = None
        counts = found.setdefault(series.study_instance_uid, Counter())
        of_series = select(Instance.sop_class_uid, func.count()).where(
            Instance.series_id == series.id, Instance.state == InstanceState.RECEIVED
        )
        for sop_class_uid, count in session.execute(of_series.group_by(Instance.sop_class_uid)):
            counts[sop_class_uid] += count
    return Concerns(tuple(patients), found)


def _of_result(session: Session, event: Event, result_id: int) -> Concerns:
    rows = select(ResultInstance).where(ResultInstance.result_id == result_id)
    return _made(session, event, result_id, list(session.scalars(rows)))


def _of_delivery(session: Session, event: Event, delivery_id: int) -> Concerns:
    delivery = session.get(Delivery, delivery_id)
    if delivery is None:
        return Concerns()
    rows = select(ResultInstance).where(
        ResultInstance.result_id == delivery.result_id,
        ResultInstance.series_instance_uid == delivery.series_instance_uid,
    )
    return _made(session, event, delivery.result_id, list(session.scalars(rows)), delivery.peer)


def _made(
    session: Session, event: Event, result_id: int, instances: Sequence[ResultInstance], peer: str | None = None
) -> Concerns:
    result = session.get(Result, result_id)
    used = _of_job(session, event, result.job_id) if result else Concerns()
    # Rows of an older version do not state their study; results lie in that of what they were made from.
    study_of_inputs = next(iter(used.instances), "")
    found: dict[str, Counter[str]] = {}
    for instance in instances:
        counts = found.setdefault(instance.study_instance_uid or study_of_inputs, Counter())
        counts[instance.sop_class_uid] += 1
    return Concerns(used.patient_ids, found, peer=peer)


_FINDERS: Mapping[str, Callable[[Session, Event, int], Concerns]] = {
    "series": _of_series,
    "job": _of_job,
    "result": _of_result,
    "delivery": _of_delivery,
}
