"""Training volumes from folders of research collections, DICOM files and `.npz` files."""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from models.training.volumes import Split
from pipelines.base import PipelineError
from pipelines.collection_index import CollectedSeries, write_index
from pipelines.copy_series import CopySeries
from pipelines.dicom.derived import coded
from pipelines.training_data import training_volumes
from tests.pipelines import made
from tests.pipelines.conftest import inputs
from tests.pipelines.made import changed, oriented_series, ramp, write


def ct_series(**changes: Any) -> list[Dataset]:
    """A series with square pixels."""
    return made.ct_series(**{"PixelSpacing": [2.0, 2.0], **changes})


def patients(folder: Path, count: int) -> None:
    for number in range(count):
        below = folder / str(number)
        below.mkdir()
        write(ct_series(PatientID=f"SECRET-{number}", SeriesInstanceUID=f"1.2.{number}"), below)


def test_dicom_patients_are_split_and_not_named(tmp_path: Path) -> None:
    patients(tmp_path, 4)
    volumes = training_volumes(tmp_path)
    assert sorted(str(volume.split) for volume in volumes) == ["test", "train", "train", "validation"]
    assert len({volume.patient_id for volume in volumes}) == 4
    assert not any("SECRET" in volume.patient_id for volume in volumes)


def test_two_patients_are_too_few_to_hold_one_out(tmp_path: Path) -> None:
    patients(tmp_path, 2)
    assert {volume.split for volume in training_volumes(tmp_path)} == {"train"}


def test_a_prone_series_is_turned_and_its_spacing_with_it(tmp_path: Path) -> None:
    sagittal = oriented_series(ramp(), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (0, 0, 0))
    write([changed(one, PixelSpacing=[2.0, made.SLICE_MM]) for one in sagittal], tmp_path)
    (volume,) = training_volumes(tmp_path)
    assert volume.hu_zyx.shape == (16, 20, 5)
    assert volume.spacing_zyx_mm == pytest.approx((2.0, 3.0, 3.0))


def test_a_series_with_a_gap_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    patients(tmp_path, 1)
    (tmp_path / "gap").mkdir()
    series = ct_series(SeriesInstanceUID="1.9")
    write(series[:2] + series[3:], tmp_path / "gap")
    (tmp_path / "notes.txt").write_text("no image")
    with caplog.at_level(logging.WARNING):
        assert len(training_volumes(tmp_path)) == 1
    (record,) = caplog.records
    assert record.__dict__["reason"].startswith("1 slice is missing")


def test_npz_volumes_are_taken_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", ct=ramp(), spacing_zyx=np.array([3.0, 2.0, 2.0]))
    (volume,) = training_volumes(tmp_path)
    assert np.array_equal(volume.hu_zyx, ramp())


def plain(folder: Path, *names: str) -> None:
    """Plain volumes, which say no split."""
    for name in names:
        np.savez(folder / f"{name}.npz", ct=np.zeros((2, 4, 4), np.int16), spacing_zyx=np.array([3.0, 1.0, 1.0]))


def splits(folder: Path) -> dict[str, Split | None]:
    return {volume.patient_id: volume.split for volume in training_volumes(folder)}


def test_plain_npz_volumes_are_split_by_patient_as_dicom_is(tmp_path: Path) -> None:
    plain(tmp_path, *(f"neck_{number:02d}" for number in range(20)))
    found = splits(tmp_path)
    assert Counter(found.values()) == {"train": 16, "validation": 2, "test": 2}
    assert splits(tmp_path) == found
    assert [found[name] for name in sorted(found)][:4] != ["validation", "validation", "test", "test"]


def test_npz_and_dicom_patients_without_a_stated_split_share_the_three(tmp_path: Path) -> None:
    plain(tmp_path, "neck")
    patients(tmp_path, 2)
    assert sorted(str(split) for split in splits(tmp_path).values()) == ["test", "train", "validation"]


def test_what_the_data_say_takes_no_part_in_the_division_of_the_rest(tmp_path: Path) -> None:
    openkbp(tmp_path, "pt_1")
    plain(tmp_path, "a", "b")
    assert splits(tmp_path) == {"pt_1": "train", "a": "train", "b": "train"}


