import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from node.collection import Collector, check_opt_outs, opt_outs, own_key
from node.config import CollectionRule, load_config
from node.errors import ConfigError, NodeError
from node.intake import SUCCESS, Intake, Received
from node.ledger import Ledger
from node.ledger.schema import SeriesState
from node.ledger.series import Settlement
from node.retention import Retention
from node.storage import Storage
from pipelines.collection_index import paths_of, read_index, write_index
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.structure_set import read_structure_set
from pipelines.dicom.writing import file_bytes
from pipelines.training_data import training_volumes
from tests.ct import new_ct_series
from tests.dicom_files import structure_set
from tests.pipelines.made import changed, ct_series
from tests.pipelines.made import write as write_files


@dataclass(frozen=True)
class Node:
    """The state folder of a node that has received series."""

    storage: Storage
    ledger: Ledger

    def accept(self, datasets: Sequence[Dataset]) -> None:
        intake = Intake(self.storage, self.ledger)
        for dataset in datasets:
            uids = dataset.SOPClassUID, dataset.SOPInstanceUID, ExplicitVRLittleEndian
            assert intake.accept(Received(file_bytes(dataset), *uids, "CONSOLE")).status == SUCCESS

    def receive(self, datasets: Sequence[Dataset], role: str, instances: int | None = None) -> None:
        """One series, settled in the role; `instances`: how many it has, where some came before."""
        self.accept(datasets)
        (series,) = self.ledger.series.receiving()
        settled = Settlement(SeriesState.SETTLED, role, None, frozenset())
        assert self.ledger.series.settle(series, instances or len(datasets), settled)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Node]:
    storage = Storage(tmp_path / "state")
    ledger = Ledger(f"sqlite:///{tmp_path / 'state' / 'ledger.sqlite3'}")
    yield Node(storage, ledger)
    ledger.close()


@pytest.fixture
def received(empty: Node) -> Node:
    """A node that has received one series of patient RAMP-1 in the role cbct."""
    empty.receive(ct_series(PatientID="RAMP-1"), "cbct")
    return empty


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
    """How many series were added and removed."""
    outcome = Collector(chosen, received.ledger, received.storage).collect()
    return outcome.added, outcome.removed


def left_out(received: Node, chosen: CollectionRule) -> Mapping[str, int]:
    outcome = Collector(chosen, received.ledger, received.storage).collect()
    assert (outcome.added, outcome.removed) == (0, 0)
    return outcome.left_out


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
    (tmp_path / "opt_out.txt").write_text("# withdrew consent\nRAMP-1\n")
    chosen = rule(tmp_path, opt_out_file=tmp_path / "opt_out.txt")
    assert collect(received, chosen) == (0, 1)
    assert read_index(tmp_path / "data") == []
    assert list((tmp_path / "data").rglob("*.dcm")) == []


def test_opt_out_list_that_can_not_be_read_stops_the_collection(received: Node, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="opt-out list can not be read"):
        collect(received, rule(tmp_path, opt_out_file=tmp_path / "absent"))
    assert opt_outs(None) == set()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_opt_out_list_has_one_patient_id_on_each_line(tmp_path: Path, encoding: str, end: str) -> None:
    lines = ["RAMP-1", "# A comment", "", "  A#12 ", "  # another, B", "MÜLLER 7"]
    (tmp_path / "list").write_bytes(end.join(lines).encode(encoding))
    assert opt_outs(tmp_path / "list") == {"RAMP-1", "A#12", "MÜLLER 7"}


def test_patient_whose_id_follows_a_byte_order_mark_is_removed(received: Node, tmp_path: Path) -> None:
    chosen = rule(tmp_path, opt_out_file=tmp_path / "opt_out.txt")
    (tmp_path / "opt_out.txt").write_text("")
    collect(received, chosen)
    (tmp_path / "opt_out.txt").write_bytes("RAMP-1\r\n".encode("utf-8-sig"))
    assert collect(received, chosen) == (0, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"A\nB # withdrew", "line 2 of .* has a # behind a blank: a comment is a line of its own"),
        ("A".encode("utf-16"), "is no UTF-8 text"),
        ("A".encode("utf-16-le"), "is no UTF-8 text"),
        ("MÜLLER".encode("latin-1"), "is no UTF-8 text"),
    ],
)
def test_opt_out_list_that_could_be_misread_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(NodeError, match=reason):
        opt_outs(tmp_path / "list")


def test_series_of_another_role_is_left_alone(received: Node, tmp_path: Path) -> None:
    assert collect(received, rule(tmp_path, roles=["mvct"])) == (0, 0)


