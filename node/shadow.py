"""Results in shadow against the current ones: what the ledger has not compared goes to a worker, the values come back.

The ledger is the truth: a pair is found again after every stop and crash. The node itself looks at no pixel.
"""

import logging
from collections.abc import Iterator
from itertools import groupby

from node.config import Config
from node.engine import Ended, Engine
from node.ledger import Ledger
from node.ledger.agreements import Pair
from node.ledger.schema import Agreement
from node.storage import Storage
from pipelines.execution import JobOrder, JobStatus, OrderedSeries
from pipelines.shadow_agreement import CURRENT, SHADOW, ShadowAgreement

MEASURED_BY = f"{ShadowAgreement.__module__}:{ShadowAgreement.__qualname__}"

log = logging.getLogger(__name__)


class ShadowAgreements:
    """Has pairs of results compared, under the limits of the pipeline in shadow, when no job waits for a worker."""

    def __init__(self, config: Config, ledger: Ledger, storage: Storage, engine: Engine) -> None:
        self._config = config
        self._ledger = ledger
        self._storage = storage
        self._engine = engine
        self._shadow_of = {
            name: one.shadow_of for name, one in config.pipelines.items() if one.enabled and one.shadow_of is not None
        }
        self._handed_over: dict[int, Agreement] = {}
        """By the id of the job in shadow, which has finished: the engine knows the comparison by it."""
        self._may_wait = True
        """Whether the ledger may hold a pair that waits: it is not asked at every turn of the loop."""

    def dispatch(self) -> None:
        """Hand pairs to the workers that are free."""
        for agreement, job_id in self._ledger.agreements.running():
            if not self._engine.has(job_id):
                self._failed(agreement, "it could not be handed to a worker, or the node ended while it ran")
        free = self._engine.free_slots() if self._may_wait else 0
        if not free:
            return
        waiting = self._ledger.agreements.unmeasured(self._shadow_of)
        # One that a worker still compares with a result that was superseded has to end first.
        for pair in [one for one in waiting if not self._engine.has(one.shadow_job.id)][:free]:
            self._start(pair)
        self._may_wait = bool(waiting)

    def result_filed(self) -> None:
        """A pair may be complete now."""
        self._may_wait = True

    def is_one(self, ended: Ended) -> bool:
        """Whether a comparison has ended, and not a job."""
        return ended.order.pipeline_class == MEASURED_BY

    def collect(self, ended: Ended) -> None:
        """File what came back."""
        agreement = self._handed_over.pop(ended.job.id)
        self._may_wait = True
        extra = {"job": ended.job.id, "agreement": agreement.id}
        if ended.report is None:
            self._failed(agreement, ended.reason)
        elif ended.report.status is JobStatus.REJECTED:
            self._ledger.agreements.fail(agreement, ended.report.reason)
            log.warning("agreement can not be measured", extra=extra)
        else:
            trend = self._config.pipelines[ended.job.pipeline].trend
            is_kept = self._ledger.agreements.finish(agreement, ended.report.findings, trend)
            log.info("agreement measured" if is_kept else "agreement dropped: a result was superseded", extra=extra)
        self._storage.remove_job(ended.job.id)

    def _start(self, pair: Pair) -> None:
        agreement = self._ledger.agreements.start(pair)
        if agreement is None:
            return
        self._engine.submit(pair.shadow_job, self._order(pair, agreement))
        self._handed_over[pair.shadow_job.id] = agreement

    def _order(self, pair: Pair, agreement: Agreement) -> JobOrder:
        job_id = pair.shadow_job.id
        trigger, *_ = self._ledger.jobs.inputs(job_id)
        paths = tuple(self._storage.absolute(path) for path in trigger.paths)
        return JobOrder(
            job_id=job_id,
            attempt=agreement.attempts,
            pipeline_name="shadow_agreement",
            pipeline_class=MEASURED_BY,
            settings={},
            trigger=OrderedSeries(role=trigger.role, series_instance_uid=trigger.series_instance_uid, paths=paths),
            linked=(*self._made(SHADOW, pair.shadow_result_id), *self._made(CURRENT, pair.current_result_id)),
            quality_report=False,
            output_dir=self._storage.attempt_folder(job_id, agreement.attempts),
        )

    def _made(self, role: str, result_id: int) -> Iterator[OrderedSeries]:
        """The series of a result, without the one that tells how it was judged."""
        instances = [one for one in self._ledger.jobs.result_instances(result_id) if not one.is_quality_report]
        for uid, of_series in groupby(instances, lambda one: one.series_instance_uid):
            paths = tuple(self._storage.absolute(one.path) for one in of_series)
            yield OrderedSeries(role=role, series_instance_uid=uid, paths=paths)

    def _failed(self, agreement: Agreement, reason: str) -> None:
        if agreement.attempts >= self._config.node.max_attempts:
            self._ledger.agreements.fail(agreement, f"failed {agreement.attempts} times, the last time: {reason}")
            log.error("agreement failed", extra={"agreement": agreement.id})
        else:
            self._ledger.agreements.try_again(agreement, reason)
            self._may_wait = True
