"""A treatment of several fractions: in whatever order they come, each has one current report of all up to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ComprehensiveSRStorage
from sqlalchemy import event

from node.errors import NodeError
from node.ledger import Ledger
from node.ledger.schema import DeliveryState, ResultState, SeriesState
from pipelines.base import Predecessor
from pipelines.stability import Verdict
from tests.node.course import FIRST_DAY, FRAME, REPORTS, STUDY, Course

COPIES = {"class": "tests.trials:CopyWithPlan", "when": {"role": "cbct"}}


LEDGER = "ledger.sqlite3"
FRACTIONS = (1, 2, 3, 4, 5)
Inputs = dict[str, set[str]]


@pytest.fixture
def course(ledger: Ledger, tmp_path: Path) -> Course:
    return Course.of(ledger, tmp_path)


@pytest.mark.req("NODE-11")
def test_whatever_the_order_of_arrival_each_fraction_has_one_job_on_all_up_to_it(tmp_path: Path) -> None:
    course = Course.of(quick(tmp_path), tmp_path)
    course.plan()
    ends = dict(_after_each_order(course, tmp_path / LEDGER, ()))
    assert len(ends) == 120
    right = {str(last): {"ct", "structures", *map(str, range(1, last + 1))} for last in FRACTIONS}
    assert [order for order, inputs in ends.items() if inputs != right] == []
    assert course.ledger.events.first_broken() is None
    course.ledger.close()


def _after_each_order(course: Course, ledger: Path, come: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Inputs]]:
    """The inputs of each fraction's only job; the beginning that orders share is worked out once and then restored."""
    if len(come) == len(FRACTIONS):
        yield come, course.all_inputs()
        return
    course.ledger.close()
    before, uids = ledger.read_bytes(), {**course.uids}
    for fraction in sorted(set(FRACTIONS) - set(come)):
        course.ledger.close()
        ledger.write_bytes(before)
        course.uids = {**uids}
        course.fraction(fraction)
        if (len(come) + fraction) % 2:
            # Some jobs have been done when the next fraction comes, some are still queued.
            course.run_next()
        yield from _after_each_order(course, ledger, (*come, fraction))


