"""The ledger's account of jobs and their results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from node.errors import NodeError
from node.ledger import events
from node.ledger.database import Database
from node.ledger.deliveries import queue_deliveries
from node.ledger.events import What
from node.ledger.schema import (
    Instance,
    InstanceState,
    Job,
    JobInput,
    JobState,
    Result,
    ResultInstance,
    ResultState,
    Series,
)
from node.ledger.succession import free_key, jobs_that_wait, supersede_others
from node.ledger.trends import Process, add_points
from pipelines.stability import Finding, Verdict


@dataclass(frozen=True)
class LinkedSeries:
    """A series in the role that a job has for it."""

    role: str
    series: Series


@dataclass(frozen=True)
class JobInstances:
    """A series of a job's inputs with the files that make it up."""

    role: str
    series_instance_uid: str
    is_trigger: bool
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """What a finished job has made, as it goes into the ledger."""

    verdict: Verdict
    findings: Sequence[Finding]
    instances: Sequence[ResultInstance]
    peers_of_modality: Mapping[str, Sequence[str]]
    is_shadow: bool = False
    """Whatever the verdict, it is sent to nobody, and nobody has to decide on it."""
    process: Process | None = None
    """Whose control charts the findings go into; None: into none."""


class JobLedger:
    """Jobs and results."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def queue(self, pipeline: str, input_key: str, inputs: Sequence[LinkedSeries], remark: str | None = None) -> bool:
        """Queue a job on these inputs, the first being its trigger; False if there is one for them already.

        It takes the place of a job that the pipeline has on the same trigger. `remark` is what a person should know of
        the choice of its inputs.
        """
        trigger = inputs[0].series
        with self._database.write() as session:
            key = free_key(session, pipeline, input_key)
            if key is None or not _still_as_routed(session, inputs):
                return False
            job = _waiting_job(session, pipeline, trigger.id) or Job(
                pipeline=pipeline, series_id=trigger.id, created_at=datetime.now(UTC)
            )
            job.input_key, job.state, job.reason = key, JobState.QUEUED, remark
            session.add(job)
            session.flush()
            for one in inputs:
                # The trigger of a job that has waited is there already, without its role.
                session.merge(
                    JobInput(job_id=job.id, series_id=one.series.id, role=one.role, revision=one.series.revision)
                )
            events.append(session, What.JOB_QUEUED, f"job/{job.id}", remark)
            supersede_others(session, job)
        return True

    def wait(self, pipeline: str, trigger: Series, reason: str, fetch_until: datetime) -> None:
        """Record that a job lacks something, in plain words; one such job for each revision of its trigger."""
        with self._database.write() as session:
            if not _still_as_routed(session, [LinkedSeries("", trigger)]):
                return
            job = _waiting_job(session, pipeline, trigger.id)
            if job is None:
                job = Job(
                    pipeline=pipeline,
                    series_id=trigger.id,
                    input_key=f"waiting/{trigger.id}/{trigger.revision}",
                    state=JobState.WAITING,
                    created_at=datetime.now(UTC),
                    fetch_until=fetch_until,
                )
                session.add(job)
                session.flush()
                session.add(JobInput(job_id=job.id, series_id=trigger.id, role="", revision=trigger.revision))
                supersede_others(session, job)
            if job.reason != reason:
                job.reason = reason
                events.append(session, What.JOB_WAITING, f"job/{job.id}", reason)

    def claim(self, at_most: int) -> list[Job]:
        """Take the oldest queued jobs to run them, each after those on its earlier fractions; counts as an attempt."""
        with self._database.write() as session:
            waiting = jobs_that_wait(session)
            queued = select(Job).where(Job.state == JobState.QUEUED).order_by(Job.id).limit(at_most + len(waiting))
            jobs = [job for job in session.scalars(queued) if job.id not in waiting][:at_most]
            for job in jobs:
                job.state, job.started_at = JobState.RUNNING, datetime.now(UTC)
                job.attempts += 1
                events.append(session, What.JOB_RUNNING, f"job/{job.id}", f"attempt {job.attempts}")
            return jobs

    def inputs(self, job_id: int) -> list[JobInstances]:
        """The files that a job works on, the trigger first."""
        with self._database.read() as session:
            job = session.get_one(Job, job_id)
            rows = session.execute(
                select(JobInput, Series).join(Series).where(JobInput.job_id == job_id).order_by(JobInput.series_id)
            ).all()
            found = [
                JobInstances(
                    given.role, series.series_instance_uid, series.id == job.series_id, _paths(session, series.id)
                )
                for given, series in rows
            ]
        return sorted(found, key=lambda one: not one.is_trigger)

    def finish(self, job: Job, made: Made) -> int | None:
        """Record the result, and queue its deliveries when it is released.

        Returns the result's id, or None when the job was superseded while it ran: nothing is kept then.
        """
        with self._database.write() as session:
            row = session.get_one(Job, job.id)
            if row.state != JobState.RUNNING or row.attempts != job.attempts:
                return None
            row.state, row.finished_at, row.reason = JobState.FINISHED, datetime.now(UTC), None
            events.append(session, What.JOB_FINISHED, f"job/{row.id}")
            result = _new_result(session, row.id, made)
            if made.process is not None:
                add_points(session, row.pipeline, result, made.findings, made.process)
            if result.state == ResultState.RELEASED:
                queue_deliveries(session, result.id, made.instances, made.peers_of_modality)
            return result.id

    def try_again(self, job: Job, reason: str, worker_died: bool) -> None:
        """Put a running job back into the queue."""
        with self._database.write() as session:
            row = session.get_one(Job, job.id)
            if row.state == JobState.RUNNING and row.attempts == job.attempts:
                row.worker_deaths += worker_died
                row.state, row.reason = JobState.QUEUED, reason
                events.append(session, What.JOB_QUEUED, f"job/{row.id}", reason)

    def fail(self, job: Job, reason: str) -> None:
        """Record that a running job will not be tried again."""
        with self._database.write() as session:
            row = session.get_one(Job, job.id)
            if row.state == JobState.RUNNING and row.attempts == job.attempts:
                row.state, row.reason, row.finished_at = JobState.FAILED, reason, datetime.now(UTC)
                events.append(session, What.JOB_FAILED, f"job/{row.id}", reason)

    def put_back(self) -> None:
        """Queue again what is running when the node is stopped in good order: that is no attempt."""
        with self._database.write() as session:
            for job in _running(session):
                job.state = JobState.QUEUED
                job.attempts -= 1
                events.append(session, What.JOB_QUEUED, f"job/{job.id}", "the node was stopped while it ran")

    def recover(self, max_attempts: int) -> int:
        """Queue again what was running when the node died; returns how many jobs.

        It counts as an attempt: a job that brings the whole node down must not do so for ever.
        """
        with self._database.write() as session:
            jobs = _running(session)
            for job in jobs:
                is_last = job.attempts >= max_attempts
                job.state = JobState.FAILED if is_last else JobState.QUEUED
                job.reason = f"the node died {job.attempts} times while it ran" if is_last else "the node died"
                what = What.JOB_FAILED if is_last else What.JOB_QUEUED
                events.append(session, what, f"job/{job.id}", job.reason)
            return len(jobs)

    def retry(self, job_id: int, who: str) -> bool:
        """Queue a failed job once more, as if it were new; False if it has not failed.

        Raises
        ------
        NodeError
            If the retention time of its inputs is over: failed jobs keep no patient's images for ever.
        """
        with self._database.write() as session:
            job = session.get(Job, job_id)
            if job is None or job.state != JobState.FAILED:
                return False
            if _has_lost_inputs(session, job_id):
                raise NodeError(
                    f"job {job_id} can not be tried again: files of its inputs are gone; send the series once more"
                )
            job.state, job.reason, job.attempts, job.worker_deaths = JobState.QUEUED, None, 0, 0
            events.append(session, What.JOB_QUEUED, f"job/{job.id}", "tried again by hand", who)
            return True

    def get(self, job_id: int) -> Job | None:
        """The job of this id."""
        with self._database.read() as session:
            return session.get(Job, job_id)

    def all(self, state: JobState | None = None, limit: int | None = None) -> list[Job]:
        """Jobs, the newest first."""
        query = select(Job).order_by(Job.id.desc()).limit(limit)
        with self._database.read() as session:
            return list(session.scalars(query.where(Job.state == state) if state else query))

    def triggers_waiting(self, patient_id: str) -> list[Series]:
        """The series of this patient on which a job would start that still waits."""
        with self._database.read() as session:
            return list(session.scalars(_triggers(JobState.WAITING).where(Series.patient_id == patient_id)))

    def triggers_superseded_with(self, series_id: int) -> list[Series]:
        """The series on which jobs had started that were superseded when this one was opened again."""
        used = select(JobInput.job_id).where(JobInput.series_id == series_id)
        with self._database.read() as session:
            return list(session.scalars(_triggers(JobState.SUPERSEDED, Job.id.in_(used))))

    def triggers_to_fetch_for(self) -> list[Series]:
        """The series on which a job would start whose time for fetching what it lacks is not over."""
        with self._database.read() as session:
            return list(session.scalars(_triggers(JobState.WAITING, Job.fetch_until > datetime.now(UTC))))

    def result_of(self, job_id: int) -> Result | None:
        """What the job has made."""
        with self._database.read() as session:
            return session.scalar(select(Result).where(Result.job_id == job_id))

    def result_instances(self, result_id: int) -> list[ResultInstance]:
        """The instances of a result, in the order in which they were made."""
        with self._database.read() as session:
            rows = select(ResultInstance).where(ResultInstance.result_id == result_id).order_by(ResultInstance.id)
            return list(session.scalars(rows))

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.read() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
            return {str(state): count for state, count in rows}


_RESULT_EVENTS = {
    ResultState.HELD: What.RESULT_HELD,
    ResultState.RELEASED: What.RESULT_RELEASED,
    ResultState.SHADOW: What.RESULT_IN_SHADOW,
}


def _new_result(session: Session, job_id: int, made: Made) -> Result:
    judged = ResultState.HELD if made.verdict is Verdict.HOLD else ResultState.RELEASED
    state = ResultState.SHADOW if made.is_shadow else judged
    result = Result(
        job_id=job_id,
        state=state,
        verdict=made.verdict,
        findings=[finding.model_dump(mode="json") for finding in made.findings],
        created_at=datetime.now(UTC),
    )
    session.add(result)
    session.flush()
    for instance in made.instances:
        instance.result_id = result.id
    session.add_all(made.instances)
    session.flush()
    events.append(session, _RESULT_EVENTS[state], f"result/{result.id}", made.verdict)
    return result


def _still_as_routed(session: Session, inputs: Iterable[LinkedSeries]) -> bool:
    """Whether no series was opened again since routing looked at it."""
    rows = [(session.get_one(Series, one.series.id), one.series) for one in inputs]
    return all(row.revision == seen.revision and row.state == seen.state for row, seen in rows)


def _waiting_job(session: Session, pipeline: str, series_id: int) -> Job | None:
    return session.scalar(
        select(Job).where(Job.pipeline == pipeline, Job.series_id == series_id, Job.state == JobState.WAITING)
    )


def _has_lost_inputs(session: Session, job_id: int) -> bool:
    series = select(JobInput.series_id).where(JobInput.job_id == job_id)
    lost = select(Instance.id).where(
        Instance.series_id.in_(series), Instance.state == InstanceState.RECEIVED, Instance.path.is_(None)
    )
    return session.scalar(lost.limit(1)) is not None


def _running(session: Session) -> list[Job]:
    return list(session.scalars(select(Job).where(Job.state == JobState.RUNNING)))


def _triggers(state: JobState, *conditions: ColumnElement[bool]) -> Select[Series]:
    """Each series once on which jobs of this state and these conditions start."""
    # Not DISTINCT: PostgreSQL can not compare rows that hold JSON.
    return select(Series).where(Series.id.in_(select(Job.series_id).where(Job.state == state, *conditions)))


def _paths(session: Session, series_id: int) -> tuple[str, ...]:
    rows = select(Instance.path).where(Instance.series_id == series_id, Instance.state == InstanceState.RECEIVED)
    return tuple(path for path in session.scalars(rows.order_by(Instance.id)) if path is not None)
