"""The whole way with programs that nobody here wrote: storescu, the node, Orthanc and storescp, judged by dciodvfy."""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydicom import Dataset, dcmread

from node.config import load_config
from node.ledger.schema import DeliveryState
from pipelines.phantom_study import Kind, PhantomSize, write_phantom
from tests.dcmtk import Server, storescp
from tests.orthanc import Orthanc, orthanc
from tests.peers import storescu
from tests.pipelines.conftest import dciodvfy_errors
from tests.system.node_process import REPOSITORY, NodeProcess, copying, node_process
from tests.waiting import wait_until

DATA = Path(os.environ.get("RTNODE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
GEOMETRY = (
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "PatientID",
    "StudyInstanceUID",
)


@dataclass(frozen=True)
class Ward:
    """A node between a console and its two destinations."""

    node: NodeProcess
    archive: Orthanc
    planning: Server


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    with orthanc({}) as archive, storescp(folder / "storescp") as planning:
        peers = {"ORTHANC": archive.peer(may={"echo", "store"}, commitment=True), "TPS": planning.peer()}
        with node_process(folder / "node", peers, {"copy": copying("ORTHANC", "TPS")}) as node:
            archive.know("RTNODE", "RTNODE", node.address)
            yield Ward(node, archive, planning)


@pytest.fixture(scope="module")
def fraction(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A made-up MVCT of 24 slices."""
    size = PhantomSize(matrix=64, slices=24, fractions=1)
    return list(write_phantom(Kind.HEADNECK, tmp_path_factory.mktemp("phantom"), size=size).fractions[0])


def test_a_series_comes_back_whole_at_both_destinations(ward: Ward, fraction: list[Path]) -> None:
    sent = storescu(fraction, ward.node.address)
    assert sent.returncode == 0, sent.stdout
    wait_until(ward.node.jobs)
    ward.node.wait_until_idle()
    sources = [dcmread(path) for path in fraction]
    for arrived in (ward.planning.datasets(), ward.archive.datasets()):
        assert_copies(arrived, sources)
    assert errors(ward.planning) == []


def test_orthanc_commits_to_what_it_has_taken(ward: Ward) -> None:
    with ward.node.ledger() as ledger:
        wait_until(lambda: ledger.deliveries.counts() == {"committed": 1, "delivered": 1})
        deliveries = {one.peer: one.state for one in ledger.deliveries.of_result(1)}
    assert deliveries == {"ORTHANC": DeliveryState.COMMITTED, "TPS": DeliveryState.DELIVERED}


def assert_copies(arrived: Sequence[Dataset], sources: Sequence[Dataset]) -> None:
    """One derived image for each source, at its place, with its HU."""
    assert len({one.SeriesInstanceUID for one in arrived}) == 1
    assert_same_geometry(arrived, sources)
    by_uid = {str(one.SOPInstanceUID): one for one in sources}
    for one in arrived:
        np.testing.assert_array_equal(hu(one), hu(by_uid[source_uid(one)]))


def assert_same_geometry(arrived: Sequence[Dataset], sources: Sequence[Dataset]) -> None:
    """One derived image for each source, at its place."""
    by_uid = {str(one.SOPInstanceUID): one for one in sources}
    assert {source_uid(one) for one in arrived} == by_uid.keys()
    for one in arrived:
        source = by_uid[source_uid(one)]
        assert {keyword: one[keyword].value for keyword in GEOMETRY} == {
            keyword: source[keyword].value for keyword in GEOMETRY
        }


def source_uid(dataset: Dataset) -> str:
    return str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)


def hu(dataset: Dataset) -> Any:
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def errors(server: Server) -> list[str]:
    """What dciodvfy finds wrong with the files of a server."""
    return [error for path in sorted(server.folder.iterdir()) for error in dciodvfy_errors(path)]


@pytest.fixture
def real_neck_ct(tmp_path: Path) -> list[Path]:
    """A real neck CT of 159 slices, with the header of an MVCT."""
    archive = DATA / "real_ct_dicom" / "tcga_thca_neck_CT.tar.xz"
    if not archive.is_file():
        pytest.skip(f"real data real_ct_dicom are not below RTNODE_DATA ({DATA})")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "real", filter="data")
    paths = [path for path in sorted((tmp_path / "real").rglob("*.dcm"))]
    for path in paths:
        dataset = dcmread(path)
        dataset.Manufacturer, dataset.ManufacturerModelName = "TomoTherapy Incorporated", "Hi-Art"
        dataset.SeriesDescription = "MVCT"
        dataset.save_as(path)
    return paths


@pytest.mark.timeout(900)
def test_a_real_neck_ct_sent_as_mvct_is_enhanced_and_comes_back(real_neck_ct: list[Path], tmp_path: Path) -> None:
    shipped = load_config(REPOSITORY / "config")
    pipeline = yaml.safe_load((REPOSITORY / "config" / "pipelines" / "enhance_mvct.yaml").read_text())
    weights_sha256 = shipped.pipeline("enhance_mvct").weights_sha256()
    roles = yaml.safe_load((REPOSITORY / "config" / "roles.yaml").read_text())
    with orthanc({}) as archive, storescp(tmp_path / "storescp") as planning:
        peers = {"PACS": archive.peer(may={"echo", "store"}), "TPS": planning.peer()}
        with node_process(tmp_path / "node", peers, {"enhance_mvct": pipeline}, roles=roles) as node:
            assert storescu(real_neck_ct, node.address).returncode == 0
            wait_until(node.jobs, 60)
            node.wait_until_idle(deadline_s=800)
            shown = json.loads(node.command("show", "1", "--json"))
            if shown["result"]["state"] == "held":
                node.command("release", str(shown["result"]["id"]), "--by", "A. Person", "--why", "a test")
                node.wait_until_idle()
        arrived = planning.datasets()
        images = [one for one in arrived if one.Modality == "CT"]
        assert [one.Modality for one in arrived if one not in images] == ["SR"]
        assert_same_geometry(images, [dcmread(path) for path in real_neck_ct])
        assert {one.SOPInstanceUID for one in archive.datasets()} == {one.SOPInstanceUID for one in arrived}
        assert any(weights_sha256[0][:8] in str(one) for one in images[0].ContributingEquipmentSequence)
        assert errors(planning) == []
