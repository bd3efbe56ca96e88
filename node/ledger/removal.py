"""The ledger's account of what may be removed after the retention time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, exists, select, update
from sqlalchemy.orm import Session, aliased

from node.ledger import events
from node.ledger.database import Database
from node.ledger.events import What
from node.ledger.schema import (
    Delivery,
    DeliveryState,
    Instance,
    InstanceState,
    Job,
    JobInput,
    JobState,
    Result,
    ResultInstance,
    ResultState,
    Series,
    SeriesState,
)

UNDER_WAY = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)
TAKEN = (DeliveryState.DELIVERED, DeliveryState.COMMITTED)


@dataclass(frozen=True)
class Removal:
    """The files of one series or one result; exactly one of the ids is set."""

    paths: Sequence[str]
    before: datetime
    """Nothing has happened to it since."""
    series_id: int | None = None
    result_id: int | None = None


class RemovalLedger:
    """Which files may go."""

    def __init__(self, database: Database, committing_peers: Sequence[str] = ()) -> None:
        self._database = database
        self._committing_peers = list(committing_peers)

    def expired(self, before: datetime) -> list[Removal]:
        """Inputs last received, and results made, before this moment, with nothing under way, held or unsent."""
        with self._database.read() as session:
            series = [
                Removal(_paths(session, row.id), before, series_id=row.id)
                for row in session.scalars(self._series(before))
            ]
            results = [
                Removal(_results(session, row.id), before, result_id=row.id)
                for row in session.scalars(self._results(before))
            ]
        return [removal for removal in (*series, *results) if removal.paths]

    def forget(self, removal: Removal) -> bool:
        """Record that the files are gone; False if they are in use again since they were looked at."""
        with self._database.write() as session:
            if not self._may_still_go(session, removal):
                return False
            if removal.series_id is not None:
                of_series = (Instance.series_id == removal.series_id, Instance.state == InstanceState.RECEIVED)
                session.execute(update(Instance).where(*of_series).values(path=None))
                subject = f"series/{removal.series_id}"
            else:
                of_result = ResultInstance.result_id == removal.result_id
                session.execute(update(ResultInstance).where(of_result).values(path=""))
                subject = f"result/{removal.result_id}"
            events.append(session, What.INSTANCES_REMOVED, subject, "their retention time is over")
            return True

    def _may_still_go(self, session: Session, removal: Removal) -> bool:
        series = self._series(removal.before).where(Series.id == removal.series_id)
        results = self._results(removal.before).where(Result.id == removal.result_id)
        return session.scalar(series if removal.series_id is not None else results) is not None

    def _series(self, before: datetime) -> Select[Series]:
        job = aliased(Job)
        busy = (
            select(JobInput.job_id)
            .join(job, job.id == JobInput.job_id)
            .where(JobInput.series_id == Series.id, (job.state.in_(UNDER_WAY)) | self._not_taken(job))
        )
        return select(Series).where(
            Series.last_received_at < before, Series.state != SeriesState.RECEIVING, ~exists(busy)
        )

    def _results(self, before: datetime) -> Select[Result]:
        return select(Result).where(Result.created_at < before, Result.state != ResultState.HELD, ~self._unsent(Result))

    def _not_taken(self, job: type[Job]) -> ColumnElement[bool]:
        result = aliased(Result)
        held = select(result.id).where(result.job_id == job.id, result.state == ResultState.HELD)
        unsent = select(result.id).where(result.job_id == job.id, self._unsent(result))
        return exists(held) | exists(unsent)

    def _unsent(self, result: type[Result]) -> ColumnElement[bool]:
        """Whether a delivery is not confirmed; a peer that commits confirms by its commitment alone."""
        confirmed = (Delivery.state == DeliveryState.COMMITTED) | (
            (Delivery.state == DeliveryState.DELIVERED) & Delivery.peer.not_in(self._committing_peers)
        )
        superseded = select(Job.id).where(Job.id == result.job_id, Job.state == JobState.SUPERSEDED)
        return exists(select(Delivery.id).where(Delivery.result_id == result.id, ~confirmed, ~exists(superseded)))


def _paths(session: Session, series_id: int) -> list[str]:
    rows = select(Instance.path).where(Instance.series_id == series_id, Instance.state == InstanceState.RECEIVED)
    return [path for path in session.scalars(rows) if path]


def _results(session: Session, result_id: int) -> list[str]:
    rows = select(ResultInstance.path).where(ResultInstance.result_id == result_id)
    return [path for path in session.scalars(rows) if path]
