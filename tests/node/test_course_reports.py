"""A course through the whole node: storescu pushes it in any order, a worker makes the reports, a PACS gets them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage, generate_uid

from node.errors import NodeError
from node.ledger.schema import DeliveryState, JobState, ResultState
from tests.dicom_files import ct_series, structure_set, write
from tests.pacs import Pacs, pacs
from tests.peers import PEERS, RunningNode, config_folder, running_node, storescu
from tests.waiting import wait_until

WATCHED = {
    "class": "pipelines.copy_series:CopySeries",
    "when": {"role": "planning_ct", "body_part": ["WATCHED"]},
    "send_to": ["PACS"],
    "shadow": True,
}
ORDER = (3, 5, "structures", 1, "ct", 4, 2)
UNDER_WAY = {JobState.WAITING, JobState.QUEUED, JobState.RUNNING, DeliveryState.QUEUED, DeliveryState.SENDING}


@pytest.fixture(scope="module")
def archive() -> Iterator[Pacs]:
    with pacs(takes=(ComprehensiveSRStorage,)) as one:
        yield one


@pytest.fixture(scope="module")
def node(archive: Pacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    peer = {"ae_title": "PACS", "host": "127.0.0.1", "port": archive.port}
    reports = {"class": "tests.fraction_reports:FractionReport", "when": {"role": "cbct"}, "send_to": ["PACS"]}
    folder = tmp_path_factory.mktemp("course")
    with running_node(
        config_folder(folder, {}, {**PEERS, "PACS": peer}, None, {"reports": reports, "watched": WATCHED})
    ) as one:
        yield one


def course() -> dict[int | str, list[Dataset]]:
    """Five days of treatment, each a study of its own, with the planning CT and its structure set."""
    planning_ct = ct_series(3, PatientID="COURSE", BodyPartExamined="PELVIS")
    same = {
        "PatientID": "COURSE",
        "FrameOfReferenceUID": planning_ct[0].FrameOfReferenceUID,
        "SeriesDescription": "CBCT",
    }
    days: dict[int | str, list[Dataset]] = {
        day: ct_series(3, **same, AcquisitionDate=f"2025012{day}", AcquisitionTime="0930") for day in range(1, 6)
    }
    return {"ct": planning_ct, "structures": [structure_set(planning_ct)], **days}


def test_five_fractions_in_any_order_give_one_current_report_each_and_the_fifth_continues_the_fourth(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    series = course()
    for name in ORDER:
        assert storescu(write(series[name], tmp_path / generate_uid()), node.address).returncode == 0
        node.settled(series[name][0])
    ledger = node.node.ledger
    wait_until(
        lambda: not ledger.series.unrouted() and not UNDER_WAY & {*ledger.jobs.counts(), *ledger.deliveries.counts()}
    )
    current = {}
    for day in range(1, 6):
        started = [job for job in ledger.jobs.all() if job.series_id == node.series(series[day][0]).id]
        [job] = [job for job in started if job.state != JobState.SUPERSEDED]
        result = ledger.jobs.result_of(job.id)
        assert job.state == JobState.FINISHED and result is not None
        current[day] = ledger.jobs.result_instances(result.id)[0].sop_instance_uid
    sent = {str(dataset.SOPInstanceUID): dataset for dataset in archive.datasets}
    for day, uid in current.items():
        assert fractions(sent[uid]) == {series[one][0].SeriesInstanceUID for one in range(1, day + 1)}
        assert day == 1 or current[day - 1] in continued(sent[uid])
        assert sent[uid].StudyInstanceUID == series[day][0].StudyInstanceUID
    of_fourth = continued(sent[current[5]])[current[4]]
    assert of_fourth == (series[4][0].StudyInstanceUID, sent[current[4]].SeriesInstanceUID, ComprehensiveSRStorage)


@pytest.mark.req("NODE-06")
def test_what_a_pipeline_in_shadow_makes_is_judged_and_kept_and_goes_to_nobody(
    node: RunningNode, archive: Pacs, tmp_path: Path
) -> None:
    series = ct_series(3, PatientID="WATCHED", BodyPartExamined="WATCHED", RescaleType="HU")
    assert storescu(write(series, tmp_path / generate_uid()), node.address).returncode == 0
    ledger, trigger = node.node.ledger, node.settled(series[0])
    wait_until(lambda: [job.state for job in ledger.jobs.all() if job.series_id == trigger.id] == [JobState.FINISHED])
    [job] = [job for job in ledger.jobs.all() if job.series_id == trigger.id]
    result = ledger.jobs.result_of(job.id)
    assert result is not None
    assert (result.state, len(ledger.jobs.result_instances(result.id))) == (ResultState.SHADOW, 3)
    assert (ledger.deliveries.of_result(result.id), result.findings != []) == ([], True)
    assert [event.what for event in ledger.events.of(f"result/{result.id}")] == ["result kept in shadow"]
    with pytest.raises(NodeError, match="is not held, but shadow"):
        ledger.decisions.release(result.id, "Ohta", "looks fine", lambda _: ["PACS"])


def fractions(report: Dataset) -> set[str]:
    """Series that the report names."""
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    return {item.SeriesInstanceUID for item in study.ReferencedSeriesSequence}


def continued(report: Dataset) -> dict[str, tuple[str, str, str]]:
    """Study, series and SOP class of the predecessors, by SOP Instance UID."""
    return {
        instance.ReferencedSOPInstanceUID: (
            study.StudyInstanceUID,
            series.SeriesInstanceUID,
            instance.ReferencedSOPClassUID,
        )
        for study in report.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
