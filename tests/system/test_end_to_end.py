"""The whole way with programs that nobody here wrote: storescu, the node, Orthanc and storescp, judged by dciodvfy."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from node.ledger.schema import DeliveryState
from pipelines.phantom_study import Kind, PhantomSize, write_phantom
from tests.dcmtk import Server, storescp
from tests.orthanc import Orthanc, orthanc
from tests.peers import storescu
from tests.pipelines.conftest import dciodvfy_errors
from tests.system.node_process import NodeProcess, copying, node_process
from tests.waiting import wait_until

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


def assert_copies(arrived: list[Dataset], sources: list[Dataset]) -> None:
    """One derived image for each source, at its place, with its HU."""
    by_uid = {str(one.SOPInstanceUID): one for one in sources}
    assert len({one.SeriesInstanceUID for one in arrived}) == 1
    assert {source_uid(one) for one in arrived} == by_uid.keys()
    for one in arrived:
        source = by_uid[source_uid(one)]
        assert {keyword: one[keyword].value for keyword in GEOMETRY} == {
            keyword: source[keyword].value for keyword in GEOMETRY
        }
        np.testing.assert_array_equal(hu(one), hu(source))


def source_uid(dataset: Dataset) -> str:
    return str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)


def hu(dataset: Dataset) -> Any:
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def errors(server: Server) -> list[str]:
    """What dciodvfy finds wrong with the files of a server."""
    return [error for path in sorted(server.folder.iterdir()) for error in dciodvfy_errors(path)]
