"""The ledger's account of what persons decided about held results."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, String, cast, exists, func, literal, select
from sqlalchemy.orm import Session

from node.errors import NodeError
from node.ledger import events
from node.ledger.database import Database
from node.ledger.deliveries import queue_deliveries
from node.ledger.events import What
from node.ledger.schema import Event, Job, JobState, Result, ResultInstance, ResultState


class DecisionLedger:
    """Release and rejection, each with a name and a reason."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pipeline_of(self, result_id: int) -> str:
        """The pipeline whose configuration says where the result goes; raises NodeError if there is no such result."""
        with self._database.read() as session:
            pipeline = session.scalar(select(Job.pipeline).join(Result).where(Result.id == result_id))
        if pipeline is None:
            raise NodeError(f"there is no result {result_id}")
        return pipeline

    def job_of(self, result_id: int) -> int:
        """The job that has made the result; raises NodeError if there is no such result."""
        with self._database.read() as session:
            job_id = session.scalar(select(Result.job_id).where(Result.id == result_id))
        if job_id is None:
            raise NodeError(f"there is no result {result_id}")
        return job_id

    def first_release_of(self, result_id: int) -> str | None:
        """Who has released a result that still needs a second person; None where nobody has."""
        with self._database.read() as session:
            return _first_release(session, result_id)

    def release(
        self,
        result_id: int,
        by: str,
        why: str,
        receivers: Callable[[str], Sequence[str]],
        four_eyes: bool = False,
    ) -> bool:
        """Let a held result go to those whom `receivers` names for its modality.

        Returns
        -------
        False when `four_eyes` are asked for and `by` is the first of two persons: it is recorded, and stays held.

        Raises
        ------
        NodeError
            If it is not held, or superseded, or the same person would be the second one.
        """
        with self._database.write() as session:
            result = _held(session, result_id)
            superseded = session.scalar(
                select(Job.reason).where(Job.id == result.job_id, Job.state == JobState.SUPERSEDED)
            )
            if superseded is not None:
                raise NodeError(f"result {result_id} was superseded: {superseded}")
            if four_eyes and not _is_second(session, result_id, by, why):
                return False
            _decide(session, result, ResultState.RELEASED, by, why)
            made = select(ResultInstance).where(ResultInstance.result_id == result_id).order_by(ResultInstance.id)
            instances = list(session.scalars(made))
            peers = {instance.modality: receivers(instance.modality) for instance in instances}
            queue_deliveries(session, result_id, instances, peers)
        return True

    def raise_alarms(self, held_before: Mapping[str, datetime]) -> list[int]:
        """Record, once for each, the results that wait for a person since before the moment of their pipeline."""
        raised = []
        with self._database.write() as session:
            for result, pipeline in session.execute(_undecided().where(~_has_alarm())).all():
                if pipeline in held_before and result.created_at < held_before[pipeline]:
                    why = f"held since {result.created_at:%Y-%m-%d %H:%M} UTC, and nobody has decided"
                    events.append(session, What.RESULT_HELD_TOO_LONG, f"result/{result.id}", why)
                    raised.append(result.id)
        return raised

    def alarmed(self) -> list[Result]:
        """The results that raised an alarm and still wait for a person, oldest first."""
        with self._database.read() as session:
            return [result for result, _ in session.execute(_undecided().where(_has_alarm()))]

    def counts(self) -> dict[str, int]:
        """How many results are in each state, those left out whose job is superseded; and alarms, if there are any."""
        with self._database.read() as session:
            of_jobs = select(Result.state, func.count()).join(Job).where(Job.state != JobState.SUPERSEDED)
            found = {str(state): count for state, count in session.execute(of_jobs.group_by(Result.state))}
        alarmed = len(self.alarmed())
        return found | ({"held too long": alarmed} if alarmed else {})

    def reject(self, result_id: int, by: str, why: str) -> None:
        """Decide that a held result is never sent; raises NodeError if it is not held."""
        with self._database.write() as session:
            _decide(session, _held(session, result_id), ResultState.REJECTED, by, why)


def _undecided() -> Select[Result, str]:
    """Results that wait for a person, with their pipelines, oldest first."""
    waiting = (Result.state == ResultState.HELD, Job.state != JobState.SUPERSEDED)
    return select(Result, Job.pipeline).join(Job, Job.id == Result.job_id).where(*waiting).order_by(Result.id)


def _has_alarm() -> ColumnElement[bool]:
    subject = literal("result/").concat(cast(Result.id, String))
    return exists(select(Event.id).where(Event.subject == subject, Event.what == What.RESULT_HELD_TOO_LONG))


def _held(session: Session, result_id: int) -> Result:
    result = session.get(Result, result_id)
    if result is None:
        raise NodeError(f"there is no result {result_id}")
    if result.state != ResultState.HELD:
        raise NodeError(f"result {result_id} is not held, but {result.state}")
    return result


def _is_second(session: Session, result_id: int, by: str, why: str) -> bool:
    """Whether another person has released it before; else this one is recorded as the first."""
    first = _first_release(session, result_id)
    if first is None:
        events.append(session, What.RESULT_RELEASED_BY_ONE, f"result/{result_id}", why, by)
        return False
    if _same_person(first, by):
        raise NodeError(f"result {result_id} was released by {first} already: a second person has to release it too")
    return True


def _first_release(session: Session, result_id: int) -> str | None:
    of_result = (Event.subject == f"result/{result_id}", Event.what == What.RESULT_RELEASED_BY_ONE)
    return session.scalar(select(Event.who).where(*of_result).order_by(Event.id).limit(1))


def _same_person(one: str, other: str) -> bool:
    """Small and capital letters, and spaces, make no other person."""
    return "".join(one.split()).casefold() == "".join(other.split()).casefold()


def _decide(session: Session, result: Result, state: ResultState, by: str, why: str) -> None:
    result.state, result.decided_by, result.decided_why = state, by, why
    what = What.RESULT_RELEASED if state is ResultState.RELEASED else What.RESULT_REJECTED
    events.append(session, what, f"result/{result.id}", why, by)