@pytest.mark.parametrize("name", ["broken.npz", "none.txt"])
def test_a_folder_without_a_volume_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(PipelineError, match=r"broken\.npz can not be read|no CT series and no \.npz volume"):
        training_volumes(tmp_path)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="absent is no folder"):
        training_volumes(tmp_path / "absent")


def test_series_with_two_spacings_is_refused_with_the_readers_reason(tmp_path: Path) -> None:
    series = ct_series()
    series[2].PixelSpacing = [1.0, 1.0]
    write(series, tmp_path)
    with pytest.raises(PipelineError, match=r"no series that can be used, the first of 1 because: .*[Ss]pacing"):
        training_volumes(tmp_path)


def test_volumes_whose_pixels_are_not_square_are_left_out_with_their_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patients(tmp_path, 1)
    (tmp_path / "wide").mkdir()
    write(ct_series(SeriesInstanceUID="1.9", PixelSpacing=[2.0, 1.5]), tmp_path / "wide")
    collection(tmp_path / "collected", [entry("A1", 7)], PixelSpacing=[2.0, 2.1])
    np.savez(tmp_path / "tall.npz", ct=ramp(), spacing_zyx=np.array([3.0, 2.0, 4.0]))
    np.savez(tmp_path / "rounded.npz", ct=ramp(), spacing_zyx=np.array([3.0, 1.0, 1.005]))
    assert len(training_volumes(tmp_path)) == 2
    assert sorted(record.__dict__["reason"] for record in caplog.records) == [
        "The pixels of 2 x 1.5 mm are not square",
        "The pixels of 2 x 2.1 mm are not square",
        "The pixels of 2 x 4 mm are not square",
    ]


def test_patients_of_different_spacing_are_read_together(tmp_path: Path) -> None:
    for number, spacing in enumerate(([1.0, 1.0], [2.5, 2.5])):
        (tmp_path / str(number)).mkdir()
        series = ct_series(PatientID=str(number), SeriesInstanceUID=f"1.2.{number}", PixelSpacing=spacing)
        write(series, tmp_path / str(number))
    assert [volume.spacing_zyx_mm[1:] for volume in training_volumes(tmp_path)] == [(1.0, 1.0), (2.5, 2.5)]


