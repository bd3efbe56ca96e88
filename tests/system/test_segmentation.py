"""Segmentation, the whole way: storescu sends a CT, the node finds the organs, Orthanc files both objects of them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, RTStructureSetStorage, SegmentationStorage

from tests.dcmtk import Server, storescp
from tests.models.segmenters import saved_by_hu
from tests.orthanc import Orthanc, orthanc
from tests.peers import storescu
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import changed, write
from tests.pipelines.organ_readers import contours, regions, segments
from tests.pipelines.two_parotids import BALLS, ct, folder_in, task, truth, with_limits
from tests.system.node_process import REPOSITORY, NodeProcess, node_process
from tests.waiting import wait_until


@dataclass(frozen=True)
class Ward:
    """A node that segments every planning CT twice, between a scanner and its two destinations."""

    node: NodeProcess
    archive: Orthanc
    planning: Server


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """The pipeline and the roles as they are shipped, with weights of known answer; once more without limits."""
    folder = tmp_path_factory.mktemp("ward")
    shipped = yaml.safe_load((REPOSITORY / "config" / "pipelines" / "segment_headneck.yaml").read_text())
    own = {"organs": list(BALLS), "mirror": False}
    pipelines = {}
    for name, limit in (("segment_headneck", 1e6), ("segment_unmeasured", None)):
        weights = with_limits(saved_by_hu(folder_in(folder, name), task()), limit)
        pipelines[name] = {**shipped, "settings": {**shipped["settings"], **own, "weights": weights}}
    roles = yaml.safe_load((REPOSITORY / "config" / "roles.yaml").read_text())
    with orthanc({}) as archive, storescp(folder / "storescp") as planning:
        peers = {"PACS": archive.peer(may={"echo", "store"}), "TPS": planning.peer()}
        with node_process(folder / "node", peers, pipelines, roles=roles) as node:
            yield Ward(node, archive, planning)


@pytest.fixture(scope="module")
def sent(ward: Ward, tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """The slices of a patient, who was segmented by both pipelines."""
    series = ct(position="FFS")
    for index, one in enumerate(series):
        own = {"PatientID": "SEG-1", "StudyInstanceUID": "1.2.2.1", "FrameOfReferenceUID": "1.2.3.1"}
        changed(one, **own, SeriesInstanceUID="1.2.4.1", SOPInstanceUID=f"1.2.5.1.{index + 1}")
    done = storescu(write(series, tmp_path_factory.mktemp("ct")), ward.node.address)
    assert done.returncode == 0, done.stdout
    wait_until(lambda: len(ward.node.jobs()) == 2)
    ward.node.wait_until_idle(deadline_s=120)
    return series


def shown(ward: Ward, pipeline: str) -> Mapping[str, Any]:
    """What `rtnode show` says of the only job of a pipeline."""
    (job,) = [one for one in ward.node.jobs() if one.pipeline == pipeline]
    found: Mapping[str, Any] = json.loads(ward.node.command("show", str(job.id), "--json"))
    return found


def arrived(ward: Ward, sop_class_uid: str, folder: Path) -> Path:
    """The only object of a kind that Orthanc has, as a file without an error."""
    (one,) = [one for one in ward.archive.datasets() if one.SOPClassUID == sop_class_uid]
    path = folder / "arrived.dcm"
    one.save_as(path)
    assert dciodvfy_errors(path) == []
    return path


def test_a_result_within_its_limits_arrives_everywhere(ward: Ward, sent: list[Dataset]) -> None:
    result = shown(ward, "segment_headneck")["result"]
    assert {one["name"]: one["verdict"] for one in result["findings"] if one["verdict"] != "release"} == {}
    kinds = {SegmentationStorage, RTStructureSetStorage, Comprehensive3DSRStorage}
    for there in (ward.archive.datasets(), ward.planning.datasets()):
        assert len(there) == 3 and {one.SOPClassUID for one in there} == kinds
        assert {(one.PatientID, one.StudyInstanceUID) for one in there} == {("SEG-1", "1.2.2.1")}
        assert {one.SeriesDescription for one in there if one.Modality != "SR"} == {
            "Organs head and neck NOT FOR TREATMENT"
        }


def test_the_segmentation_in_the_archive_shows_the_organs_on_the_images_that_were_sent(
    ward: Ward, sent: list[Dataset], tmp_path: Path
) -> None:
    read = segments(arrived(ward, SegmentationStorage, tmp_path), sent)
    assert list(read) == list(BALLS)
    assert all(np.array_equal(read[organ], mask) for organ, mask in truth("FFS").items())


def test_the_structure_set_in_the_archive_encloses_them(ward: Ward, sent: list[Dataset], tmp_path: Path) -> None:
    path = arrived(ward, RTStructureSetStorage, tmp_path)
    read = regions(path, sent)
    assert all(np.array_equal(read[organ], mask) for organ, mask in truth("FFS").items())
    named = {uid for drawn in contours(path).values() for uid, _ in drawn}
    assert named <= {one.SOPInstanceUID for one in sent}


def test_the_archive_itself_reads_organs_and_references(ward: Ward, sent: list[Dataset]) -> None:
    by_class = {one["SOPClassUID"]: one for one in ward.archive.tags()}
    seg, rtstruct = by_class[SegmentationStorage], by_class[RTStructureSetStorage]
    assert [one["SegmentLabel"] for one in seg["SegmentSequence"]] == list(BALLS)
    assert [one["ROIName"] for one in rtstruct["StructureSetROISequence"]] == list(BALLS)
    uids = {one.SOPInstanceUID for one in sent}
    (series,) = seg["ReferencedSeriesSequence"]
    assert series["SeriesInstanceUID"] == "1.2.4.1"
    assert {one["ReferencedSOPInstanceUID"] for one in series["ReferencedInstanceSequence"]} <= uids
    (frame,) = rtstruct["ReferencedFrameOfReferenceSequence"]
    assert frame["FrameOfReferenceUID"] == "1.2.3.1"
    images = frame["RTReferencedStudySequence"][0]["RTReferencedSeriesSequence"][0]["ContourImageSequence"]
    assert {one["ReferencedSOPInstanceUID"] for one in images} == uids


def test_without_limits_a_result_is_held_and_reaches_no_peer(ward: Ward, sent: list[Dataset]) -> None:
    result = shown(ward, "segment_unmeasured")["result"]
    assert result["state"] == "held"
    assert {one["verdict"] for one in result["findings"] if one["name"] == "organ_doubt"} == {"hold"}
    with ward.node.ledger() as ledger:
        # Two instances and the quality report to two peers, and none of them is of the held result.
        assert sum(ledger.deliveries.counts().values()) == 6
    assert len(ward.archive.datasets()) == len(ward.planning.datasets()) == 3
