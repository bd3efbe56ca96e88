"""A ledger on PostgreSQL and workers of a Dask cluster that runs by itself: what a larger site has."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from node.ledger.schema import Job
from tests.ct import new_ct_series
from tests.dcmtk import free_port
from tests.pacs import Pacs, pacs, send
from tests.peers import new_database
from tests.system.node_process import REPOSITORY, NodeProcess, copying, node_process
from tests.trials import attempts
from tests.waiting import wait_until

STUDIES, WORKERS = 5, 2


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Address of a Dask scheduler with two workers, started at the command line as a site does it."""
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = ["scheduler", "--host", address, "--no-dashboard"]
    worker = ["worker", address, "--nthreads", "1", "--no-dashboard", "--memory-limit", "4GiB"]
    with dask(tmp_path / "scheduler.log", scheduler), dask(tmp_path / "worker-1.log", worker):
        with dask(tmp_path / "worker-2.log", worker):
            yield address


@contextmanager
def dask(log: Path, arguments: list[str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
            cwd=REPOSITORY,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
    try:
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(timeout=30)
        _, alive = psutil.wait_procs(children, timeout=20)
        for one in alive:
            one.kill()


def test_every_job_ends_once_though_a_worker_is_killed(cluster: str, postgresql: str, tmp_path: Path) -> None:
    (tmp_path / "trial").mkdir()
    settings = {"folder": str(tmp_path / "trial"), "trouble": "waits", "attempts_in_trouble": 1}
    pipelines = {"copy": copying("PACS", settings=settings) | {"class": "tests.trials:TrialCopy"}}
    shared: dict[str, Any] = {"engine": cluster, "ledger": new_database(postgresql)}
    with (
        pacs() as peer,
        node_process(tmp_path / "node", {"PACS": peer.peer()}, pipelines, settings=shared) as node,
    ):
        for _ in range(STUDIES):
            assert set(send(new_ct_series(), node.address)) == {0x0000}
        wait_until(lambda: attempts(tmp_path / "trial"))
        os.kill(attempts(tmp_path / "trial")[0], signal.SIGKILL)
        assert_all_finished(node, peer)
    assert len(attempts(tmp_path / "trial")) == STUDIES + 1


def assert_all_finished(node: NodeProcess, peer: Pacs) -> None:
    wait_until(lambda: len(peer.sop_instance_uids) == STUDIES * 5, 120)
    node.wait_until_idle()
    jobs = node.jobs()
    assert [job.state for job in jobs] == ["finished"] * STUDIES
    assert sorted(deaths(jobs)) == [0] * (STUDIES - 1) + [1]
    assert len(peer.datasets) == STUDIES * 5
    assert sum(bool(association.datasets) for association in peer.associations) == STUDIES


def deaths(jobs: list[Job]) -> list[int]:
    return [job.worker_deaths for job in jobs]
