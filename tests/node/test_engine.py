"""Jobs that hang, die, fail or eat: each costs itself, and nobody else."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest
from distributed import Client, Future
from pydicom import Dataset

from node import engine
from node.config import NodeSettings
from node.errors import NodeError
from node.ledger.schema import Job, JobState
from tests.ct import new_ct_series
from tests.pacs import send
from tests.peers import PEERS, RunningNode, config_folder, running_node
from tests.trials import Trouble, attempts
from tests.waiting import wait_until

TIME_S = 1.5
THREADS = 7
"""For the arithmetic of a worker, of which these tests need none."""
TIMED = {"hangs", "hangs_once", "hangs_unseen", "holds_the_interpreter", "backtracks", "stops"}
TROUBLES: dict[str, dict[str, Any]] = {
    **{trouble.name.lower(): {"trouble": trouble.value} for trouble in Trouble},
    "hangs_once": {"trouble": "hangs", "attempts_in_trouble": 1},
    "hangs_unseen": {"trouble": "hangs", "attempts_in_trouble": 1},
    "asks_too_much": {},
    "dies_once": {"trouble": "dies", "attempts_in_trouble": 1},
    "holds_the_interpreter": {"trouble": "holds the interpreter", "attempts_in_trouble": 1},
    "backtracks": {"trouble": "backtracks", "attempts_in_trouble": 1},
    "eats_memory": {"trouble": "eats memory", "attempts_in_trouble": 1},
    "stops": {"trouble": "stops", "attempts_in_trouble": 1},
    "fails_once": {"trouble": "fails", "attempts_in_trouble": 1},
}
SERIES_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
ENDED = (JobState.FINISHED, JobState.FAILED, JobState.SUPERSEDED)


def pipeline(folder: Path, name: str) -> dict[str, Any]:
    (folder / name).mkdir(exist_ok=True)
    limits: dict[str, Any] = {"time_s": TIME_S if name in TIMED else 600, "memory_gib": 1.5}
    if name == "asks_too_much":
        limits["resources"] = {"GPU": 1}
    return {
        "class": "tests.trials:TrialCopy",
        "settings": {"folder": str(folder / name), **TROUBLES[name]},
        "when": {"role": name},
        "limits": limits,
    }


def config(folder: Path, **settings: Any) -> Path:
    """A node with one pipeline for each trouble; a series chooses it by its description."""
    roles = [{"role": name, "all": {"SeriesDescription": name}} for name in TROUBLES]
    pipelines = {name: pipeline(folder, name) for name in TROUBLES}
    # A machine that is busy with other tests may take more than a second to write one instance.
    settle = {"grace_s": 0.05, "quiet_s": 5.0}
    return config_folder(folder, {"max_attempts": 2, "settle": settle, **settings}, PEERS, roles, pipelines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[RunningNode]:
    """One node with one worker for all tests: each leaves it in order for the next."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", str(THREADS))
        with running_node(config(folder)) as one:
            yield one


@pytest.fixture
def ended(node: RunningNode) -> Callable[[str], Job]:
    """The job of a series that meets this trouble, when it is over."""

    def run(trouble: str) -> Job:
        return wait_for_end(node, sent(node, trouble))

    return run


def sent(node: RunningNode, trouble: str) -> list[Dataset]:
    series = new_ct_series(SeriesDescription=trouble, patient_id=trouble)
    assert set(send(series, node.address)) == {0x0000}
    return series


def jobs_of(node: RunningNode, series: list[Dataset]) -> list[Job]:
    """The jobs that the series has started, the oldest first."""
    row = node.series(series[0])
    return [job for job in reversed(node.node.ledger.jobs.all()) if job.series_id == row.id]


def wait_for_end(node: RunningNode, series: list[Dataset]) -> Job:
    def last() -> Job | None:
        return jobs_of(node, series)[-1] if jobs_of(node, series) else None

    wait_until(lambda: (job := last()) is not None and job.state in ENDED, deadline_s=120)
    (job,) = jobs_of(node, series)
    return job


def reasons(node: RunningNode, job: Job) -> list[str]:
    return [event.why for event in node.node.ledger.events.of(f"job/{job.id}") if event.why]


@contextmanager
def stopped_worker(node: RunningNode, folder: Path) -> Iterator[int]:
    """The only worker does nothing, as one that still loads its networks; its process id."""
    wait_for_end(node, sent(node, "none"))
    pid = attempts(folder / "none")[-1]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)


def hand_over(node: RunningNode, trouble: str) -> list[Dataset]:
    """Send a series and wait until its job is with a worker."""
    series = sent(node, trouble)
    wait_until(lambda: any(node.node._engine.has(job.id) for job in jobs_of_known(node, series)))
    return series


def jobs_of_known(node: RunningNode, series: list[Dataset]) -> list[Job]:
    return jobs_of(node, series) if node.has(series[0]) else []


