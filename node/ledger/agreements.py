"""The ledger's account of how far results in shadow agree with the current ones, made of the same series.

A pair is complete when both jobs have finished and neither is superseded; which of them was first does not matter. The
values are points of the charts of the pipeline in shadow, for as long as both results stand.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Select, and_, delete, exists, or_, select
from sqlalchemy.orm import Session, aliased

from node.config import TrendSettings
from node.ledger import events
from node.ledger.database import Database
from node.ledger.events import What
from node.ledger.schema import Agreement, AgreementState, Job, JobState, Result, ResultInstance, ResultState, TrendPoint
from node.ledger.trends import Process, add_points
from pipelines.stability import Finding

_OPEN = (AgreementState.QUEUED, AgreementState.RUNNING, AgreementState.MEASURED, AgreementState.FAILED)
_EVENTS = {
    AgreementState.QUEUED: What.AGREEMENT_QUEUED,
    AgreementState.RUNNING: What.AGREEMENT_RUNNING,
    AgreementState.MEASURED: What.AGREEMENT_MEASURED,
    AgreementState.FAILED: What.AGREEMENT_FAILED,
    AgreementState.SUPERSEDED: What.AGREEMENT_SUPERSEDED,
}


@dataclass(frozen=True)
class Pair:
    """Two results on the same series that stand and can be compared."""

    shadow_result_id: int
    current_result_id: int
    shadow_job: Job


@dataclass(frozen=True)
class Compared:
    """The last comparison of a result in shadow, and the job that made the current result."""

    agreement: Agreement
    current_job: Job
    current_state: str


class AgreementLedger:
    """What is compared, and what came of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unmeasured(self, shadow_of: Mapping[str, str]) -> list[Pair]:
        """The complete pairs that wait to be compared, oldest first; current pipelines by the name of their shadow."""
        if not shadow_of:
            return []
        with self._database.read() as session:
            return [Pair(*row) for row in session.execute(_pairs(shadow_of))]

    def start(self, pair: Pair) -> Agreement | None:
        """Take a pair to compare it; counts as an attempt. None if one of its results does not stand any more.

        What the result in shadow was compared with before is superseded: the configuration names another pipeline now.
        """
        with self._database.write() as session:
            if not _both_stand(session, pair):
                return None
            row = _of_pair(session, pair)
            for other in session.scalars(_open(Agreement.shadow_result_id == pair.shadow_result_id)).all():
                if other is not row:
                    _supersede(session, other, "it is compared with the result of another pipeline now")
            if row is None:
                row = Agreement(
                    shadow_result_id=pair.shadow_result_id,
                    current_result_id=pair.current_result_id,
                    attempts=0,
                    findings=[],
                )
                session.add(row)
            if row.state == AgreementState.SUPERSEDED:
                # Of another current pipeline in between: both results stand, so it counts anew.
                row.attempts = 0
            row.attempts += 1
            row.started_at, row.finished_at = datetime.now(UTC), None
            _change(session, row, AgreementState.RUNNING, None, f"attempt {row.attempts}")
            return row

    def finish(self, agreement: Agreement, findings: Sequence[Finding], settings: TrendSettings) -> bool:
        """Keep what was measured, also on the charts; False if a result was superseded meanwhile: nothing is kept."""
        with self._database.write() as session:
            row = _running(session, agreement)
            if row is None:
                return False
            row.findings = [finding.model_dump(mode="json") for finding in findings]
            row.finished_at = datetime.now(UTC)
            _change(session, row, AgreementState.MEASURED)
            process = _process(session, row, settings)
            if process is not None:
                result = session.get_one(Result, row.shadow_result_id)
                pipeline = session.get_one(Job, result.job_id).pipeline
                add_points(session, pipeline, result, findings, process)
            return True

    def try_again(self, agreement: Agreement, reason: str) -> None:
        """Let a pair wait to be compared once more."""
        with self._database.write() as session:
            row = _running(session, agreement)
            if row is not None:
                _change(session, row, AgreementState.QUEUED, reason)

    def fail(self, agreement: Agreement, reason: str) -> None:
        """Record that a pair will not be compared."""
        with self._database.write() as session:
            row = _running(session, agreement)
            if row is not None:
                row.finished_at = datetime.now(UTC)
                _change(session, row, AgreementState.FAILED, reason)

    def put_back(self) -> None:
        """Let what is being compared wait again when the node is stopped in good order: that is no attempt."""
        with self._database.write() as session:
            for row in session.scalars(_in_state(AgreementState.RUNNING)).all():
                row.attempts -= 1
                _change(session, row, AgreementState.QUEUED, "the node was stopped while it ran")

    def running(self) -> list[tuple[Agreement, int]]:
        """What is being compared, each with the id of the job in shadow."""
        shown = select(Agreement, Result.job_id).join(Result, Result.id == Agreement.shadow_result_id)
        with self._database.read() as session:
            rows = session.execute(shown.where(Agreement.state == AgreementState.RUNNING).order_by(Agreement.id))
            return [(row, job_id) for row, job_id in rows]

    def of_result(self, result_id: int) -> Compared | None:
        """The last comparison of a result in shadow; None if there was none."""
        shown = (
            select(Agreement, Job, Result.state)
            .join(Result, Result.id == Agreement.current_result_id)
            .join(Job, Job.id == Result.job_id)
        )
        newest = (Agreement.started_at.desc(), Agreement.id.desc())
        last = shown.where(Agreement.shadow_result_id == result_id).order_by(*newest).limit(1)
        with self._database.read() as session:
            return next((Compared(*row) for row in session.execute(last)), None)


