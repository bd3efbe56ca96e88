"""Quality reports, pages and charts through a running node."""

from pathlib import Path
from typing import Any

from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage

from node.ledger.schema import ResultState
from pipelines.stability import QUALITY_PAGE, QUALITY_PICTURE
from tests.ct import new_ct_series
from tests.pacs import Pacs, pacs, send
from tests.peers import PEERS, ROLES, config_folder, running_node
from tests.waiting import wait_until

SLICES = 5
DEADLINE_S = 120.0
"""The first report of a worker waits for its libraries."""


def judged(shift_mm: float, **changes: Any) -> dict[str, Any]:
    return {
        "class": "tests.pipelines.test_quality:Judged",
        "settings": {"shift_mm": shift_mm},
        "when": {"role": "planning_ct"},
        "send_to": ["ARCHIVE", "TPS"],
        **changes,
    }


def kinds(peer: Pacs) -> list[str]:
    return sorted(str(one.SOPClassUID) for one in peer.datasets)


def test_a_held_quality_report_goes_with_its_result_to_the_peers_that_take_one(tmp_path: Path) -> None:
    with (
        pacs(ae_title="ARCHIVE", takes=[CTImageStorage, Comprehensive3DSRStorage]) as archive,
        pacs(ae_title="TPS") as tps,
    ):
        may = {"echo", "store"}
        peers = {
            **PEERS,
            "ARCHIVE": archive.peer(may=may).model_dump(mode="json"),
            "TPS": tps.peer(may=may, receives={"CT"}).model_dump(mode="json"),
        }
        pipelines = {
            "flagged": judged(1.5, quality_report=False),
            "held": judged(2.5),
        }
        config = config_folder(tmp_path, {}, peers, ROLES, pipelines)
        with running_node(config) as running:
            ledger, receivers = running.node.ledger, running.node._config.receivers
            send(new_ct_series(SLICES), running.address)
            wait_until(lambda: ledger.decisions.counts() == {"released": 1, "held": 1}, DEADLINE_S)
            wait_until(lambda: ledger.deliveries.counts() == {"delivered": 2}, DEADLINE_S)
            # The other result was sent, without a report, for its file asks for none.
            assert kinds(archive) == kinds(tps) == [str(CTImageStorage)] * SLICES
            (held,) = [one for one in ledger.jobs.all() if one.pipeline == "held"]
            result = ledger.jobs.result_of(held.id)
            assert result is not None and result.state == ResultState.HELD
            charts = ledger.trends.of_result(result.id)
            folder = tmp_path / "state" / "results" / str(held.id)
            assert {QUALITY_PAGE, QUALITY_PICTURE} <= {path.name for path in folder.iterdir()}
            ledger.decisions.release(result.id, "Ohta", "a test", lambda modality: receivers("held", modality))
            running.node.wake()
            wait_until(lambda: ledger.deliveries.counts() == {"delivered": 5}, DEADLINE_S)
    assert kinds(archive).count(str(Comprehensive3DSRStorage)) == 1
    assert kinds(tps) == [str(CTImageStorage)] * 2 * SLICES
    assert {one.finding for one in charts} > {"edge_shift_mm"}
    assert {one.device for one in charts} == {"Maker"}
