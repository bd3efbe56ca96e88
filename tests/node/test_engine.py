"""Jobs that hang, die, fail or eat: each costs itself, and nobody else."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from node import engine
from node.ledger.schema import Job, JobState
from tests.ct import new_ct_series
from tests.pacs import send
from tests.peers import PEERS, RunningNode, config_folder, running_node
from tests.trials import Trouble, attempts
from tests.waiting import wait_until

TIME_S = 1.5
TIMED = {"hangs", "hangs_once", "holds_the_interpreter", "backtracks", "stops"}
TROUBLES: dict[str, dict[str, Any]] = {
    **{trouble.name.lower(): {"trouble": trouble.value} for trouble in Trouble},
    "hangs_once": {"trouble": "hangs", "attempts_in_trouble": 1},
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
    return {
        "class": "tests.trials:TrialCopy",
        "settings": {"folder": str(folder / name), **TROUBLES[name]},
        "when": {"role": name},
        "limits": {"time_s": TIME_S if name in TIMED else 600, "memory_gib": 1.5},
    }


def config(folder: Path, **settings: Any) -> Path:
    """A node with one pipeline for each trouble; a series chooses it by its description."""
    roles = [{"role": name, "all": {"SeriesDescription": name}} for name in TROUBLES]
    pipelines = {name: pipeline(folder, name) for name in TROUBLES}
    return config_folder(folder, {"max_attempts": 2, **settings}, PEERS, roles, pipelines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[RunningNode]:
    """One node with one worker for all tests: each leaves it in order for the next."""
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