def supersede_agreements(session: Session, job_id: int, reason: str) -> None:
    """Let no comparison with the result of this job count any more: it does not stand."""
    results = select(Result.id).where(Result.job_id == job_id)
    of_job = or_(Agreement.shadow_result_id.in_(results), Agreement.current_result_id.in_(results))
    for row in session.scalars(_open(of_job)).all():
        _supersede(session, row, reason)


def _supersede(session: Session, row: Agreement, reason: str) -> None:
    # Another current result may come, and its values take the places of these on the charts.
    names = [finding["name"] for finding in row.findings]
    of_row = (TrendPoint.result_id == row.shadow_result_id, TrendPoint.finding.in_(names))
    session.execute(delete(TrendPoint).where(*of_row))
    _change(session, row, AgreementState.SUPERSEDED, reason)


def _change(
    session: Session, row: Agreement, state: AgreementState, reason: str | None = None, remark: str | None = None
) -> None:  # fmt: skip
    row.state, row.reason = state, reason
    why = ": ".join(filter(None, (f"with result {row.current_result_id}", reason or remark)))
    events.append(session, _EVENTS[state], f"result/{row.shadow_result_id}", why)


def _running(session: Session, agreement: Agreement) -> Agreement | None:
    """The row, if this is still the attempt that it speaks of."""
    row = session.get_one(Agreement, agreement.id)
    return row if row.state == AgreementState.RUNNING and row.attempts == agreement.attempts else None


def _of_pair(session: Session, pair: Pair) -> Agreement | None:
    same = (
        Agreement.shadow_result_id == pair.shadow_result_id,
        Agreement.current_result_id == pair.current_result_id,
    )
    return session.scalar(select(Agreement).where(*same))


def _both_stand(session: Session, pair: Pair) -> bool:
    of_pair = Result.id.in_((pair.shadow_result_id, pair.current_result_id))
    standing = select(Result.id).join(Job, Job.id == Result.job_id).where(of_pair, Job.state == JobState.FINISHED)
    return len(session.scalars(standing).all()) == 2


def _pairs(shadow_of: Mapping[str, str]) -> Select[int, int, Job]:
    """Results of pipelines in shadow and current ones on the same series, both standing, with their files."""
    shadow, current = aliased(Result), aliased(Result)
    job, other = aliased(Job), aliased(Job)
    named = [and_(job.pipeline == one, other.pipeline == another) for one, another in shadow_of.items()]
    seen = exists(
        select(Agreement.id).where(
            Agreement.shadow_result_id == shadow.id,
            Agreement.current_result_id == current.id,
            Agreement.state.not_in((AgreementState.QUEUED, AgreementState.SUPERSEDED)),
        )
    )
    # After the retention time there is nothing to compare.
    lost = exists(
        select(ResultInstance.id).where(
            or_(ResultInstance.result_id == shadow.id, ResultInstance.result_id == current.id),
            ResultInstance.path == "",
        )
    )
    return (
        select(shadow.id, current.id, job)
        .join(job, job.id == shadow.job_id)
        .join(other, other.series_id == job.series_id)
        .join(current, current.job_id == other.id)
        .where(or_(*named), job.state == JobState.FINISHED, other.state == JobState.FINISHED)
        .where(shadow.state == ResultState.SHADOW, current.state != ResultState.SHADOW, ~seen, ~lost)
        .order_by(shadow.id)
    )


def _process(session: Session, row: Agreement, settings: TrendSettings) -> Process | None:
    """The device with both models; None where a result has no finding that could be charted, so that none is known."""
    first = [_first_point(session, result_id) for result_id in (row.shadow_result_id, row.current_result_id)]
    points = [point for point in first if point is not None]
    if len(points) < len(first):
        return None
    both = hashlib.sha256("/".join(point.settings_sha256 for point in points).encode()).hexdigest()
    return Process(points[0].device, both, settings)


def _first_point(session: Session, result_id: int) -> TrendPoint | None:
    """A finding of the result itself: those of comparisons come later."""
    points = select(TrendPoint).where(TrendPoint.result_id == result_id).order_by(TrendPoint.id)
    return session.scalar(points.limit(1))


def _in_state(state: AgreementState) -> Select[Agreement]:
    return select(Agreement).where(Agreement.state == state).order_by(Agreement.id)


def _open(*conditions: ColumnElement[bool]) -> Select[Agreement]:
    return select(Agreement).where(Agreement.state.in_(_OPEN), *conditions).order_by(Agreement.id)
