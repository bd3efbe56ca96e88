"""What a worker process does with one job: limits around the pipeline. It knows paths, neither ledger nor network.

Whoever ends a worker leaves word of it beside the attempt: the node must not guess the cause from its own clock.
"""

import faulthandler
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil
from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin

from node.log import hush_libraries
from pipelines.execution import JobOrder, execute, load_pipeline

DEATH_NOTE = "death.txt"
"""File in the attempt's folder in which a worker says that it ends itself for its memory."""
MEMORY_CHECK_S = 0.1
BYTES_PER_GIB = 2**30
EXIT_LIMIT = 70
"""Exit status of a worker that ends itself (sysexits.h: internal software error)."""


class WorkerDied(Exception):
    """The worker that had begun this attempt is gone."""


def run_job(order: JobOrder, time_s: float, memory_gib: float) -> None:
    """Run one job; a job that passes a limit takes the process with it, for nothing gentler stops a hung extension.

    Raises
    ------
    WorkerDied
        If the attempt had begun before: a scheduler that was not told otherwise hands the task of a dead worker to the
        next one, but the ledger counts attempts.
    """
    try:
        marker = _begun_marker(order).open("x")
    except FileExistsError as error:
        raise WorkerDied(f"the worker of attempt {order.attempt} of job {order.job_id} died") from error
    with marker, _time_limit(time_s, marker), _memory_limit(memory_gib, order.output_dir):
        execute(order)


def has_begun(order: JobOrder) -> bool:
    """Whether a worker has begun the attempt; before that it may still load its networks."""
    return _begun_marker(order).is_file()


def stacks_at_time_limit(order: JobOrder) -> str:
    """Where every thread of the worker was when its watchdog ended it; empty when it did not."""
    return _begun_marker(order).read_text(errors="replace") if has_begun(order) else ""


def _begun_marker(order: JobOrder) -> Path:
    """Beside the folder of the attempt, which becomes the result."""
    return order.output_dir.with_suffix(".begun")


class WarmUp(WorkerPlugin):
    """Imports the pipelines and verifies their weights when a worker starts, before the first job needs them."""

    def __init__(self, pipelines: tuple[tuple[str, str, dict[str, object]], ...]) -> None:
        self._pipelines = pipelines

    def setup(self, worker: Worker) -> None:
        """Called by the worker."""
        hush_libraries()
        # What is loaded stays as long as the process: no collection of garbage need look at it, now or later.
        gc.disable()
        try:
            for name, class_path, settings in self._pipelines:
                load_pipeline(name, class_path, settings)
        finally:
            gc.freeze()
            gc.enable()


@contextmanager
def _time_limit(time_s: float, stacks: TextIO) -> Iterator[None]:
    """The watchdog is a C thread: it fires, and leaves the stacks, even while an extension holds the lock of Python."""
    faulthandler.dump_traceback_later(time_s, exit=True, file=stacks)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _memory_limit(memory_gib: float, folder: Path) -> Iterator[None]:
    done = threading.Event()
    watch = threading.Thread(target=_watch_memory, args=(memory_gib, folder, done), daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def _watch_memory(memory_gib: float, folder: Path, done: threading.Event) -> None:
    process = psutil.Process()
    while not done.wait(MEMORY_CHECK_S):
        used_gib = process.memory_info().rss / BYTES_PER_GIB
        if used_gib > memory_gib:
            try:
                (folder / DEATH_NOTE).write_text(f"used {used_gib:.1f} GiB, more than its limit of {memory_gib:g} GiB")
            finally:
                # Also on a full disk: without its note the limit still holds.
                os._exit(EXIT_LIMIT)