def quick(folder: Path) -> Ledger:
    """A ledger that does not wait for the disk."""
    one = Ledger(f"sqlite:///{folder / LEDGER}")
    event.listen(one._database._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    one.close()
    return one


def test_a_late_fraction_makes_the_later_reports_anew_and_leaves_the_earlier(course: Course) -> None:
    course.plan()
    for fraction in (1, 2, 4):
        course.fraction(fraction)
        course.run_next()
    course.fraction(3)
    states = {name: course.states(name) for name in ("1", "2", "3", "4")}
    assert states == {"1": ["finished"], "2": ["finished"], "3": ["queued"], "4": ["superseded", "queued"]}
    old, new = course.jobs("4")
    assert old.reason == f"job {new.id} has taken its place, with series that came later"
    assert [event.what for event in course.ledger.events.of(f"job/{old.id}")][-1] == "job superseded"
    (delivery,) = course.deliveries(old)
    assert (delivery.state, delivery.attempts) == (DeliveryState.FAILED, 0)
    assert str(delivery.reason).startswith("superseded: job")


def test_a_report_that_is_held_can_not_be_released_once_another_has_taken_its_place(course: Course) -> None:
    course.plan()
    course.fraction(2)
    course.run_next(Verdict.HOLD)
    course.fraction(1)
    result = course.ledger.jobs.result_of(course.jobs("2")[0].id)
    assert result is not None and result.state == ResultState.HELD
    with pytest.raises(NodeError, match=f"result {result.id} was superseded"):
        course.ledger.decisions.release(result.id, "Ohta", "in a hurry", lambda _: ["PACS"])


def test_the_result_of_a_job_that_is_replaced_while_it_runs_is_dropped(course: Course) -> None:
    course.plan()
    course.fraction(2)
    [running] = course.ledger.jobs.claim(1)
    course.fraction(1)
    assert course.finish(running) is None
    assert (course.states("2"), course.inputs("2")) == (["superseded", "queued"], {"ct", "structures", "1", "2"})


def test_a_new_treatment_record_is_taken_in(course: Course) -> None:
    course.plan()
    course.fraction(1)
    course.run_next()
    course.settles("record", "treatment_record", frames=())
    assert (course.states("1"), "record" in course.inputs("1")) == (["superseded", "queued"], True)


def test_a_second_planning_ct_changes_no_report_that_was_made(course: Course) -> None:
    course.plan()
    course.fraction(1)
    course.run_next()
    course.settles("ct again", "planning_ct")
    assert course.states("1") == ["finished"]
    course.fraction(2)
    assert (course.states("1"), course.inputs("2")) == (["finished"], {"ct again", "structures", "1", "2"})


def test_a_registration_is_taken_in_by_the_day_that_it_is_of_and_those_after(course: Course) -> None:
    course.plan()
    fractions = {number: course.fraction(number, (f"1.9.{number}", FRAME)) for number in (1, 2, 3)}
    for _ in fractions:
        course.run_next()
    ct = course.series("ct")
    course.settles("registration 2", "registration", frames=(FRAME, "1.9.2"), refers_to=(fractions[2], ct))
    taken = {name: "registration 2" in course.inputs(name) for name in ("1", "2", "3")}
    assert taken == {"1": False, "2": True, "3": True}
    assert course.states("1") == ["finished"]


def test_a_registration_joins_a_day_in_another_frame_of_reference_and_its_day_alone(course: Course) -> None:
    course.plan()
    for number in (1, 2):
        course.fraction(number, (f"1.9.{number}",))
        course.settles(f"registration {number}", "registration", frames=(FRAME, f"1.9.{number}"))
        course.run_next()
    assert course.inputs("1") == {"ct", "structures", "1", "registration 1"}
    assert course.inputs("2") == {"ct", "structures", "1", "2", "registration 1", "registration 2"}
    assert (course.states("1"), course.states("2")) == (["finished"], ["finished"])


def test_a_failed_job_is_tried_on_other_inputs_and_then_stands_no_more(course: Course) -> None:
    course.plan()
    course.fraction(1)
    [job] = course.ledger.jobs.claim(1)
    course.ledger.jobs.fail(job, "The structure set has no GTV")
    course.settles("structures again", "structure_set")
    assert (course.states("1"), course.inputs("1")) == (["superseded", "queued"], {"ct", "structures again", "1"})
    assert not course.ledger.jobs.retry(job.id, "A. Person")


def test_a_pipeline_that_takes_one_of_each_is_not_run_again(ledger: Ledger, tmp_path: Path) -> None:
    course = Course.of(ledger, tmp_path, {"copies": COPIES, "reports": REPORTS})
    course.plan()
    course.fraction(2)
    course.settles("ct again", "planning_ct")
    course.settles("structures again", "structure_set")
    course.fraction(1)
    assert course.states("2", "copies") == ["queued"]
    assert course.states("2", "reports") == ["superseded", "queued"]


def test_a_pipeline_that_is_new_starts_on_nothing_that_came_before_it(ledger: Ledger, tmp_path: Path) -> None:
    course = Course.of(ledger, tmp_path)
    course.plan()
    course.fraction(2)
    both = Course.of(ledger, tmp_path, {"reports": REPORTS, "copies": COPIES})
    both.uids = course.uids
    both.fraction(1)
    assert (both.states("2", "copies"), both.states("1", "copies")) == ([], ["queued"])


def test_a_series_that_comes_to_nothing_leaves_the_report_as_it_was(course: Course) -> None:
    course.plan()
    course.fraction(2)
    course.fraction(1)
    course.run_next()
    course.settles("1", "cbct", FIRST_DAY, state=SeriesState.REJECTED)
    assert (course.states("2"), course.inputs("2")) == (["superseded"] * 2 + ["queued"], {"ct", "structures", "2"})


def test_a_fraction_waits_in_the_queue_for_those_before_it(course: Course) -> None:
    course.plan()
    for number in (3, 1, 2):
        course.fraction(number)
    for fraction in ("1", "2", "3"):
        [job] = course.ledger.jobs.claim(5)
        assert course.trigger_of(job) == fraction
        assert course.ledger.jobs.claim(5) == []
        course.finish(job)


@pytest.mark.parametrize("end", ["failed", "superseded"])
def test_a_fraction_waits_for_no_job_that_has_ended(course: Course, end: str) -> None:
    course.plan()
    course.fraction(1)
    course.fraction(2)
    [first] = course.ledger.jobs.claim(5)
    if end == "failed":
        course.ledger.jobs.try_again(first, "it failed", worker_died=False)
        [first] = course.ledger.jobs.claim(5)
        assert course.trigger_of(first) == "1"
        course.ledger.jobs.fail(first, "it failed")
    else:
        course.receives("1")
        course.settles("1", "cbct", FIRST_DAY, state=SeriesState.REJECTED)
    assert [course.trigger_of(job) for job in course.ledger.jobs.claim(5)] == ["2"]


def test_two_fractions_of_one_moment_are_in_the_order_of_their_uids(course: Course) -> None:
    course.plan()
    for name in ("a", "b"):
        course.settles(name, "cbct", FIRST_DAY)
    first, second = sorted(("a", "b"), key=lambda name: course.uids[name])
    assert (course.inputs(first) & {"a", "b"}, course.inputs(second) & {"a", "b"}) == ({first}, {"a", "b"})
    assert [course.trigger_of(job) for job in course.ledger.jobs.claim(5)] == [first]


def test_where_a_date_is_lacking_a_person_is_told(course: Course) -> None:
    course.plan()
    course.settles("undated", "cbct")
    course.fraction(1)
    other = "no cbct counts as earlier, for the series that started the job states no date"
    own = "1 cbct left out: without a date it can not be told whether it is earlier"
    assert (course.current("1").reason, course.inputs("1")) == (own, {"ct", "structures", "1"})
    assert [event.why for event in course.ledger.events.of(f"job/{course.current('1').id}")] == [own]
    course.settles("undated too", "cbct")
    assert course.current("undated too").reason == other


def test_a_report_continues_that_of_the_fraction_before_and_replaces_its_own(course: Course) -> None:
    course.plan()
    for fraction in (1, 2, 4):
        course.fraction(fraction)
        course.run_next()
    assert course.predecessors("4") == [course.current("2").id]
    old = course.current("4")
    course.fraction(3)
    course.run_next()
    assert course.predecessors("3") == [course.current("2").id]
    # The first report of the fourth fraction was never offered to the PACS.
    assert course.predecessors("4") == [course.current("3").id]
    assert old.id != course.current("4").id


def test_a_replaced_report_that_was_offered_to_a_peer_is_named(course: Course) -> None:
    course.plan()
    course.fraction(2)
    course.run_next()
    old = course.current("2")
    [delivery] = course.ledger.deliveries.claim_due([])
    course.ledger.deliveries.delivered(delivery)
    course.fraction(1)
    course.run_next()
    assert course.predecessors("2") == [course.current("1").id, old.id]
    [named, _] = course.ledger.succession.predecessors(course.current("2").id)
    report = f"2.2.{course.current('1').id}"
    assert named == Predecessor(ComprehensiveSRStorage, report, f"2.1.{course.current('1').id}", STUDY)


def test_a_report_that_a_person_has_rejected_is_continued_by_none(course: Course) -> None:
    course.plan()
    course.fraction(1)
    course.run_next()
    course.fraction(2)
    course.run_next(Verdict.HOLD)
    result = course.ledger.jobs.result_of(course.current("2").id)
    assert result is not None
    course.ledger.decisions.reject(result.id, "Ohta", "wrong contour")
    course.fraction(3)
    assert course.predecessors("3") == [course.current("1").id]


def test_every_attempt_has_the_same_predecessors(course: Course) -> None:
    course.plan()
    course.fraction(1)
    course.fraction(2)
    course.run_next()
    [job] = course.ledger.jobs.claim(1)
    given = course.ledger.succession.predecessors(job.id)
    course.ledger.jobs.try_again(job, "it failed", worker_died=False)
    course.settles("1", "cbct", FIRST_DAY, state=SeriesState.REJECTED)
    assert given and course.ledger.succession.predecessors(job.id) == given
