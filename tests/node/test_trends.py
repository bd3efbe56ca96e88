"""Control charts of findings: filled as results are filed, one for each device, pipeline and finding."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID

from models.control_chart import Baseline
from node.config import TrendSettings
from node.device import device_of
from node.ledger import Ledger
from node.ledger.events import What
from node.ledger.jobs import LinkedSeries, Made
from node.ledger.schema import SeriesState
from node.ledger.series import Arrival, Settlement
from node.ledger.trends import Process
from node.storage import Identity
from pipelines.stability import Finding, Verdict
from tests.pipelines.made import changed, ct_series, write

STATED = TrendSettings(baselines={"edge_shift_mm": Baseline(mean=0.5, sigma=0.1)})
QUIET = (0.4, 0.5, 0.6, 0.45, 0.55)


class Ward:
    """A ledger into which results are filed."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._patients = 0

    def file(
        self,
        value: float,
        device: str = "Maker / One",
        settings: TrendSettings = STATED,
        model: str = "0" * 64,
        is_shadow: bool = False,
    ) -> int:
        """The job of a new patient has ended with this value of its finding; returns the id of the result."""
        self._patients += 1
        uid = f"1.2.{self._patients}"
        arrival = Arrival(Identity(uid, uid, f"{uid}.1", f"{uid}.2"), "CT", "1.2", "1.2", "0" * 64, 1, "CONSOLE")
        self.ledger.series.receive(arrival, f"{uid}.dcm", lambda: None)
        (series,) = self.ledger.series.receiving()
        self.ledger.series.settle(series, 1, Settlement(SeriesState.SETTLED, "cbct", None, frozenset()))
        self.ledger.jobs.queue("enhance", uid, [LinkedSeries("cbct", self.ledger.series.get(series.id))])
        (job,) = self.ledger.jobs.claim(1)
        finding = Finding(name="edge_shift_mm", value=value, unit="mm", verdict=Verdict.RELEASE, text="Shift")
        process = Process(device, model, settings)
        made = Made(Verdict.RELEASE, [finding], [], {}, is_shadow=is_shadow, process=process)
        result_id = self.ledger.jobs.finish(job, made)
        assert result_id is not None
        return result_id

    def alarms(self, result_id: int) -> list[str]:
        return [str(one.why) for one in self.ledger.events.of(f"result/{result_id}") if one.what == What.TREND_ALARM]


@pytest.fixture
def ward(ledger: Ledger) -> Iterator[Ward]:
    yield Ward(ledger)


def test_a_value_beyond_three_sigma_of_the_stated_baseline_is_an_event_of_its_result(ward: Ward) -> None:
    quiet = [ward.file(value) for value in QUIET]
    loud = ward.file(0.81)
    assert [ward.alarms(one) for one in quiet] == [[]] * len(QUIET)
    (why,) = ward.alarms(loud)
    assert why == "edge_shift_mm of enhance on Maker / One: one value beyond 3 sigma (Nelson rule 1)"
    (chart,) = ward.ledger.trends.of_result(loud)
    assert (chart.rules, [point.value for point in chart.points]) == ((1,), [*QUIET, 0.81])
    # It is a remark about the device: the result went out when it was filed.
    assert ward.ledger.decisions.counts() == {"released": len(QUIET) + 1}
    assert ward.ledger.events.first_broken() is None


def test_a_shift_of_the_mean_is_told_once_when_it_is_nine_results_old(ward: Ward) -> None:
    results = [ward.file(value) for value in (*QUIET, *[0.52, 0.56] * 6)]
    told = [number for number, one in enumerate(results) if ward.alarms(one)]
    # The last of the quiet values lies on the same side.
    assert told == [len(QUIET) + 7]
    assert ward.ledger.trends.all()[0].rules[0] == 2


def test_a_rule_that_raises_no_alarm_is_still_shown(ward: Ward) -> None:
    settings = STATED.model_copy(update={"alarm_rules": frozenset({2})})
    loud = ward.file(0.81, settings=settings)
    assert ward.alarms(loud) == []
    (chart,) = ward.ledger.trends.of_result(loud)
    assert chart.sentence() == "one value beyond 3 sigma (Nelson rule 1)"


def test_without_a_stated_baseline_the_first_results_make_it(ward: Ward) -> None:
    settings = TrendSettings(first=4)
    for value in (1.0, 3.0, 1.0, 3.0):
        ward.file(value, settings=settings)
    (chart,) = ward.ledger.trends.all()
    assert (chart.baseline, chart.sentence()) == (None, "collecting its baseline")
    loud = ward.file(8.0, settings=settings)
    (chart,) = ward.ledger.trends.of_result(loud)
    assert chart.baseline is not None
    assert [chart.baseline.mean, chart.baseline.sigma] == pytest.approx([2.0, 2.0 / 1.128])
    assert chart.rules == (1,)


def test_each_device_and_each_model_has_a_chart_of_its_own(ward: Ward) -> None:
    ward.file(0.5)
    ward.file(0.5, device="Maker / Two")
    ward.file(0.5, model="1" * 64)
    ward.file(0.5)
    found = sorted((chart.device, len(chart.points)) for chart in ward.ledger.trends.all("enhance"))
    assert found == [("Maker / One", 1), ("Maker / One", 2), ("Maker / Two", 1)]
    assert ward.ledger.trends.all("another") == []


def test_results_in_shadow_are_trended_too(ward: Ward) -> None:
    loud = ward.file(0.9, is_shadow=True)
    assert len(ward.alarms(loud)) == 1


def test_a_superseded_result_counts_no_more(ward: Ward) -> None:
    ward.file(0.9)
    uid = "1.2.1"
    late = Arrival(Identity(uid, uid, f"{uid}.1", f"{uid}.3"), "CT", "1.2", "1.2", "1" * 64, 1, "CONSOLE")
    ward.ledger.series.receive(late, "late.dcm", lambda: None)
    assert ward.ledger.trends.all() == []


def test_the_device_is_the_one_that_the_headers_state(tmp_path: Path) -> None:
    stated = {"ManufacturerModelName": "Hi-Art", "StationName": "TOMO1", "DeviceSerialNumber": "0210"}
    (path, *_) = write([changed(one, **stated) for one in ct_series()], tmp_path)
    assert device_of([path]) == "Maker / Hi-Art / TOMO1 / 0210"
    silent = changed(ct_series()[0], Manufacturer=None, SOPInstanceUID=UID("1.2.3"))
    (tmp_path / "silent").mkdir()
    assert device_of(write([silent], tmp_path / "silent")) == device_of([]) == "not stated"
