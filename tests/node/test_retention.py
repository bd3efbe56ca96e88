"""Files go when their time is over and their results were taken; rows stay."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.errors import NodeError
from node.ledger.schema import Delivery, JobState
from node.retention import Retention
from pipelines.stability import QUALITY_PAGE, QUALITY_PICTURE, Verdict
from tests.node.released import Released

AT_ONCE, NOT_YET = 1e-9, 30.0
"""Retention times in days."""
INPUTS, RESULTS = 5, 5


@pytest.fixture
def released(tmp_path: Path) -> Iterator[Released]:
    one = Released(tmp_path, committing_peers=("COMMITTING",))
    yield one
    one.ledger.close()


def removed(released: Released, days: float = AT_ONCE) -> int:
    return Retention(days, released.ledger, released.storage).remove_expired()


def deliver(released: Released, delivery: Delivery) -> None:
    (taken,) = released.ledger.deliveries.claim_due(())
    assert taken.id == delivery.id
    released.ledger.deliveries.delivered(taken)


def commit(released: Released, delivery: Delivery) -> None:
    released.ledger.deliveries.ask_commitment(delivery, "1.2.3")
    released.ledger.deliveries.committed("1.2.3", None, "COMMITTING")


def files(released: Released) -> int:
    return len(list(released.folder.glob("instances/**/*.dcm")) + list(released.folder.glob("results/**/*.dcm")))


def test_what_was_delivered_goes_when_its_time_is_over_and_its_rows_stay(released: Released) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    deliver(released, delivery)
    assert removed(released) == INPUTS + RESULTS
    assert files(released) == 0
    (series,) = released.ledger.series.of_patient("RAMP-1")
    assert [row.path for row in released.ledger.series.instances(series.id)] == [None] * INPUTS
    assert [one.path for one in released.ledger.deliveries.instances(delivery)] == [""] * RESULTS
    assert released.ledger.events.first_broken() is None


def test_page_and_picture_go_with_the_result(released: Released) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    folder = released.folder / "results" / "1"
    for name in (QUALITY_PAGE, QUALITY_PICTURE):
        (folder / name).write_bytes(b"what shows the patient")
    deliver(released, delivery)
    removed(released, NOT_YET)
    assert (folder / QUALITY_PICTURE).is_file()
    removed(released)
    assert not folder.exists()


def test_nothing_goes_before_its_time(released: Released) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    deliver(released, delivery)
    assert removed(released, NOT_YET) == 0
    assert files(released) == INPUTS + RESULTS


def unsent(released: Released) -> None:
    released.result({"CT": ["PACS"]})


def under_way(released: Released) -> None:
    released.result({"CT": ["PACS"]})
    released.ledger.deliveries.claim_due(())


def failed(released: Released) -> None:
    (delivery,) = released.result({"CT": ["PACS"]})
    released.ledger.deliveries.fail(delivery, "refused")


def taken_by_one_of_two(released: Released) -> None:
    released.result({"CT": ["PACS", "TPS"]})
    first, _ = released.ledger.deliveries.claim_due(())
    released.ledger.deliveries.delivered(first)


def not_committed(released: Released) -> None:
    (delivery,) = released.result({"CT": ["COMMITTING"]})
    deliver(released, delivery)


def held(released: Released) -> None:
    released.result({"CT": ["PACS"]}, Verdict.HOLD)


@pytest.mark.parametrize("state", [unsent, under_way, failed, taken_by_one_of_two, not_committed, held])
def test_what_is_not_safe_elsewhere_stays(released: Released, state: Callable[[Released], None]) -> None:
    state(released)
    assert removed(released) == 0
    assert files(released) == INPUTS + RESULTS


def test_what_a_running_job_works_on_stays(released: Released) -> None:
    released.running_job()
    assert removed(released) == 0


def test_a_commitment_frees_what_a_delivery_did_not(released: Released) -> None:
    (delivery,) = released.result({"CT": ["COMMITTING"]})
    deliver(released, delivery)
    commit(released, delivery)
    assert removed(released) == INPUTS + RESULTS


def test_a_superseded_result_keeps_nothing(released: Released) -> None:
    released.result({"CT": ["PACS"]})
    released.late_instance()
    assert {job.state for job in released.ledger.jobs.all()} == {JobState.SUPERSEDED}
    assert removed(released) == RESULTS


def test_a_failed_job_whose_inputs_are_gone_says_so_when_it_is_tried_again(released: Released) -> None:
    job = released.running_job()
    released.ledger.jobs.fail(job, "failed 3 times")
    assert removed(released) == INPUTS
    with pytest.raises(NodeError, match=r"job 1 can not be tried again: files of its inputs are gone; send the series"):
        released.ledger.jobs.retry(job.id, "A. Person")
    assert [one.state for one in released.ledger.jobs.all()] == [JobState.FAILED]
    released.send_series()
    assert released.ledger.jobs.retry(job.id, "A. Person")


def test_a_job_that_is_tried_again_keeps_its_inputs(released: Released) -> None:
    job = released.running_job()
    released.ledger.jobs.fail(job, "failed 3 times")
    assert released.ledger.jobs.retry(job.id, "A. Person")
    assert removed(released) == 0


def test_what_came_into_use_again_since_it_was_looked_at_stays(released: Released) -> None:
    job = released.running_job()
    released.ledger.jobs.fail(job, "failed 3 times")
    (expired,) = released.ledger.removal.expired(datetime.now(UTC))
    assert released.ledger.jobs.retry(job.id, "A. Person")
    assert not released.ledger.removal.forget(expired)
    assert len(released.ledger.jobs.inputs(job.id)[0].paths) == INPUTS
