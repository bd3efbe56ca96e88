import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from node.collection import Collector, opt_outs, own_key, read_index
from node.config import CollectionRule
from node.errors import NodeError
from node.intake import SUCCESS, Intake, Received
from node.ledger import Ledger
from node.ledger.schema import SeriesState
from node.ledger.series import Settlement
from node.storage import Storage
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.writing import file_bytes
from tests.pipelines.made import ct_series


@dataclass(frozen=True)
class Node:
    """The state folder of a node that has received one series of patient RAMP-1 in the role cbct."""

    storage: Storage
    ledger: Ledger


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Node]:
    storage = Storage(tmp_path / "state")
    ledger = Ledger(f"sqlite:///{tmp_path / 'state' / 'ledger.sqlite3'}")
    intake = Intake(storage, ledger)
    for dataset in ct_series(PatientID="RAMP-1"):
        uids = dataset.SOPClassUID, dataset.SOPInstanceUID, ExplicitVRLittleEndian
        assert intake.accept(Received(file_bytes(dataset), *uids, "CONSOLE")).status == SUCCESS
    (series,) = ledger.series.receiving()
    assert ledger.series.settle(series, 5, Settlement(SeriesState.SETTLED, "cbct", None, frozenset()))
    yield Node(storage, ledger)
    ledger.close()


def rule(folder: Path, **changes: object) -> CollectionRule:
    return CollectionRule.model_validate(
        {
            "name": "research",
            "roles": ["cbct"],
            "folder": folder / "data",
            "key_file": folder / "secret" / "key",
            **changes,
        }
    )


def collect(received: Node, chosen: CollectionRule) -> tuple[int, int]:
    return Collector(chosen, received.ledger, received.storage).collect()


def test_settled_series_of_the_role_is_copied_once(received: Node, tmp_path: Path) -> None:
    assert collect(received, rule(tmp_path)) == (1, 0)
    assert collect(received, rule(tmp_path)) == (0, 0)
    (entry,) = read_index(tmp_path / "data")
    assert (entry.role, entry.modality, entry.instances) == ("cbct", "CT", 5)


def test_copies_read_as_the_same_volume(received: Node, tmp_path: Path) -> None:
    collect(received, rule(tmp_path))
    (entry,) = read_index(tmp_path / "data")
    copies = read_image_series(sorted((tmp_path / "data" / entry.folder).glob("*.dcm")))
    (series,) = received.ledger.series.all()
    paths = [received.storage.absolute(one.path or "") for one in received.ledger.series.instances(series.id)]
    assert (copies.volume.array_zyx == read_image_series(paths).volume.array_zyx).all()


def test_no_file_of_the_data_set_holds_the_patient_or_an_original_uid(received: Node, tmp_path: Path) -> None:
    collect(received, rule(tmp_path))
    (series,) = received.ledger.series.all()
    for path in (tmp_path / "data").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for identity in (b"RAMP-1", series.series_instance_uid.encode(), series.study_instance_uid.encode()):
            assert identity not in content, path
            assert identity.decode() not in str(path.relative_to(tmp_path))


def test_copy_says_that_it_is_deidentified(received: Node, tmp_path: Path) -> None:
    collect(received, rule(tmp_path))
    assert {dcmread(path).PatientIdentityRemoved for path in (tmp_path / "data").rglob("*.dcm")} == {"YES"}


def test_key_and_way_back_are_readable_by_their_owner_alone(received: Node, tmp_path: Path) -> None:
    collect(received, rule(tmp_path))
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "secret").iterdir()}
    assert modes == {"key": 0o600, "key.csv": 0o600}
    (entry,) = read_index(tmp_path / "data")
    assert (tmp_path / "secret" / "key.csv").read_text().splitlines() == [f"{entry.patient},RAMP-1"]


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    own_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(NodeError, match="may be read by others than its owner"):
        own_key(tmp_path / "key")


def test_who_opts_out_later_is_removed(received: Node, tmp_path: Path) -> None:
    collect(received, rule(tmp_path))
    (tmp_path / "opt_out.txt").write_text("RAMP-1  # withdrew consent\n")
    chosen = rule(tmp_path, opt_out_file=tmp_path / "opt_out.txt")
    assert collect(received, chosen) == (0, 1)
    assert read_index(tmp_path / "data") == []
    assert list((tmp_path / "data").rglob("*.dcm")) == []


def test_opt_out_list_that_can_not_be_read_stops_the_collection(received: Node, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="opt-out list can not be read"):
        collect(received, rule(tmp_path, opt_out_file=tmp_path / "absent"))
    assert opt_outs(None) == set()


def test_series_of_another_role_is_left_alone(received: Node, tmp_path: Path) -> None:
    assert collect(received, rule(tmp_path, roles=["mvct"])) == (0, 0)


def test_command_collects_what_the_configuration_names(received: Node, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "node.yaml").write_text(f"state_dir: {tmp_path / 'state'}")
    (config / "roles.yaml").write_text("- {role: cbct, all: {Modality: CT}}")
    entry = {"name": "research", "roles": ["cbct"], "folder": str(tmp_path / "d"), "key_file": str(tmp_path / "k")}
    (config / "collections.yaml").write_text(json.dumps([entry]))
    command = [sys.executable, "-m", "node", "collect", "--config", str(config)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == f"research: 1 series added, 0 removed, in {tmp_path / 'd'}\n"
