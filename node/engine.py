"""Hands jobs to workers, through Dask: a cluster of its own on this machine, or any cluster that runs already.

The ledger is the queue and the truth. Never more jobs are handed over than there are workers, so that the death of a
worker concerns one job; whatever a vanished worker or scheduler had goes back to the queue.
"""

import copy
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dask
from distributed import Client, Future, KilledWorker, LocalCluster
from pydantic import ValidationError

from node.config import Limits, NodeSettings, PipelineSettings
from node.errors import NodeError
from node.ledger.schema import Job
from node.worker import DEATH_NOTE, WarmUp, WorkerDied, has_begun, run_job, stacks_at_time_limit
from pipelines.execution import REPORT_NAME, JobOrder, JobReport

OVERTIME_S = 30.0
"""How long the node waits, after the time limit, for the worker to end itself."""
BEGIN_WITHIN_S = 600.0
"""How long a job may lie with a worker that has not begun it: a new worker first loads every network."""
CONNECT_TIMEOUT_S = 30
RECONNECT_TIMEOUT_S = 3
WITHOUT_WORKERS_S = 30.0
"""How long the workers of this machine may be away together; a new process takes a few seconds."""
RECONNECT_EVERY_S = 15.0
"""A cluster that is away is looked for briefly and seldom: the node's other work goes on in between."""
_DASK_SETTINGS = {
    # One death of a worker ends the attempt; the ledger counts attempts, Dask does not.
    "distributed.scheduler.allowed-failures": 0,
    # The node has its own limits; spilling to disk would write patient data elsewhere.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # No pages and no metrics over HTTP: they would tell anyone on the machine what runs.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.tick.limit": "1h",
}
_KEEP_LOST_WORKERS = {"distributed.deploy.lost-worker-timeout": "3650 days"}
"""For as long as the node runs: Dask reads it whenever a worker dies.

By itself it looks 15 s after each death whether a worker is there. When another has died meanwhile and its successor
still starts, Dask ends that one, with the job that it has just been given, and never replaces it.
"""

WORKER_MEMORY = {
    # Dask's own settings give every freed block back to the system, and a network pays for new pages with each layer:
    # with these it takes half of the time or less.
    "MALLOC_TRIM_THRESHOLD_": 2**30,
    "MALLOC_MMAP_THRESHOLD_": 2**30,
    "MALLOC_TOP_PAD_": 2**26,
}
"""Environment of a worker process (mallopt(3)), bytes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """An order that is not running any more, of this job or about its result: the report, or why there is none."""

    job: Job
    order: JobOrder
    report: JobReport | None = None
    reason: str = ""
    worker_died: bool = False


@dataclass
class _Running:
    job: Job
    order: JobOrder
    future: "Future[None]"
    limits: Limits
    handed_over_s: float
    begun_s: float | None = None
    """When the node first saw that a worker had begun it; only from then on does its time run."""
    killed_because: str = ""
    """Why the node has killed its worker, if it has."""


class Engine:
    """The jobs that are running, and the workers that run them."""

    def __init__(
        self, settings: NodeSettings, pipelines: Mapping[str, PipelineSettings], wake: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._pipelines = {name: pipeline for name, pipeline in pipelines.items() if pipeline.enabled}
        self._wake = wake
        self._running: dict[int, _Running] = {}
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._reconnect_at_s = 0.0
        self._workers_seen_s = 0.0

    def start(self) -> None:
        """Start the workers, or connect to those that run already.

        Raises
        ------
        NodeError
            If the cluster of the configuration does not answer.
        """
        threads = arithmetic_threads(self._settings.workers)
        environment = {**WORKER_MEMORY, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        # A copy: Dask appends to the lists that it is given.
        settings = copy.deepcopy(_DASK_SETTINGS) | {"distributed.nanny.pre-spawn-environ": environment}
        dask.config.set(_KEEP_LOST_WORKERS)
        with dask.config.set(settings):
            if self._settings.engine == "local":
                self._cluster = LocalCluster(
                    n_workers=self._settings.workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    memory_limit=self._worker_memory(),
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.ERROR,
                )
            try:
                self._connect(CONNECT_TIMEOUT_S)
            except OSError as error:
                raise NodeError(
                    f"the workers at {self._settings.engine} do not answer (engine in node.yaml)"
                ) from error
        self._workers_seen_s = time.monotonic()

    def stop(self) -> None:
        """End the workers of this machine; what they were doing is queued again at the next start."""
        if self._client:
            self._client.close(timeout=5)
        if self._cluster:
            self._cluster.close(timeout=10)

    def free_slots(self) -> int:
        """How many more jobs may be handed over."""
        if self._client is None or self._client.status != "running":
            return 0
        threads: Mapping[str, int] = self._client.nthreads()
        if threads or self._cluster is None:
            self._workers_seen_s = time.monotonic()
        elif time.monotonic() - self._workers_seen_s > WITHOUT_WORKERS_S:
            self._start_again()
        return max(0, sum(threads.values()) - len(self._running))

    def submit(self, job: Job, order: JobOrder) -> None:
        """Hand a job to the next free worker."""
        assert self._client is not None
        limits = self._pipelines[job.pipeline].limits
        handed_over_s = time.monotonic()
        future = self._client.submit(
            run_job,
            order,
            limits.time_s,
            limits.memory_gib,
            key=f"job-{job.id}-{job.attempts}-{time.time_ns()}",
            pure=False,
            resources=limits.resources or None,
        )
        self._running[job.id] = _Running(job, order, future, limits, handed_over_s)
        future.add_done_callback(lambda _: self._wake())

    def _start_again(self) -> None:
        """Dask gives a worker up whose new process did not start once, or died before its nanny knew that it ran."""
        log.error("no worker is left: all are started again")
        self.stop()
        self.start()

    def has(self, job_id: int) -> bool:
        """Whether the job is running."""
        return job_id in self._running

    def ended(self) -> Iterator[Ended]:
        """The jobs that have ended since the last call; each is forgotten when it is handed out."""
        self._reconnect_if_lost()
        for running in list(self._running.values()):
            ended = self._if_ended(running)
            if ended is not None:
                del self._running[running.job.id]
                yield ended

    def _if_ended(self, running: _Running) -> Ended | None:
        future = running.future
        if future.status == "finished":
            return _finished(running)
        if future.status in ("cancelled", "lost"):
            return Ended(running.job, running.order, reason="the scheduler of the workers vanished")
        if future.status == "error":
            return _failed(running, future.exception())
        if self._is_overdue(running):
            return self._take_away(running)
        return None

    def _is_overdue(self, running: _Running) -> bool:
        """Not even the worker's own watchdog has ended the job, or no worker has begun it."""
        now_s = time.monotonic()
        if running.begun_s is None and has_begun(running.order):
            running.begun_s = now_s
        if running.begun_s is None:
            return now_s - running.handed_over_s > BEGIN_WITHIN_S
        return now_s - running.begun_s > running.limits.time_s + OVERTIME_S

    def _take_away(self, running: _Running) -> Ended | None:
        """The worker is stopped, or hangs while it starts, or there never was one."""
        assert self._client is not None
        processing = self._client.processing()
        workers = [address for address, keys in processing.items() if running.future.key in keys]
        has_run = running.begun_s is not None
        reason = _time_is_over(running.limits) if has_run else _not_begun(running.limits)
        if workers and self._cluster:
            # The job ends with its worker, as soon as the scheduler has noticed; no other job is given to it before.
            running.killed_because = reason
            _kill(self._cluster, workers)
            return None
        running.future.cancel(force=True)
        return Ended(running.job, running.order, reason=reason, worker_died=has_run)

    def _worker_memory(self) -> int:
        """Dask's own limit, bytes: a backstop above the largest limit of a pipeline."""
        largest_gib = max((pipeline.limits.memory_gib for pipeline in self._pipelines.values()), default=8.0)
        return int((largest_gib + 1) * 2**30)

    def _connect(self, timeout_s: float) -> None:
        address = self._cluster or self._settings.engine
        self._client = Client(address, timeout=timeout_s, set_as_default=False, name="rtnode")
        plugin = WarmUp(tuple((name, one.class_path, one.values()) for name, one in self._pipelines.items()))
        self._client.register_plugin(plugin, name="rtnode-warm-up")

    def _reconnect_if_lost(self) -> None:
        connected = self._client is not None and self._client.status in ("running", "connecting")
        if connected or time.monotonic() < self._reconnect_at_s:
            return
        log.error("no connection to the workers")
        self._reconnect_at_s = time.monotonic() + RECONNECT_EVERY_S
        if self._client is not None:
            self._client.close(timeout=1)
            self._client = None
        self._connect(RECONNECT_TIMEOUT_S)