def command(tmp_path: Path) -> list[str]:
    """`rtnode collect` with a data set of role cbct in folder d."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "node.yaml").write_text(f"state_dir: {tmp_path / 'state'}")
    (config / "roles.yaml").write_text("- {role: cbct, all: {Modality: CT}}")
    entry = {"name": "research", "roles": ["cbct"], "folder": str(tmp_path / "d"), "key_file": str(tmp_path / "k")}
    (config / "collections.yaml").write_text(json.dumps([entry]))
    return [sys.executable, "-m", "node", "collect", "--config", str(config)]


def test_command_collects_what_the_configuration_names(received: Node, tmp_path: Path) -> None:
    answer = subprocess.run(command(tmp_path), capture_output=True, text=True, check=True)
    assert answer.stdout == f"research: 1 series added, 0 removed, in {tmp_path / 'd'}\n"


def test_command_says_how_many_series_it_left_out_and_why(received: Node, tmp_path: Path) -> None:
    remove_expired(received)
    answer = subprocess.run(command(tmp_path), capture_output=True, text=True, check=True)
    assert answer.stdout == (
        f"research: 0 series added, 0 removed, in {tmp_path / 'd'}\n"
        "research: 1 series left out: files of them are gone\n"
    )


GONE = {"files of them are gone": 1}


def remove_expired(node: Node) -> None:
    assert Retention(1e-9, node.ledger, node.storage).remove_expired() > 0


def test_series_whose_files_were_removed_after_their_time_is_left_out_and_counted(
    received: Node, tmp_path: Path
) -> None:
    remove_expired(received)
    assert left_out(received, rule(tmp_path)) == GONE
    assert read_index(tmp_path / "data") == []


def test_series_that_got_only_some_of_its_files_back_is_left_out_until_it_has_all(
    received: Node, tmp_path: Path
) -> None:
    remove_expired(received)
    series = ct_series(PatientID="RAMP-1")
    received.accept(series[:3])
    assert left_out(received, rule(tmp_path)) == GONE
    received.accept(series[3:])
    assert collect(received, rule(tmp_path)) == (1, 0)


def test_file_that_is_not_where_the_ledger_says_leaves_the_series_out(received: Node, tmp_path: Path) -> None:
    (series,) = received.ledger.series.all()
    received.storage.absolute(received.ledger.series.instances(series.id)[2].path or "").unlink()
    assert left_out(received, rule(tmp_path)) == GONE


@pytest.mark.parametrize(
    ("late", "reason"), [({}, GONE), ({"BurnedInAnnotation": "YES"}, {"their pixels may show text": 1})]
)
def test_revision_that_can_not_be_copied_whole_leaves_the_good_copy(
    empty: Node, tmp_path: Path, late: dict[str, str], reason: dict[str, int]
) -> None:
    series = ct_series(PatientID="RAMP-1")
    empty.receive(series[:4], "cbct")
    assert collect(empty, rule(tmp_path)) == (1, 0)
    (before,) = read_index(tmp_path / "data")
    if reason is GONE:
        remove_expired(empty)
    empty.receive([changed(series[4], **late)], "cbct", instances=5)
    assert left_out(empty, rule(tmp_path)) == reason
    assert read_index(tmp_path / "data") == [before]
    assert len(read_image_series(paths_of(tmp_path / "data", before)).headers) == 4
    assert len(list((tmp_path / "data").rglob("*.dcm"))) == 4


def test_newer_revision_replaces_the_copy(empty: Node, tmp_path: Path) -> None:
    series = ct_series(PatientID="RAMP-1")
    empty.receive(series[:4], "cbct")
    collect(empty, rule(tmp_path))
    empty.receive(series[4:], "cbct", instances=5)
    assert collect(empty, rule(tmp_path)) == (1, 0)
    (entry,) = read_index(tmp_path / "data")
    assert (entry.instances, len(paths_of(tmp_path / "data", entry))) == (5, 5)


def test_entry_without_images_of_an_earlier_release_goes_and_is_collected_anew(received: Node, tmp_path: Path) -> None:
    collect(received, rule(tmp_path))
    (entry,) = read_index(tmp_path / "data")
    write_index(tmp_path / "data", [replace(entry, instances=0)])
    assert collect(received, rule(tmp_path)) == (1, 0)
    assert read_index(tmp_path / "data") == [entry]


def splits(folder: Path) -> dict[str, str | None]:
    return {one.patient: one.split for one in read_index(folder)}


def of_patient(number: int) -> list[Dataset]:
    return new_ct_series(patient_id=f"MADE-{number}", PixelSpacing=[2.0, 2.0])


def test_patients_keep_their_split_while_the_collection_grows(empty: Node, tmp_path: Path) -> None:
    before: dict[str, str | None] = {}
    for number in range(6):
        empty.receive(of_patient(number), "cbct")
        collect(empty, rule(tmp_path))
        after = splits(tmp_path / "data")
        assert {patient: after[patient] for patient in before} == before
        before = after
    assert sorted(str(split) for split in before.values()) == ["test", *["train"] * 4, "validation"]


def test_all_series_of_a_patient_are_in_one_split(empty: Node, tmp_path: Path) -> None:
    for number in range(4):
        empty.receive(of_patient(number), "planning_ct")
    chosen = rule(tmp_path, roles=["cbct", "planning_ct"])
    collect(empty, chosen)
    for number in range(4):
        empty.receive(of_patient(number), "cbct")
    assert collect(empty, chosen) == (4, 0)
    volumes = training_volumes(tmp_path / "data")
    assert sorted(volume.domain for volume in volumes) == ["cbct"] * 4 + ["planning_ct"] * 4
    assert len({(volume.patient_id, volume.split) for volume in volumes}) == 4
    assert {volume.patient_id: volume.split for volume in volumes} == splits(tmp_path / "data")


def test_an_index_from_before_there_were_splits_gets_them(received: Node, tmp_path: Path) -> None:
    collect(received, rule(tmp_path))
    index = tmp_path / "data" / "index.json"
    index.write_text(
        json.dumps([{k: v for k, v in one.items() if k != "split"} for one in json.loads(index.read_text())])
    )
    assert list(splits(tmp_path / "data").values()) == [None]
    collect(received, rule(tmp_path))
    assert list(splits(tmp_path / "data").values()) == ["train"]


def test_structure_set_keeps_standard_names_and_loses_the_patient(empty: Node, tmp_path: Path) -> None:
    images = new_ct_series(patient_id="SECRETID")
    frame = images[0].FrameOfReferenceUID
    rois = [
        changed(Dataset(), ROINumber=number, ReferencedFrameOfReferenceUID=frame, ROIName=name)
        for number, name in enumerate(("Parotid_L", "PTV SECRET^NAME", "Myelon", "Secret bolus"), start=1)
    ]
    empty.receive([structure_set(images, PatientName="SECRET^NAME", StructureSetROISequence=rois)], "structure_set")
    collect(empty, rule(tmp_path, roles=["structure_set"], structure_names={"Myelon": "SpinalCord"}))
    (path,) = (tmp_path / "data").rglob("*.dcm")
    assert b"SECRET" not in path.read_bytes().upper()
    assert [roi.name for roi in read_structure_set(path).rois] == ["Parotid_L", "ROI 2", "SpinalCord", "ROI 4"]


def test_structure_name_of_the_configuration_has_to_be_of_the_form_of_tg_263(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(f"state_dir: {tmp_path}")
    (tmp_path / "roles.yaml").write_text("- {role: cbct, all: {Modality: CT}}")
    entry = {"name": "a", "roles": ["cbct"], "folder": "d", "key_file": "k", "structure_names": {"PTV": "PTV^Suzuki"}}
    (tmp_path / "collections.yaml").write_text(json.dumps([entry]))
    with pytest.raises(ConfigError, match="structure_names"):
        load_config(tmp_path)


def test_data_set_that_holds_who_opted_out_is_refused_until_it_is_collected_again(
    received: Node, tmp_path: Path
) -> None:
    (tmp_path / "opt_out.txt").write_text("")
    chosen = rule(tmp_path, opt_out_file=tmp_path / "opt_out.txt")
    collect(received, chosen)
    check_opt_outs([chosen], tmp_path / "data")
    (tmp_path / "opt_out.txt").write_text("RAMP-1")
    (patient,) = (path for path in (tmp_path / "data").iterdir() if path.is_dir())
    for data in (tmp_path / "data", tmp_path, patient):
        with pytest.raises(
            NodeError, match="holds images of 1 who opted out since they were collected: run rtnode collect"
        ):
            check_opt_outs([chosen], data)
    check_opt_outs([chosen], tmp_path / "elsewhere")
    collect(received, chosen)
    check_opt_outs([chosen], tmp_path / "data")


def test_without_the_key_nobody_can_tell_who_opted_out(received: Node, tmp_path: Path) -> None:
    (tmp_path / "opt_out.txt").write_text("SOMEBODY")
    chosen = rule(tmp_path, opt_out_file=tmp_path / "opt_out.txt")
    collect(received, chosen)
    (tmp_path / "secret" / "key").unlink()
    with pytest.raises(NodeError, match="the key of the collection can not be read"):
        check_opt_outs([chosen], tmp_path / "data")
    assert not (tmp_path / "secret" / "key").exists()


def test_loose_copies_of_collected_images_are_of_the_same_patient_and_split(empty: Node, tmp_path: Path) -> None:
    for number in range(4):
        empty.receive(of_patient(number), "cbct")
    collect(empty, rule(tmp_path))
    for number, one in enumerate(read_index(tmp_path / "data")):
        copies = [dcmread(path) for path in (tmp_path / "data" / one.folder).glob("*.dcm")]
        loose = tmp_path / "data" / "beside the index" / str(number)
        elsewhere = tmp_path / "elsewhere" / str(number)
        for folder in (loose, elsewhere):
            folder.mkdir(parents=True)
            write_files([changed(copy, SeriesInstanceUID=f"1.2.{number}") for copy in copies], folder)
    (tmp_path / "both").mkdir()
    for name in ("data", "elsewhere"):
        (tmp_path / name).rename(tmp_path / "both" / name)
    volumes = training_volumes(tmp_path / "both")
    assert len(volumes) == 8
    assert len({(volume.patient_id, volume.split) for volume in volumes}) == 4