def next_turn(node: RunningNode) -> None:
    """Wait until the service loop begins another round."""
    before_s = node.node._turned_s
    wait_until(lambda: node.node._turned_s != before_s)


@pytest.mark.parametrize("trouble", ["hangs_once", "holds_the_interpreter", "backtracks"])
@pytest.mark.req("NODE-08")
def test_a_job_over_its_time_is_ended_and_tried_again(
    node: RunningNode, ended: Callable[[str], Job], trouble: str
) -> None:
    job = ended(trouble)
    assert (job.state, job.attempts, job.worker_deaths) == (JobState.FINISHED, 2, 1)
    assert "took longer than its limit of 1.5 s" in reasons(node, job)


@pytest.mark.req("NODE-08")
def test_a_job_over_its_memory_is_ended_and_tried_again(node: RunningNode, ended: Callable[[str], Job]) -> None:
    job = ended("eats_memory")
    assert (job.state, job.attempts) == (JobState.FINISHED, 2)
    assert "GiB, more than its limit of 1.5 GiB" in " ".join(reasons(node, job))


def test_a_job_whose_worker_dies_is_tried_again(node: RunningNode, ended: Callable[[str], Job]) -> None:
    job = ended("dies_once")
    assert (job.state, job.attempts, job.worker_deaths) == (JobState.FINISHED, 2, 1)
    assert "its worker process died" in reasons(node, job)


def test_a_worker_that_can_not_even_end_itself_is_replaced(
    node: RunningNode, ended: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "OVERTIME_S", 5.0)
    job = ended("stops")
    assert (job.state, job.attempts, job.worker_deaths) == (JobState.FINISHED, 2, 1)
    assert "took longer than its limit of 1.5 s" in reasons(node, job)


