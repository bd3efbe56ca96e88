"""The ledger's account of which job takes the place of another, which waits for which, and which report follows which.

On one trigger a pipeline has at most one job that is not superseded. Fractions of a treatment are in the order of their
acquisition, whatever the order of their arrival; one whose date is not known is in no order.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage
from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session, aliased

from node.ledger import events
from node.ledger.agreements import supersede_agreements
from node.ledger.database import Database
from node.ledger.deliveries import cancel_deliveries
from node.ledger.events import What
from node.ledger.schema import (
    Delivery,
    DeliveryProof,
    DeliveryState,
    Job,
    JobInput,
    JobState,
    Result,
    ResultInstance,
    ResultState,
    Series,
)
from pipelines.base import Predecessor

REPORTS = frozenset({EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage})
"""SOP classes of results that a later one refers to as its predecessor."""
_OPEN = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING, JobState.FINISHED)
_STANDING = (JobState.QUEUED, JobState.RUNNING, JobState.FINISHED, JobState.FAILED)
_UNDER_WAY = (JobState.QUEUED, JobState.RUNNING)
_NEVER_SENT = (ResultState.REJECTED, ResultState.SHADOW)


@dataclass(frozen=True)
class Standing:
    """The job that a pipeline has on a trigger: queued, running, finished or failed, and not superseded."""

    has_failed: bool
    revisions: Mapping[str, int]
    """Of its inputs, as they were when it was queued, by Series Instance UID."""


class SuccessionLedger:
    """Which jobs stand, and what they continue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def standing(self, pipeline: str, series_id: int) -> Standing | None:
        """The job that the pipeline has on this trigger."""
        with self._database.read() as session:
            job = session.scalar(_standing(pipeline, series_id).order_by(Job.id.desc()).limit(1))
            if job is None:
                return None
            given = select(Series.series_instance_uid, JobInput.revision).join(JobInput)
            rows = session.execute(given.where(JobInput.job_id == job.id))
            return Standing(job.state == JobState.FAILED, {one: revision for one, revision in rows})

    def triggers(self, patient_id: str, pipelines: Iterable[str]) -> set[int]:
        """Ids of the series of this patient on which one of the pipelines has a job that stands."""
        jobs = select(Job.series_id).join(Series, Series.id == Job.series_id)
        jobs = jobs.where(Series.patient_id == patient_id, Job.pipeline.in_(list(pipelines)), Job.state.in_(_STANDING))
        with self._database.read() as session:
            return set(session.scalars(jobs))

    def predecessors(self, job_id: int) -> tuple[Predecessor, ...]:
        """The reports that the result of a job continues or replaces.

        They are looked up when the job is first handed over; every further attempt gets the same, so that it makes
        the same. First the report of the fraction before, then those of earlier jobs on the same trigger that may be
        with a peer.
        """
        with self._database.write() as session:
            job = session.get_one(Job, job_id)
            if job.predecessors is None:
                found = [*_of_the_fraction_before(session, job), *_of_replaced_jobs(session, job)]
                job.predecessors = [asdict(one) for one in found]
            return tuple(Predecessor(**one) for one in job.predecessors)


def supersede_jobs_of(session: Session, series_id: int, reason: str) -> None:
    """Mark every job that used the series as superseded; what was not yet sent of their results never will be."""
    jobs = session.scalars(select(Job).join(JobInput).where(JobInput.series_id == series_id, Job.state.in_(_OPEN)))
    for job in jobs:
        _supersede(session, job, reason)


def supersede_others(session: Session, job: Job) -> None:
    """Let the job stand alone: those that its pipeline has had on the same trigger are superseded."""
    session.flush()
    for other in session.scalars(_standing(job.pipeline, job.series_id).where(Job.id != job.id)).all():
        _supersede(session, other, f"job {job.id} has taken its place, with series that came later")


def free_key(session: Session, pipeline: str, input_key: str) -> str | None:
    """The key that a job on these inputs may have; None when there is a job for them that is not superseded.

    A superseded job may have had the very same inputs: one more had come, and was then rejected.
    """
    while job := session.scalar(select(Job).where(Job.pipeline == pipeline, Job.input_key == input_key)):
        if job.state != JobState.SUPERSEDED:
            return None
        input_key = hashlib.sha256(f"{input_key}/{job.id}".encode()).hexdigest()
    return input_key


