"""Real files that are odd or broken: each gets an answer, none keeps the next study from passing."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info

from node.ledger.schema import SeriesState
from node.sop_classes import TRANSFER_SYNTAXES
from tests.dicom_files import ct_series, data_set, encoded, write
from tests.peers import RunningNode, associated, config_folder, running_node, send_encoded, stored, storescu
from tests.waiting import wait_until

# pydicom warns of what is odd here.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.req("NODE-09")]

REAL_DATA = Path(os.environ.get("RTNODE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
STATUSES = {0x0000, 0x0111, 0xA900, 0xC000}


@pytest.fixture(scope="module")
def odd_files() -> list[Path]:
    folder = REAL_DATA / "odd_dicom"
    if not folder.is_dir():
        pytest.skip(f"real data odd_dicom are not below RTNODE_DATA ({REAL_DATA})")
    with (folder / "manifest.csv").open(encoding="utf-8") as manifest:
        return [folder / row["path"] for row in csv.DictReader(manifest)]


@pytest.fixture
def node(scheduler: str, tmp_path: Path) -> Iterator[RunningNode]:
    with running_node(config_folder(tmp_path, {"engine": scheduler})) as running:
        yield running


def answers(files: list[Path], node: RunningNode) -> dict[str, int]:
    """The status of every file of which a context was accepted, all over one association."""
    kinds = {path: named(path) for path in files}
    contexts: dict[str, list[str]] = {}
    for sop_class, syntax in sorted({kind for kind in kinds.values() if all(kind)}):
        contexts.setdefault(sop_class, []).append(syntax)
    with associated(node.address, contexts) as association:
        accepted = {(one.abstract_syntax, one.transfer_syntax[0]) for one in association.accepted_contexts}
        return {str(path): stored(association, path) for path, kind in kinds.items() if kind in accepted}


def named(path: Path) -> tuple[str, str]:
    try:
        meta = read_file_meta_info(path)
    except Exception:  # noqa: BLE001  # what pydicom can not read as a file, pynetdicom can not send
        return "", ""
    has_instance = "MediaStorageSOPInstanceUID" in meta
    return (meta.get("MediaStorageSOPClassUID", "") if has_instance else ""), meta.get("TransferSyntaxUID", "")


def test_every_odd_file_gets_an_answer_and_the_next_study_passes(
    odd_files: list[Path], node: RunningNode, tmp_path: Path
) -> None:
    statuses = answers(odd_files, node)
    assert len(statuses) > 150
    assert {path: status for path, status in statuses.items() if status not in STATUSES} == {}
    good = ct_series(3)
    assert send_encoded([encoded(one) for one in good], tmp_path, node.address) == [0x0000] * 3
    wait_until(lambda: node.node.ledger.series.receiving() == [], 60, "every odd series is judged")
    assert node.series(good[0]).state == SeriesState.SETTLED


def test_what_dcmtk_sends_of_them_is_answered_too(odd_files: list[Path], node: RunningNode, tmp_path: Path) -> None:
    said = storescu(odd_files, node.address, "-nh", "-xs", "-R").stdout
    assert said.count("Received Store Response") > 100
    good = ct_series(3)
    assert storescu(write(good, tmp_path), node.address).returncode == 0
    assert node.settled(good[0]).state == SeriesState.SETTLED


@pytest.mark.parametrize("name", ["chrH31.dcm", "chrH32.dcm"])
def test_japanese_names_keep_their_bytes(odd_files: list[Path], node: RunningNode, tmp_path: Path, name: str) -> None:
    sent = next(path for path in odd_files if path.name == name).read_bytes()
    assert send_encoded([sent], tmp_path, node.address) == [0x0000]
    [kept] = node.files("instances")
    assert data_set(kept.read_bytes()) == data_set(sent)
    assert b"\x1b$B" in data_set(sent)  # the escape sequence that begins Japanese (PS3.5 6.1.2.5)


def test_a_syntax_that_is_not_accepted_is_not_negotiated(odd_files: list[Path], node: RunningNode) -> None:
    refused = {syntax for _, syntax in map(named, odd_files) if syntax and syntax not in TRANSFER_SYNTAXES}
    with associated(node.address, {"1.2.840.10008.5.1.4.1.1.2": [*refused, TRANSFER_SYNTAXES[0]]}) as association:
        assert {one.transfer_syntax[0] for one in association.accepted_contexts} == {TRANSFER_SYNTAXES[0]}
