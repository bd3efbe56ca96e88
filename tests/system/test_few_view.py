"""Few-view CT, the whole way: storescu sends the views, the node reconstructs them, Orthanc files CT series and map."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage, ParametricMapStorage

from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.projection_phantom import RayKind, SimulatedScanner, write_projections
from tests.dcmtk import Server, storescp
from tests.orthanc import Orthanc, orthanc
from tests.peers import storescu
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import changed, ct_series, write
from tests.system.node_process import REPOSITORY, NodeProcess, node_process
from tests.waiting import wait_until

MATRIX, PIXEL_MM, SLICE_MM, SLICES, VIEWS = 64, 4.0, 3.0, 3, 40
ORIGIN_MM = (-100.0, -150.0, 40.0)
RADIUS_MM = 90.0
SETTINGS: Mapping[str, Any] = {"matrix": MATRIX, "seeds": 2}


@dataclass(frozen=True)
class Ward:
    """A node that reconstructs, between a scanner and its two destinations."""

    node: NodeProcess
    archive: Orthanc
    planning: Server


@dataclass(frozen=True)
class Scan:
    """The CT that is the truth, and its views."""

    ct: ImageSeries
    views: tuple[Path, ...]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """The pipeline and the roles as they are shipped, but small."""
    folder = tmp_path_factory.mktemp("ward")
    pipeline = yaml.safe_load((REPOSITORY / "config" / "pipelines" / "reconstruct_sparse.yaml").read_text())
    pipeline["settings"] |= SETTINGS
    roles = yaml.safe_load((REPOSITORY / "config" / "roles.yaml").read_text())
    with orthanc({}) as archive, storescp(folder / "storescp") as planning:
        peers = {"PACS": archive.peer(may={"echo", "store"}), "TPS": planning.peer()}
        with node_process(folder / "node", peers, {"reconstruct_sparse": pipeline}, roles=roles) as node:
            yield Ward(node, archive, planning)


def scan_of(folder: Path, patient: int, rays: RayKind = RayKind.FAN) -> Scan:
    """A cylinder of water with a rod at its left, in the slice nearest to the head."""
    offsets = (np.arange(MATRIX) - (MATRIX - 1) / 2) * PIXEL_MM
    water = np.clip((RADIUS_MM - np.hypot(offsets[:, None], offsets)) / PIXEL_MM + 0.5, 0.0, 1.0)
    hu = np.repeat(1000.0 * (water - 1.0)[None], SLICES, axis=0)
    hu[-1, 24:28, 44:48] = 1000.0
    own = {"PatientID": f"FEW-{patient}", "StudyInstanceUID": f"1.2.{patient}", "FrameOfReferenceUID": f"1.3.{patient}"}
    series = ct_series(
        hu.astype(np.int16), PixelSpacing=[PIXEL_MM, PIXEL_MM], SeriesInstanceUID=f"1.4.{patient}", **own
    )
    for index, one in enumerate(series):
        position = [*ORIGIN_MM[:2], ORIGIN_MM[2] + index * SLICE_MM]
        changed(one, ImagePositionPatient=position, SOPInstanceUID=f"1.5.{patient}.{index}")
    ct = read_image_series(write(series, folder))
    return Scan(ct, write_projections(ct, SimulatedScanner(rays, views=VIEWS), folder / "views"))


def reconstructed(ward: Ward, views: Sequence[Path]) -> Mapping[str, Any]:
    """What `rtnode show` says of the job that these views started, once it has come to rest."""
    before = len(ward.node.jobs())
    sent = storescu(list(views), ward.node.address)
    assert sent.returncode == 0, sent.stdout
    wait_until(lambda: len(ward.node.jobs()) > before)
    ward.node.wait_until_idle(deadline_s=120)
    shown: Mapping[str, Any] = json.loads(ward.node.command("show", str(ward.node.jobs()[-1].id), "--json"))
    return shown


def released(ward: Ward, shown: Mapping[str, Any]) -> list[Dataset]:
    """What has arrived in Orthanc of the job's patient after a person released the result."""
    result = shown["result"]
    assert result["state"] == "held", shown
    known = {one.SOPInstanceUID for one in ward.archive.datasets()}
    ward.node.command("release", str(result["id"]), "--by", "A. Person", "--why", "a test")
    ward.node.wait_until_idle()
    return [one for one in ward.archive.datasets() if one.SOPInstanceUID not in known]


