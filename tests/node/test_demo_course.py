import pytest

from node.demo import course
from node.demo.course import under_way, wait_until_idle
from node.ledger import Ledger
from node.ledger.jobs import LinkedSeries
from node.ledger.schema import Series, SeriesState
from node.ledger.series import Arrival, Settlement
from node.storage import Identity


def received(ledger: Ledger) -> Series:
    identity = Identity("ID", "1.2.1", "1.2.2", "1.2.3")
    ledger.series.receive(Arrival(identity, "CT", "1.2", "1.2", "0" * 64, 1, "CONSOLE"), "a.dcm", lambda: None)
    (series,) = ledger.series.receiving()
    return series


def settle(ledger: Ledger, series: Series) -> Series:
    ledger.series.settle(series, 1, Settlement(SeriesState.SETTLED, "mvct", None, frozenset()))
    return ledger.series.get(series.id)


def test_a_series_is_under_way_until_its_job_has_ended_also_before_it_is_routed(ledger: Ledger) -> None:
    series = received(ledger)
    seen = [under_way(ledger)]
    settled = settle(ledger, series)
    seen.append(under_way(ledger))
    ledger.jobs.queue("enhance_mvct", "key", [LinkedSeries("mvct", settled)])
    ledger.series.routed(settled)
    seen.append(under_way(ledger))
    (job,) = ledger.jobs.claim(1)
    seen.append(under_way(ledger))
    ledger.jobs.fail(job, "its worker process died")
    assert (seen, under_way(ledger)) == ([1, 1, 1, 1], 0)


def test_however_late_it_looks_again_it_waits_for_what_was_under_way(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "QUIET_S", 0.0)
    monkeypatch.setattr(course, "LOOK_EVERY_S", 0.0)
    series = received(ledger)
    told: list[str] = []

    def progress(done: float, what: str) -> None:
        told.append(what)
        if len(told) == 3:
            ledger.series.routed(settle(ledger, series))

    wait_until_idle(ledger, progress)
    assert told == ["1 under way"] * 3 + ["0 under way"]
