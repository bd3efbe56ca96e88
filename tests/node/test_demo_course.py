from node.demo.course import under_way
from node.ledger import Ledger
from node.ledger.jobs import LinkedSeries
from node.ledger.schema import SeriesState
from node.ledger.series import Arrival, Settlement
from node.storage import Identity


def test_a_series_is_under_way_until_its_job_has_ended_also_before_it_is_routed(ledger: Ledger) -> None:
    identity = Identity("ID", "1.2.1", "1.2.2", "1.2.3")
    ledger.series.receive(Arrival(identity, "CT", "1.2", "1.2", "0" * 64, 1, "CONSOLE"), "a.dcm", lambda: None)
    (series,) = ledger.series.receiving()
    seen = [under_way(ledger)]
    ledger.series.settle(series, 1, Settlement(SeriesState.SETTLED, "mvct", None, frozenset()))
    seen.append(under_way(ledger))
    settled = ledger.series.get(series.id)
    ledger.jobs.queue("enhance_mvct", "key", [LinkedSeries("mvct", settled)])
    ledger.series.routed(settled)
    seen.append(under_way(ledger))
    (job,) = ledger.jobs.claim(1)
    seen.append(under_way(ledger))
    ledger.jobs.fail(job, "its worker process died")
    assert (seen, under_way(ledger)) == ([1, 1, 1, 1], 0)