def finding(shown: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {one["name"]: one for one in shown["result"]["findings"]}[name]
    return found


def of_class(arrived: Sequence[Dataset], sop_class_uid: str) -> list[Dataset]:
    return [one for one in arrived if one.SOPClassUID == sop_class_uid]


def reread(images: Sequence[Dataset], folder: Path) -> ImageSeries:
    """The CT series as another program finds it, without an error in any instance."""
    folder.mkdir()
    paths = [folder / f"{one.SOPInstanceUID}.dcm" for one in images]
    for path, one in zip(paths, images, strict=True):
        one.save_as(path)
    assert [error for path in paths for error in dciodvfy_errors(path)] == []
    return read_image_series(paths)


def rod_lps_mm(series: ImageSeries) -> NDArray[np.float64]:
    rod = np.argwhere(series.volume.array_zyx > 500)
    assert len(rod) > 8
    place: NDArray[np.float64] = series.volume.points_lps(rod.mean(axis=0)[None, ::-1])[0]
    return place


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return scan_of(tmp_path_factory.mktemp("whole"), patient=1)


def test_views_that_were_sent_come_back_as_a_ct_series_and_a_map(ward: Ward, whole: Scan, tmp_path: Path) -> None:
    shown = reconstructed(ward, whole.views)
    # The prior has never seen pixels as large as these, so a person has to look.
    assert finding(shown, "pixel_spacing_outside_mm")["verdict"] == "hold"
    assert finding(shown, "geometry_differences")["verdict"] == "release"
    assert ward.archive.datasets() == []
    arrived = released(ward, shown)
    series = reread(of_class(arrived, CTImageStorage), tmp_path / "arrived")
    (spread,) = of_class(arrived, ParametricMapStorage)
    (report,) = of_class(arrived, Comprehensive3DSRStorage)
    assert report.SeriesDescription == "Quality report NOT FOR TREATMENT"
    assert len(arrived) == SLICES + 2
    assert series.volume.same_grid(whole.ct.volume)
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID", "PatientName"):
        assert series.header[keyword].value == whole.ct.header[keyword].value == spread[keyword].value, keyword
    assert rod_lps_mm(series) == pytest.approx(rod_lps_mm(whole.ct), abs=0.5)
    inside = whole.ct.volume.array_zyx == 0
    assert series.volume.array_zyx[inside].mean() == pytest.approx(0.0, abs=10.0)
    assert series.header.SeriesDescription == "Few-view CT NOT FOR TREATMENT"
    assert {one.SOPInstanceUID for one in ward.planning.datasets()} == {one.SOPInstanceUID for one in arrived}


def test_a_scan_that_lacks_a_view_is_reconstructed_after_the_quiet_time_and_flagged(ward: Ward, tmp_path: Path) -> None:
    scan = scan_of(tmp_path, patient=2)
    shown = reconstructed(ward, [path for number, path in enumerate(scan.views) if number != VIEWS + 5])
    lacking = str(dcmread(scan.views[VIEWS + 5], stop_before_pixels=True).SOPInstanceUID)
    with ward.node.ledger() as ledger:
        (series,) = ledger.series.of_patient("FEW-2")
    assert (series.state, series.reason) == ("incomplete", "1 of 120 views is missing")
    missing = finding(shown, "missing_views_fraction")
    assert missing["value"] == pytest.approx(1 / 120) and missing["verdict"] != "release"
    arrived = released(ward, shown)
    images = sorted(of_class(arrived, CTImageStorage), key=lambda one: int(one.InstanceNumber))
    assert [len(one.SourceImageSequence) for one in images] == [VIEWS, VIEWS - 1, VIEWS]
    assert lacking not in {item.ReferencedSOPInstanceUID for one in images for item in one.SourceImageSequence}
    found = reread(images, tmp_path / "arrived")
    assert found.volume.same_grid(scan.ct.volume)
    assert rod_lps_mm(found) == pytest.approx(rod_lps_mm(scan.ct), abs=0.5)


def test_the_view_that_comes_late_supersedes_the_result_without_it(ward: Ward, tmp_path: Path) -> None:
    scan = scan_of(tmp_path, patient=3, rays=RayKind.PARALLEL)
    lacking = reconstructed(ward, scan.views[:-1])
    assert finding(lacking, "missing_views_fraction")["value"] == pytest.approx(1 / VIEWS)
    complete = reconstructed(ward, scan.views[-1:])
    assert finding(complete, "missing_views_fraction")["value"] == 0.0
    again = json.loads(ward.node.command("show", str(lacking["id"]), "--json"))
    assert again["state"] == "superseded"


def test_a_scan_that_lacks_many_views_is_rejected_in_a_sentence(ward: Ward, tmp_path: Path) -> None:
    scan = scan_of(tmp_path, patient=4, rays=RayKind.PARALLEL)
    shown = reconstructed(ward, scan.views[::2])
    assert (shown["state"], shown["reason"]) == ("failed", "20 of 40 views are missing, more than 5%")
