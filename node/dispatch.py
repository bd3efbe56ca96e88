"""From queued jobs to orders, and from the reports of workers to results in the ledger."""

import logging
from collections.abc import Mapping
from pathlib import Path

from node.config import Config
from node.device import device_of
from node.engine import Engine
from node.ledger import Ledger
from node.ledger.jobs import JobInstances, Made
from node.ledger.schema import Job, JobState, ResultInstance
from node.ledger.trends import Process
from node.shadow import ShadowAgreements
from node.storage import Storage, page_files
from pipelines.base import Pipeline
from pipelines.execution import REPORT_NAME, JobOrder, JobReport, JobStatus, OrderedSeries

DEATHS_OF_A_POISONED_JOB = 2

log = logging.getLogger(__name__)


class Dispatch:
    """Keeps the workers busy and files what they have made."""

    def __init__(
        self, config: Config, pipelines: Mapping[str, Pipeline], ledger: Ledger, storage: Storage, engine: Engine
    ) -> None:
        self._config = config
        self._pipelines = pipelines
        self._ledger = ledger
        self._storage = storage
        self._engine = engine
        self._agreements = ShadowAgreements(config, ledger, storage, engine)

    def dispatch(self) -> None:
        """Hand queued jobs to the workers that are free."""
        self._take_back_lost()
        free = self._engine.free_slots()
        for job in self._ledger.jobs.claim(free) if free else []:
            if job.pipeline not in self._pipelines:
                self._ledger.jobs.fail(job, f"the configuration has no pipeline {job.pipeline}")
                continue
            self._engine.submit(job, self._order(job))
            log.info("job running", extra={"job": job.id, "pipeline": job.pipeline, "attempt": job.attempts})
        self._agreements.dispatch()

    def collect(self) -> None:
        """File the jobs and comparisons that have ended."""
        for ended in self._engine.ended():
            if self._agreements.is_one(ended):
                self._agreements.collect(ended)
            elif ended.report is None:
                self._failed(ended.job, ended.reason, ended.worker_died)
            elif ended.report.status is JobStatus.REJECTED:
                self._give_up(ended.job, ended.report.reason)
            else:
                self._finished(ended.job, ended.report, ended.order.output_dir)

    def _order(self, job: Job) -> JobOrder:
        settings = self._config.pipelines[job.pipeline]
        trigger, *linked = [self._ordered(one) for one in self._ledger.jobs.inputs(job.id)]
        return JobOrder(
            job_id=job.id,
            attempt=job.attempts,
            pipeline_name=job.pipeline,
            pipeline_class=settings.class_path,
            settings=settings.values(),
            trigger=trigger,
            linked=tuple(linked),
            labelling=settings.labelling.labelling(),
            quality_report=settings.quality_report,
            predecessors=self._ledger.succession.predecessors(job.id),
            output_dir=self._storage.attempt_folder(job.id, job.attempts),
        )

    def _ordered(self, given: JobInstances) -> OrderedSeries:
        paths = tuple(self._storage.absolute(path) for path in given.paths)
        return OrderedSeries(role=given.role, series_instance_uid=given.series_instance_uid, paths=paths)

    def _finished(self, job: Job, report: JobReport, output_dir: Path) -> None:
        folder = self._storage.keep_result(job.id, output_dir)
        made = Made(
            verdict=report.verdict,
            findings=report.findings,
            instances=_result_instances(report, folder),
            peers_of_modality={
                one.modality: self._config.receivers(job.pipeline, one.modality) for one in report.series
            },
            is_shadow=self._config.pipelines[job.pipeline].shadow,
            process=self._process(job),
        )
        result_id = self._ledger.jobs.finish(job, made)
        if result_id is None:
            self._storage.remove([f"{folder}/{REPORT_NAME}", *(instance.path for instance in made.instances)])
            self._storage.remove(page_files(instance.path for instance in made.instances))
            log.warning("result dropped: the job was superseded while it ran", extra={"job": job.id})
            return
        extra = {"job": job.id, "result": result_id, "verdict": report.verdict.value, "seconds": report.seconds}
        log.info("job finished", extra=extra)
        self._agreements.result_filed()

    def _process(self, job: Job) -> Process:
        """What the findings of a job are a sample of: one model with its settings on the images of one device."""
        trigger = self._ledger.jobs.inputs(job.id)[0]
        settings = self._config.pipelines[job.pipeline].trend
        device = device_of(self._storage.absolute(path) for path in trigger.paths[:1])
        return Process(device, self._pipelines[job.pipeline].settings_sha256(), settings)

    def _take_back_lost(self) -> None:
        """A job that runs for the ledger but not for the engine: handing it over or filing its result went wrong."""
        for job in self._ledger.jobs.all(JobState.RUNNING):
            if not self._engine.has(job.id):
                self._failed(job, "it could not be handed to a worker, or its result could not be filed")

    def _failed(self, job: Job, reason: str, worker_died: bool = False) -> None:
        if worker_died and job.worker_deaths + 1 >= DEATHS_OF_A_POISONED_JOB:
            self._give_up(job, f"set aside after it had killed its worker twice: {reason}")
        elif job.attempts >= self._config.node.max_attempts:
            self._give_up(job, f"failed {job.attempts} times, the last time: {reason}")
        else:
            self._ledger.jobs.try_again(job, reason, worker_died)
            log.warning("job will be tried again", extra={"job": job.id, "attempt": job.attempts})

    def _give_up(self, job: Job, reason: str) -> None:
        self._ledger.jobs.fail(job, reason)
        self._storage.remove_job(job.id)
        log.error("job failed", extra={"job": job.id, "pipeline": job.pipeline})


def _result_instances(report: JobReport, folder: str) -> list[ResultInstance]:
    return [
        ResultInstance(
            study_instance_uid=series.study_instance_uid or None,
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=instance.transfer_syntax_uid,
            path=f"{folder}/{instance.file}",
            sha256=instance.sha256,
            is_quality_report=series.is_quality_report,
        )
        for series in report.series
        for instance in series.instances
    ]
