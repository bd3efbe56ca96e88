"""Which results are compared, and what becomes of the values, on either kind of database."""

import pytest

from models.control_chart import Baseline
from node.config import TrendSettings
from node.ledger import Ledger
from node.ledger.agreements import Pair
from node.ledger.events import What
from node.ledger.jobs import LinkedSeries, Made
from node.ledger.schema import Agreement, AgreementState, Job, ResultInstance, Series, SeriesState
from node.ledger.series import Arrival, Settlement
from node.ledger.trends import Process
from node.storage import Identity
from pipelines.stability import Finding, Verdict

SHADOW_OF = {"new": "old"}
OFFSET = "agreement_difference_hu"
CHARTED = TrendSettings(baselines={OFFSET: Baseline(mean=0.0, sigma=1.0)})


class Pairs:
    """A ledger in which two pipelines, one of them in shadow, work on the same series."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def receives(self, name: str) -> None:
        """One more image of a series comes; what was made of it is superseded."""
        number = len(self.ledger.series.of_patient("ID")) + len(self.ledger.events.of("node"))
        self.ledger.events.add(What.NODE_STARTED, "node")
        identity = Identity("ID", "1.1", f"1.2.{name}", f"1.3.{name}.{number}")
        arrival = Arrival(identity, "CT", "1.2", "1.2", "0" * 64, 1, "CONSOLE")
        self.ledger.series.receive(arrival, f"{identity.sop_instance_uid}.dcm", lambda: None)

    def settles(self, name: str, role: str = "cbct") -> Series:
        self.receives(name)
        (series,) = self.ledger.series.receiving()
        count = len(self.ledger.series.instances(series.id))
        assert self.ledger.series.settle(series, count, Settlement(SeriesState.SETTLED, role, None, frozenset()))
        return self.ledger.series.get(series.id)

    def job(self, pipeline: str, *inputs: Series) -> Job:
        """A running job; the first series is its trigger."""
        key = "/".join(f"{one.id}.{one.revision}" for one in inputs)
        assert self.ledger.jobs.queue(pipeline, key, [LinkedSeries(one.role or "", one) for one in inputs])
        (job,) = self.ledger.jobs.claim(1)
        return job

    def finish(self, job: Job, model: str = "", path: str = "results/1.dcm") -> int:
        """The job has made one image; returns the id of its result."""
        is_shadow = job.pipeline == "new"
        finding = Finding(name="edge_shift_mm", value=0.5, unit="mm", verdict=Verdict.RELEASE, text="Shift")
        process = Process("Maker", (model or job.pipeline).ljust(64, "-"), CHARTED)
        image = ResultInstance(
            series_instance_uid="2.1", modality="CT", sop_class_uid="1.2", sop_instance_uid=f"2.2.{job.id}",
            transfer_syntax_uid="1.2", path=path, sha256="0" * 64,
        )  # fmt: skip
        made = Made(Verdict.RELEASE, [finding], [image], {}, is_shadow=is_shadow, process=process)
        result_id = self.ledger.jobs.finish(job, made)
        assert result_id is not None
        return result_id

    def both(self, name: str = "1", old_model: str = "") -> Pair:
        """Both results of a new series are there."""
        series = self.settles(name)
        self.finish(self.job("new", series))
        self.finish(self.job("old", series), old_model)
        return self.waiting()

    def waiting(self) -> Pair:
        (pair,) = self.ledger.agreements.unmeasured(SHADOW_OF)
        return pair

    def started(self, pair: Pair) -> Agreement:
        agreement = self.ledger.agreements.start(pair)
        assert agreement is not None
        return agreement

    def measured(self, pair: Pair, offset_hu: float) -> None:
        assert self.ledger.agreements.finish(self.started(pair), [difference(offset_hu)], CHARTED)

    def charted(self) -> list[list[float]]:
        """Values of each chart of the difference."""
        charts = self.ledger.trends.all("new")
        return [[point.value for point in chart.points] for chart in charts if chart.finding == OFFSET]

    def state(self, pair: Pair) -> str:
        compared = self.ledger.agreements.of_result(pair.shadow_result_id)
        assert compared is not None
        return compared.agreement.state

    def happened(self, pair: Pair) -> list[tuple[str, str | None]]:
        events = self.ledger.events.of(f"result/{pair.shadow_result_id}")
        return [(event.what, event.why) for event in events if event.what.startswith("agreement")]


def difference(offset_hu: float) -> Finding:
    return Finding(name=OFFSET, value=offset_hu, unit="[hnsf'U]", verdict=Verdict.RELEASE, text="Mean difference")


@pytest.fixture
def pairs(ledger: Ledger) -> Pairs:
    return Pairs(ledger)


@pytest.mark.parametrize("order", [("new", "old"), ("old", "new")])
def test_a_pair_is_complete_when_both_have_finished_in_either_order(pairs: Pairs, order: tuple[str, str]) -> None:
    series = pairs.settles("1")
    first, last = (pairs.job(pipeline, series) for pipeline in order)
    pairs.finish(first)
    assert pairs.ledger.agreements.unmeasured(SHADOW_OF) == []
    pairs.finish(last)
    pair = pairs.waiting()
    assert pair.shadow_job.pipeline == "new"
    assert pairs.ledger.agreements.unmeasured({}) == pairs.ledger.agreements.unmeasured({"old": "new"}) == []


def test_results_of_different_series_are_no_pair(pairs: Pairs) -> None:
    pairs.finish(pairs.job("new", pairs.settles("1")))
    pairs.finish(pairs.job("old", pairs.settles("2")))
    assert pairs.ledger.agreements.unmeasured(SHADOW_OF) == []


def test_what_was_measured_is_kept_charted_and_told_by_events(pairs: Pairs) -> None:
    pair = pairs.both()
    pairs.measured(pair, 0.25)
    compared = pairs.ledger.agreements.of_result(pair.shadow_result_id)
    assert compared is not None
    assert (compared.agreement.state, compared.current_job.pipeline) == (AgreementState.MEASURED, "old")
    assert [one["value"] for one in compared.agreement.findings] == [0.25]
    assert pairs.charted() == [[0.25]]
    assert pairs.ledger.agreements.unmeasured(SHADOW_OF) == []
    told = f"with result {pair.current_result_id}"
    assert pairs.happened(pair) == [("agreement running", f"{told}: attempt 1"), ("agreement measured", told)]
    assert pairs.ledger.agreements.of_result(pair.current_result_id) is None
    assert pairs.ledger.events.first_broken() is None


def test_a_difference_beyond_three_sigma_is_an_alarm_of_the_result_in_shadow(pairs: Pairs) -> None:
    pairs.measured(pairs.both("1"), 1.0)
    loud = pairs.both("2")
    pairs.measured(loud, 3.5)
    alarms = [one for one in pairs.ledger.events.of(f"result/{loud.shadow_result_id}") if one.what == What.TREND_ALARM]
    assert [one.why for one in alarms] == [f"{OFFSET} of new on Maker: one value beyond 3 sigma (Nelson rule 1)"]
    assert pairs.charted() == [[1.0, 3.5]]


def test_another_current_model_begins_another_chart(pairs: Pairs) -> None:
    pairs.measured(pairs.both("1"), 1.0)
    pairs.measured(pairs.both("2", old_model="newer"), 2.0)
    assert sorted(pairs.charted()) == [[1.0], [2.0]]


def test_a_new_current_result_is_compared_anew_and_its_value_replaces_that_of_the_old(pairs: Pairs) -> None:
    trigger, plan = pairs.settles("1"), pairs.settles("9", "planning_ct")
    pairs.finish(pairs.job("new", trigger))
    pairs.finish(pairs.job("old", trigger, plan))
    first = pairs.waiting()
    pairs.measured(first, 1.0)
    again = pairs.settles("9", "planning_ct")
    assert (pairs.state(first), pairs.charted()) == (AgreementState.SUPERSEDED, [])
    assert pairs.ledger.agreements.unmeasured(SHADOW_OF) == []
    pairs.finish(pairs.job("old", trigger, again))
    second = pairs.waiting()
    assert (second.shadow_result_id, second.current_result_id > first.current_result_id) == (
        first.shadow_result_id,
        True,
    )
    pairs.measured(second, 2.0)
    assert pairs.charted() == [[2.0]]
    assert [what for what, _ in pairs.happened(second)] == [
        "agreement running", "agreement measured", "agreement superseded", "agreement running", "agreement measured"
    ]  # fmt: skip


def test_what_comes_back_after_a_result_was_superseded_is_dropped(pairs: Pairs) -> None:
    pair = pairs.both()
    agreement = pairs.started(pair)
    pairs.receives("1")
    assert not pairs.ledger.agreements.finish(agreement, [difference(1.0)], CHARTED)
    assert (pairs.state(pair), pairs.charted()) == (AgreementState.SUPERSEDED, [])


def test_a_pair_of_which_one_is_superseded_is_not_started(pairs: Pairs) -> None:
    pair = pairs.both()
    pairs.receives("1")
    assert pairs.ledger.agreements.start(pair) is None
    assert pairs.ledger.agreements.unmeasured(SHADOW_OF) == []


def compared_with_one_and_then_with_another(pairs: Pairs) -> Pair:
    """The result in shadow is 1 HU off that of `old`, then 2 HU off that of `older`; returns the former pair."""
    series = pairs.settles("1")
    for pipeline in ("new", "old", "older"):
        pairs.finish(pairs.job(pipeline, series))
    pair = pairs.waiting()
    pairs.measured(pair, 1.0)
    (other,) = pairs.ledger.agreements.unmeasured({"new": "older"})
    pairs.measured(other, 2.0)
    return pair


def test_where_another_pipeline_is_named_as_current_its_result_takes_the_place(pairs: Pairs) -> None:
    pair = compared_with_one_and_then_with_another(pairs)
    assert pairs.charted() == [[2.0]]
    told = pairs.happened(pair)[2]
    assert told == (
        "agreement superseded",
        f"with result {pair.current_result_id}: it is compared with the result of another pipeline now",
    )


def test_a_pipeline_that_is_named_as_current_again_is_compared_with_again(pairs: Pairs) -> None:
    pair = compared_with_one_and_then_with_another(pairs)
    pairs.measured(pairs.waiting(), 1.5)
    assert pairs.charted() == [[1.5]]
    last = pairs.ledger.agreements.of_result(pair.shadow_result_id)
    assert last is not None
    assert (last.agreement.current_result_id, last.agreement.attempts) == (pair.current_result_id, 1)
    assert pairs.ledger.agreements.unmeasured(SHADOW_OF) == []


def test_a_failed_attempt_waits_again_and_the_last_one_does_not(pairs: Pairs) -> None:
    pair = pairs.both()
    pairs.ledger.agreements.try_again(pairs.started(pair), "the worker died")
    assert pairs.waiting().shadow_result_id == pair.shadow_result_id
    second = pairs.started(pair)
    assert (second.attempts, [job for _, job in pairs.ledger.agreements.running()]) == (2, [pair.shadow_job.id])
    pairs.ledger.agreements.fail(second, "other grids")
    assert pairs.state(pair) == AgreementState.FAILED
    assert (pairs.ledger.agreements.unmeasured(SHADOW_OF), pairs.ledger.agreements.running()) == ([], [])


def test_a_stop_in_good_order_is_no_attempt(pairs: Pairs) -> None:
    pair = pairs.both()
    pairs.started(pair)
    pairs.ledger.agreements.put_back()
    assert pairs.started(pairs.waiting()).attempts == 1


def test_results_whose_files_are_gone_are_not_compared(pairs: Pairs) -> None:
    series = pairs.settles("1")
    pairs.finish(pairs.job("new", series))
    pairs.finish(pairs.job("old", series), path="")
    assert pairs.ledger.agreements.unmeasured(SHADOW_OF) == []


def test_a_result_from_before_the_pipeline_was_in_shadow_is_none_in_shadow(pairs: Pairs) -> None:
    series = pairs.settles("1")
    for pipeline in ("old", "older"):
        pairs.finish(pairs.job(pipeline, series))
    assert pairs.ledger.agreements.unmeasured({"older": "old"}) == []