@pytest.mark.parametrize(
    ("header", "domain"),
    [
        ({"KVP": 120}, "planning_ct"),
        ({"KVP": None}, "planning_ct"),
        ({"KVP": 3500}, "mvct"),
        ({"KVP": 125, "ManufacturerModelName": "OBI Cone-beam CT"}, "cbct"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CBCT"]}, "cbct"),
        ({"SeriesDescription": "compare with CBCT"}, "planning_ct"),
    ],
)
def test_domain_of_a_loose_series_is_told_from_its_header(
    tmp_path: Path, header: dict[str, Any], domain: str
) -> None:  # fmt: skip
    write(ct_series(**header), tmp_path)
    assert [volume.domain for volume in training_volumes(tmp_path)] == [domain]


def collection(folder: Path, entries: Sequence[CollectedSeries], **changes: Any) -> Path:
    """A collection with a CT series of five slices for each entry."""
    for entry in entries:
        (folder / entry.folder).mkdir(parents=True)
        uid = entry.series_instance_uid
        write(ct_series(SeriesInstanceUID=uid, PatientID=entry.patient, **changes), folder / entry.folder)
    write_index(folder, entries)
    return folder


def entry(patient: str, number: int, role: str = "planning_ct", split: Split | None = None) -> CollectedSeries:
    return CollectedSeries(patient, f"1.2.{number}", "1.2.0", "CT", role, f"{patient}/{number}", 5, 1, split)


def test_collection_is_read_with_its_pseudonyms_roles_and_splits(tmp_path: Path) -> None:
    entries = [entry("A1", 1, "mvct", "test"), entry("A1", 2, split="test"), entry("B2", 3, "cbct", "train")]
    volumes = training_volumes(collection(tmp_path, entries))
    assert [(volume.patient_id, volume.domain, volume.split) for volume in volumes] == [
        ("A1", "mvct", "test"),
        ("A1", "planning_ct", "test"),
        ("B2", "cbct", "train"),
    ]


def test_what_the_index_does_not_name_is_not_read(tmp_path: Path) -> None:
    collection(tmp_path, [entry("A1", 1), entry("B2", 2)])
    write_index(tmp_path, [entry("A1", 1)])
    np.savez(tmp_path / "loose.npz", ct=ramp(), spacing_zyx=np.ones(3))
    assert [volume.patient_id for volume in training_volumes(tmp_path)] == ["A1"]


def test_other_roles_of_a_collection_are_passed_over(tmp_path: Path) -> None:
    collection(tmp_path, [entry("A1", 1, "head_ct"), entry("A1", 2, "derived")])
    with pytest.raises(PipelineError, match="no research collection"):
        training_volumes(tmp_path)


def test_collected_series_that_lost_an_image_is_left_out(tmp_path: Path) -> None:
    collection(tmp_path, [entry("A1", 1)])
    max((tmp_path / "A1" / "1").iterdir()).unlink()
    with pytest.raises(PipelineError, match="because: The collection has 4 of the 5 images of the series"):
        training_volumes(tmp_path)


@pytest.mark.parametrize("content", ["", "[", '[{"series_instance_uid": "1.2.3"}]'])
def test_index_that_can_not_be_read_does_not_turn_a_collection_into_loose_files(tmp_path: Path, content: str) -> None:
    collection(tmp_path, [entry("A1", 1)])
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(PipelineError, match=r"index\.json is not the index of a research collection"):
        training_volumes(tmp_path)


def openkbp(folder: Path, patient_id: str, index: str = "{}") -> None:
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{patient_id}.npz", ct=np.zeros((8, 8, 4), np.int16), voxel_mm=np.ones(3))
    (folder / "index.json").write_text(index)


@pytest.mark.parametrize("index", ['{"patients": []}', '[{"name": "pt_1"}]', "3"])
def test_index_of_another_program_is_passed_over(tmp_path: Path, index: str) -> None:
    openkbp(tmp_path, "pt_1", index)
    assert [volume.patient_id for volume in training_volumes(tmp_path)] == ["pt_1"]


def test_all_layouts_below_a_folder_are_read_together(tmp_path: Path) -> None:
    openkbp(tmp_path / "openkbp", "pt_241")
    np.savez(tmp_path / "neck.npz", ct=ramp(), spacing_zyx=np.ones(3))
    collection(tmp_path / "collected", [entry("A1", 1, "mvct", "validation")])
    (tmp_path / "dicom").mkdir()
    write(ct_series(SeriesInstanceUID="1.9"), tmp_path / "dicom")
    found = {(volume.domain, volume.split) for volume in training_volumes(tmp_path)}
    assert found == {("planning_ct", "test"), ("mvct", "validation"), ("planning_ct", "train")}


def test_series_that_lies_there_twice_is_read_once(tmp_path: Path) -> None:
    collection(tmp_path / "collected", [entry("A1", 1)])
    collection(tmp_path / "again", [entry("A1", 1)])
    for name, uid in (("one", "1.2.1"), ("two", "1.2.9"), ("three", "1.2.9")):
        (tmp_path / name).mkdir()
        write(ct_series(SeriesInstanceUID=uid), tmp_path / name)
    assert len(training_volumes(tmp_path)) == 2


def test_a_patient_is_in_one_split_over_all_layouts(tmp_path: Path) -> None:
    openkbp(tmp_path / "openkbp", "pt_7")
    collection(tmp_path / "collected", [entry("pt_7", 1, split="test"), entry("B2", 2, split="test")])
    for number, patient in enumerate(("pt_7", "B2", "C3", "D4", "E5"), start=3):
        (tmp_path / str(number)).mkdir()
        write(ct_series(PatientID=patient, SeriesInstanceUID=f"1.2.{number}"), tmp_path / str(number))
    volumes = training_volumes(tmp_path)
    splits = {(volume.patient_id, volume.split) for volume in volumes}
    assert (len(volumes), len({patient for patient, _ in splits}), len(splits)) == (8, 5, 5)
    assert {("pt_7", "train"), ("B2", "test")} <= splits


def result(folder: Path, **changes: object) -> None:
    """What a pipeline made of a series, with some elements as a TPS or another program left them."""
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    series = CopySeries(name="copy").run(inputs(write(ct_series(), folder / "in"))).series[0]
    write([changed(one, **changes) for one in series], folder / "out")
    shutil.rmtree(folder / "in")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Manufacturer": "TPS", "ContributingEquipmentSequence": None},
        {"Manufacturer": "TPS", "SeriesDescription": "sent back"},
        {"ContributingEquipmentSequence": None, "SeriesDescription": "sent back"},
    ],
)
def test_results_of_this_program_are_left_out(
    tmp_path: Path, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    result(tmp_path, **changes)
    with pytest.raises(PipelineError, match="the first of 1 because: The series is a result of rtnode"):
        training_volumes(tmp_path)
    (record,) = caplog.records
    assert record.__dict__["reason"] == "The series is a result of rtnode"


def equipment(purpose: Code) -> Dataset:
    return changed(Dataset(), Manufacturer="Other", PurposeOfReferenceCodeSequence=[coded(purpose)])


@pytest.mark.parametrize(
    ("image_type", "purpose", "is_taken"),
    [
        ("DERIVED", codes.DCM.ProcessingEquipment, False),
        ("DERIVED", codes.DCM.SynthesizingEquipment, False),
        ("DERIVED", codes.DCM.DeIdentifyingEquipment, True),
        ("ORIGINAL", codes.DCM.ProcessingEquipment, True),
        ("DERIVED", None, True),
    ],
)
def test_derived_series_that_names_what_processed_it_is_left_out(
    tmp_path: Path, image_type: str, purpose: Code | None, is_taken: bool
) -> None:
    patients(tmp_path, 1)
    (tmp_path / "derived").mkdir()
    contributing = [equipment(purpose)] if purpose else None
    header: dict[str, Any] = {
        "ImageType": [image_type, "SECONDARY", "AXIAL"],
        "ContributingEquipmentSequence": contributing,
    }
    write(ct_series(SeriesInstanceUID="1.9", **header), tmp_path / "derived")
    assert len(training_volumes(tmp_path)) == 1 + is_taken


def issued(folder: Path, *issuers: str | None, patient_id: str = "P1") -> int:
    """Series of one Patient ID from these issuers, beside other patients; how many patients it is taken for."""
    for number, issuer in enumerate(issuers):
        (folder / f"issued {number}").mkdir(parents=True)
        series = ct_series(PatientID=patient_id, SeriesInstanceUID=f"1.3.{number}", IssuerOfPatientID=issuer)
        write(series, folder / f"issued {number}")
    patients(folder, 3)
    volumes = training_volumes(folder)
    assert len(volumes) == len(issuers) + 3
    return len({volume.patient_id for volume in volumes}) - 3


@pytest.mark.parametrize(
    ("issuers", "expected"),
    [
        ((None, "HOSPITAL"), 1),
        (("HOSPITAL", "HOSPITAL"), 1),
        (("HOSPITAL", "CLINIC"), 2),
        (("HOSPITAL", "CLINIC", None), 1),
    ],
)
def test_a_patient_id_is_one_patient_unless_every_series_has_its_issuer_and_they_differ(
    tmp_path: Path, issuers: Sequence[str | None], expected: int
) -> None:
    assert issued(tmp_path, *issuers) == expected


def test_a_name_that_other_volumes_go_by_is_that_patient_whoever_issued_it(tmp_path: Path) -> None:
    openkbp(tmp_path / "openkbp", "pt_241")
    with_issuer = ct_series(PatientID="pt_241", SeriesInstanceUID="1.9", IssuerOfPatientID="HOSPITAL")
    write(with_issuer, tmp_path / "openkbp")
    assert {(one.patient_id, one.split) for one in training_volumes(tmp_path)} == {("pt_241", "test")}


def test_a_list_of_splits_goes_before_what_the_data_say(tmp_path: Path) -> None:
    plain(tmp_path, "pt_1", "pt_2", "plain")
    (tmp_path / "splits.yaml").write_text("pt_1: test\nplain: validation\n")
    found = {volume.patient_id: volume.split for volume in training_volumes(tmp_path)}
    assert found == {"pt_1": "test", "pt_2": "train", "plain": "validation"}


@pytest.mark.parametrize(
    ("content", "reason"), [("nobody: test", "names nobody"), ("pt_1: later", "no list"), ("- a", "no list")]
)
def test_a_list_of_splits_that_can_not_be_followed_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    np.savez(tmp_path / "pt_1.npz", ct=np.zeros((2, 4, 4), np.int16), spacing_zyx=np.array([3.0, 1.0, 1.0]))
    (tmp_path / "splits.yaml").write_text(content)
    with pytest.raises(PipelineError, match=reason):
        training_volumes(tmp_path)