def arithmetic_threads(workers: int) -> int:
    """How many threads each of so many workers computes with: what OMP_NUM_THREADS says, else its part of all."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(asked) if asked.isdecimal() else (os.cpu_count() or 1) // workers)


def _kill(cluster: LocalCluster, workers: Sequence[str]) -> None:
    """End workers of this machine; their nannies start new ones, or the engine does when none is left."""
    known = cluster.scheduler.workers if cluster.scheduler else {}
    # By the nanny's own address: it learns that of its worker only after the worker has loaded the networks.
    nannies = {known[address].nanny for address in workers if address in known}
    for nanny in cluster.workers.values():
        if nanny.address in nannies and nanny.pid:
            os.kill(nanny.pid, signal.SIGKILL)


def _finished(running: _Running) -> Ended:
    """The report is read from the folder: the worker that wrote it may be gone already."""
    try:
        report = JobReport.model_validate_json((running.order.output_dir / REPORT_NAME).read_bytes())
    except (OSError, ValidationError) as error:
        return Ended(running.job, running.order, reason=f"its report can not be read: {type(error).__name__}")
    return Ended(running.job, running.order, report=report)


def _failed(running: _Running, error: BaseException) -> Ended:
    if not isinstance(error, KilledWorker | WorkerDied):
        return Ended(running.job, running.order, reason=f"{type(error).__name__}: {error}")
    # A worker that died before it had begun the job was not killed by it.
    return Ended(running.job, running.order, reason=_cause_of_death(running), worker_died=has_begun(running.order))


def _cause_of_death(running: _Running) -> str:
    """What whoever ended the worker has left word of; a worker without a word died by itself, or by a stranger."""
    note = running.order.output_dir / DEATH_NOTE
    if note.is_file():
        return note.read_text()
    stacks = stacks_at_time_limit(running.order)
    if stacks:
        log.warning("job ended by its time limit", extra={"job": running.job.id, "stacks": stacks})
        return _time_is_over(running.limits)
    if running.killed_because:
        return running.killed_because
    return "its worker process died" if has_begun(running.order) else "its worker process died before it had begun"


def _time_is_over(limits: Limits) -> str:
    return f"took longer than its limit of {limits.time_s:g} s"


def _not_begun(limits: Limits) -> str:
    offered = limits.resources or "none"
    return f"no worker began it within {BEGIN_WITHIN_S:g} s; the resources that it asks for: {offered}"