def jobs_that_wait(session: Session) -> set[int]:
    """Ids of queued jobs of which an input, such as an earlier fraction, still has to be worked on by its own job.

    Only a trigger that was acquired earlier is waited for, so no two jobs wait for each other.
    """
    before, own, earlier = aliased(Job), aliased(Series), aliased(Series)
    rows = session.execute(
        select(Job.id, own.acquired_at, own.series_instance_uid, earlier.acquired_at, earlier.series_instance_uid)
        .join(own, own.id == Job.series_id)
        .join(JobInput, JobInput.job_id == Job.id)
        .join(before, (before.series_id == JobInput.series_id) & (before.pipeline == Job.pipeline))
        .join(earlier, earlier.id == before.series_id)
        .where(Job.state == JobState.QUEUED, before.state.in_(_UNDER_WAY), before.id != Job.id)
    )
    return {job_id for job_id, at, uid, earlier_at, earlier_uid in rows if _is_before(earlier_at, earlier_uid, at, uid)}


def _is_before(one: datetime | None, one_uid: str, other: datetime | None, other_uid: str) -> bool:
    """Not asked of the database, which may order the UIDs by the rules of a language."""
    return one is not None and other is not None and (one, one_uid) < (other, other_uid)


def _standing(pipeline: str, series_id: int) -> Select[Job]:
    return select(Job).where(Job.pipeline == pipeline, Job.series_id == series_id, Job.state.in_(_STANDING))


def _supersede(session: Session, job: Job, reason: str) -> None:
    job.state, job.reason = JobState.SUPERSEDED, reason
    events.append(session, What.JOB_SUPERSEDED, f"job/{job.id}", reason)
    cancel_deliveries(session, job.id, reason)
    supersede_agreements(session, job.id, reason)


def _of_the_fraction_before(session: Session, job: Job) -> list[Predecessor]:
    """The reports of the last fraction before the trigger, among the inputs, that has any."""
    trigger = session.get_one(Series, job.series_id)
    role = session.get_one(JobInput, (job.id, job.series_id)).role
    given = select(Series).join(JobInput).where(JobInput.job_id == job.id, JobInput.role == role)
    earlier = [
        (one.acquired_at, one.series_instance_uid, one.id)
        for one in session.scalars(given)
        if _is_before(one.acquired_at, one.series_instance_uid, trigger.acquired_at, trigger.series_instance_uid)
    ]
    for *_, series_id in sorted(earlier, reverse=True):
        current = (Job.pipeline == job.pipeline, Job.series_id == series_id, Job.state == JobState.FINISHED)
        found = _reports(session, select(Result.id).join(Job).where(*current, Result.state.not_in(_NEVER_SENT)))
        if found:
            return found
    return []


def _of_replaced_jobs(session: Session, job: Job) -> list[Predecessor]:
    """The reports of superseded jobs on the same trigger that a peer was offered, and may have."""
    proved = exists(select(DeliveryProof.delivery_id).where(DeliveryProof.delivery_id == Delivery.id))
    # A delivery that was cancelled before its first attempt has reached nobody.
    offered = (Delivery.state != DeliveryState.FAILED) | (Delivery.attempts > 0) | proved
    sent = exists(select(Delivery.id).where(Delivery.result_id == Result.id, offered))
    replaced = (Job.pipeline == job.pipeline, Job.series_id == job.series_id, Job.state == JobState.SUPERSEDED)
    return _reports(session, select(Result.id).join(Job).where(*replaced, sent))


def _reports(session: Session, results: Select[int]) -> list[Predecessor]:
    rows = session.execute(
        select(ResultInstance, Series.study_instance_uid)
        .join(Result, Result.id == ResultInstance.result_id)
        .join(Job, Job.id == Result.job_id)
        .join(Series, Series.id == Job.series_id)
        .where(Result.id.in_(results), ResultInstance.sop_class_uid.in_(REPORTS))
        # How a result was judged is no part of the patient's course.
        .where(ResultInstance.is_quality_report.is_not(True))
        .order_by(ResultInstance.id)
    )
    return [
        Predecessor(
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
            series_instance_uid=one.series_instance_uid,
            # Older versions have not recorded it: results are made in the study of their trigger.
            study_instance_uid=one.study_instance_uid or study_of_trigger,
        )
        for one, study_of_trigger in rows
    ]