def test_a_node_that_is_held_up_still_knows_why_a_worker_died(
    node: RunningNode, ended: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Client.submit

    def held_up(self: Client, *args: Any, **kwargs: Any) -> "Future[None]":
        future: Future[None] = submit(self, *args, **kwargs)
        wait_until(lambda: future.status != "pending", deadline_s=100)
        return future

    monkeypatch.setattr(Client, "submit", held_up)
    job = ended("hangs_unseen")
    assert (job.state, job.attempts, job.worker_deaths) == (JobState.FINISHED, 2, 1)
    assert "took longer than its limit of 1.5 s" in reasons(node, job)


def test_the_time_of_a_job_runs_only_when_a_worker_has_begun_it(
    node: RunningNode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_hour_on = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600, time_ns=time.time_ns)
    monkeypatch.setattr(engine, "BEGIN_WITHIN_S", 7200.0)
    with stopped_worker(node, folder):
        series = hand_over(node, "none")
        with monkeypatch.context() as patched:
            patched.setattr(engine, "time", an_hour_on)
            next_turn(node)
            next_turn(node)
    job = wait_for_end(node, series)
    assert (job.state, job.attempts) == (JobState.FINISHED, 1)


def test_a_worker_that_begins_nothing_is_replaced_and_the_job_not_blamed(
    node: RunningNode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped_worker(node, folder) as pid:
        series = hand_over(node, "none")
        with monkeypatch.context() as patched:
            patched.setattr(engine, "BEGIN_WITHIN_S", 0.0)
            wait_until(lambda: not psutil.pid_exists(pid))
    job = wait_for_end(node, series)
    assert (job.state, job.attempts, job.worker_deaths) == (JobState.FINISHED, 2, 0)
    assert any("no worker began it within" in why for why in reasons(node, job))


def test_a_job_that_asks_for_what_no_worker_has_says_so(
    ended: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BEGIN_WITHIN_S", 0.0)
    job = ended("asks_too_much")
    why = "no worker began it within 0 s; the resources that it asks for: {'GPU': 1.0}"
    assert (job.state, job.reason) == (JobState.FAILED, f"failed 2 times, the last time: {why}")


@pytest.mark.parametrize(
    ("trouble", "why"), [("hangs", "took longer than its limit of 1.5 s"), ("dies", "its worker process died")]
)
@pytest.mark.req("NODE-08")
def test_a_job_that_kills_two_workers_is_set_aside_and_the_next_one_runs(
    ended: Callable[[str], Job], trouble: str, why: str
) -> None:
    job = ended(trouble)
    assert (job.state, job.attempts) == (JobState.FAILED, 2)
    assert job.reason == f"set aside after it had killed its worker twice: {why}"
    assert ended("none").state == JobState.FINISHED


def test_a_pipeline_that_fails_gets_as_many_attempts_as_configured(ended: Callable[[str], Job]) -> None:
    job = ended("fails")
    assert (job.state, job.attempts, job.worker_deaths) == (JobState.FAILED, 2, 0)
    assert job.reason == "failed 2 times, the last time: PipelineError: the trial failed"


def test_a_pipeline_that_fails_once_may_succeed(ended: Callable[[str], Job]) -> None:
    job = ended("fails_once")
    assert (job.state, job.attempts, job.reason) == (JobState.FINISHED, 2, None)


def test_a_rejected_input_gets_one_attempt_and_its_sentence(ended: Callable[[str], Job]) -> None:
    job = ended("rejects")
    assert (job.state, job.attempts, job.reason) == (JobState.FAILED, 1, "The series is a trial")


def test_what_attempts_have_left_is_cleared_away(node: RunningNode, ended: Callable[[str], Job]) -> None:
    jobs = [ended(trouble) for trouble in ("fails", "fails_once", "none")]
    assert not any((node.state_dir / "jobs" / str(job.id)).exists() for job in jobs)


def test_a_worker_is_kept_warm(folder: Path, ended: Callable[[str], Job]) -> None:
    ended("none")
    ended("none")
    assert len(set(attempts(folder / "none")[-2:])) == 1
    assert os.getpid() not in attempts(folder / "none")


def test_a_worker_computes_with_as_many_threads_as_the_operator_says(folder: Path, ended: Callable[[str], Job]) -> None:
    ended("none")
    assert psutil.Process(attempts(folder / "none")[-1]).environ()["OMP_NUM_THREADS"] == str(THREADS)


def test_workers_share_the_processors_where_nobody_says_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [engine.arithmetic_threads(workers) for workers in (1, 3, 16)] == [8, 2, 1]


def test_a_person_may_try_a_failed_job_again(node: RunningNode, ended: Callable[[str], Job]) -> None:
    job = ended("rejects")
    assert node.node.ledger.jobs.retry(job.id, "A. Person")
    wait_until(lambda: (now := node.node.ledger.jobs.get(job.id)) is not None and now.state == JobState.FAILED)
    assert len(attempts(Path(node.node._config.pipelines["rejects"].settings["folder"]))) >= 2


def test_a_result_that_was_superseded_while_it_was_made_is_dropped(node: RunningNode, folder: Path) -> None:
    series = sent(node, "waits")
    wait_until(lambda: len(attempts(folder / "waits")) == 1)
    same = {keyword: series[0][keyword].value for keyword in SERIES_KEYWORDS}
    late = new_ct_series(6, SeriesDescription="waits", patient_id="waits", **same)[-1]
    assert send([late], node.address) == [0x0000]
    (folder / "waits" / "gate").touch()
    wait_until(lambda: [job.state for job in jobs_of(node, series)] == ["superseded", "finished"])
    dropped, kept = jobs_of(node, series)
    assert node.node.ledger.jobs.result_of(dropped.id) is None
    wait_until(lambda: not list(node.state_dir.glob(f"results/{dropped.id}/**/*.dcm")))
    assert len(list(node.state_dir.glob(f"results/{kept.id}/**/*.dcm"))) == 6


def test_a_job_that_runs_when_the_node_stops_runs_again_at_the_next_start(tmp_path: Path) -> None:
    configuration = config(tmp_path)
    with running_node(configuration) as node:
        series = sent(node, "waits")
        wait_until(lambda: len(attempts(tmp_path / "waits")) == 1)
    (tmp_path / "waits" / "gate").touch()
    with running_node(configuration) as node:
        job = wait_for_end(node, series)
    assert (job.state, job.attempts, len(attempts(tmp_path / "waits"))) == (JobState.FINISHED, 1, 2)


def test_a_worker_that_starts_is_not_ended_because_its_predecessor_is_lost(tmp_path: Path) -> None:
    # Dask looks while the new worker starts, as it may by itself when two have died one after the other.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"})
    with running_node(config(tmp_path)) as node:
        job = wait_for_end(node, sent(node, "dies_once"))
    assert (job.state, job.attempts, job.worker_deaths) == (JobState.FINISHED, 2, 1)


def test_workers_that_are_all_gone_are_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WITHOUT_WORKERS_S", 0.5)
    with running_node(config(tmp_path)) as node:
        cluster = node.node._engine._cluster
        assert cluster is not None
        cluster.scale(0)  # type: ignore[no-untyped-call]
        assert wait_for_end(node, sent(node, "none")).state == JobState.FINISHED


def test_a_job_that_is_with_no_worker_is_taken_back(tmp_path: Path, scheduler: str) -> None:
    with running_node(config(tmp_path, engine=scheduler)) as node:
        series = sent(node, "none")
        wait_until(lambda: node.has(series[0]) and jobs_of(node, series))
        (job,) = node.node.ledger.jobs.claim(1)
        wait_until(lambda: jobs_of(node, series)[0].state == JobState.QUEUED)
        assert jobs_of(node, series)[0].id == job.id
        assert any("could not be handed to a worker" in why for why in reasons(node, job))


def test_a_cluster_that_does_not_answer_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT_S", 1)
    with socket.socket() as nobody:
        # Bound, so that no other program gets the port, and not listening.
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        complaint = re.escape(f"the workers at {address} do not answer (engine in node.yaml)")
        with pytest.raises(NodeError, match=complaint):
            engine.Engine(NodeSettings(engine=address), {}, lambda: None).start()
