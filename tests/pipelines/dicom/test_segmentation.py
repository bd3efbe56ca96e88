"""DICOM Segmentations: written, validated, read by us and by another reader, refused where they do not fit."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import segread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSNearLossless

from pipelines.base import InputRejected, Labelling
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.organs import organ_named
from pipelines.dicom.segmentation import segmentation
from pipelines.dicom.segmentation_reading import read_segmentation
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import ct_series, enhanced_ct, ramp, unchecked, write
from tests.pipelines.organs_made import ORIGIN, POSITIONS, WEIGHTS, ball, images, organ_masks, write_quietly, written


def made(series: ImageSeries) -> Dataset:
    return segmentation(series, organ_masks(), ORIGIN, "Organs").dataset


@pytest.mark.parametrize("position", POSITIONS)
def test_masks_come_back_exactly_in_every_position_of_the_patient(tmp_path: Path, position: str) -> None:
    series = images(tmp_path, position)
    path = written(made(series), tmp_path)
    found = read_segmentation(path, series).masks
    assert dciodvfy_errors(path) == []
    assert list(found) == [name for name, mask in organ_masks().items() if mask.any()]
    assert all(np.array_equal(found[name], organ_masks()[name]) for name in found)


@pytest.mark.parametrize("position", ["HFS", "FFP"])
def test_another_reader_finds_the_same_masks_on_the_same_images(tmp_path: Path, position: str) -> None:
    series = images(tmp_path, position)
    read = segread(written(made(series), tmp_path))
    uids = [header.SOPInstanceUID for header in series.headers]
    pixels = read.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    for number in read.segment_numbers:
        label = read.get_segment_description(number).segment_label
        assert np.array_equal(pixels[..., number - 1], organ_masks()[label])


def test_organs_that_do_not_overlap_come_back_too(tmp_path: Path) -> None:
    series = images(tmp_path)
    parts = {"Bladder": ball(), "Rectum": ~ball()}
    found = read_segmentation(written(segmentation(series, parts, ORIGIN, "Organs").dataset, tmp_path), series)
    assert all(np.array_equal(found.masks[name], parts[name]) for name in parts)


def test_frames_that_begin_within_a_byte_come_back_too(tmp_path: Path) -> None:
    series = read_image_series(write(ct_series(ramp(3, 5, 7)), tmp_path))
    random = np.random.default_rng(1).random((3, 5, 7)) < 0.5
    path = written(segmentation(series, {"Bladder": random, "Rectum": ~random}, ORIGIN, "Organs").dataset, tmp_path)
    assert np.array_equal(read_segmentation(path, series).masks["Rectum"], ~random)


@pytest.mark.req("NODE-05")
def test_a_segment_says_what_it_is_and_what_found_it(tmp_path: Path) -> None:
    dataset = made(images(tmp_path))
    segment = {item.SegmentLabel: item for item in dataset.SegmentSequence}["Parotid_L"]
    (kind,) = segment.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("45289007", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == "segment_headneck"
    assert algorithm.AlgorithmVersion == f"0.1.0, weights {WEIGHTS[:12]}"
    assert f"weights_sha256={WEIGHTS}" in algorithm.AlgorithmParameters
    assert dataset.ContentQualification == "RESEARCH"
    assert dataset.SeriesDescription == "Organs NOT FOR TREATMENT"
    assert WEIGHTS in dataset.ContributingEquipmentSequence[1].ContributionDescription


def test_every_organ_of_the_table_has_a_code_of_its_own_and_others_a_general_one() -> None:
    names = "Brainstem SpinalCord Parotid Esophagus Larynx Bone_Mandible Prostate SeminalVes Bladder Rectum".split()
    assert len({organ_named(name).code.value for name in names}) == len(names)
    assert len({organ_named(name).colour for name in names}) == len(names)
    assert [organ_named(f"PAROTID{side}").side for side in ("_L", "_R")] == [
        organ_named(f"Kidney{side}").side for side in ("_L", "_R")
    ]
    assert organ_named("Kidney_R").code.meaning == organ_named("Loop 7").code.meaning == "Organ"
    assert organ_named(" parotid_l").name == "Parotid_L"


@pytest.mark.req("NODE-05")
def test_a_segmentation_names_the_images_and_their_frame_of_reference(tmp_path: Path) -> None:
    series = images(tmp_path)
    dataset = made(series)
    assert dataset.FrameOfReferenceUID == series.frame_of_reference_uid
    (source,) = dataset.ReferencedSeriesSequence
    assert source.SeriesInstanceUID == series.series_instance_uid
    by_uid = {header.SOPInstanceUID: header.ImagePositionPatient for header in series.headers}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert group.PlanePositionSequence[0].ImagePositionPatient == by_uid[uid]


def test_the_frames_of_an_enhanced_source_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    series = read_image_series(write([enhanced_ct(ramp())], tmp_path))
    dataset = made(series)
    path = written(dataset, tmp_path)
    frames = {float(header.ImagePositionPatient[2]): header.ReferencedFrameNumber for header in series.headers}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == series.header.SOPInstanceUID
        assert image.ReferencedFrameNumber == frames[float(group.PlanePositionSequence[0].ImagePositionPatient[2])]
    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1
    assert dciodvfy_errors(path) == []
    assert caplog.records == []
    assert np.array_equal(read_segmentation(path, series).masks["Bladder"], ball())


@pytest.mark.parametrize("kind", ["lossy", "bare", "breast", "oblique", "wordy"])
def test_every_kind_of_source_gives_a_valid_object(tmp_path: Path, kind: str) -> None:
    bare = dict.fromkeys(("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ContentDate", "Manufacturer"))
    paths = {
        "lossy": lambda: write(ct_series(), tmp_path, JPEGLSNearLossless),
        "bare": lambda: write(ct_series(ContentTime=None, **bare), tmp_path),
        "breast": lambda: write(ct_series(BodyPartExamined="BREAST", Laterality="L"), tmp_path),
        "wordy": lambda: write_quietly(wordy(), tmp_path),
        "oblique": lambda: write(ct_series(ImageOrientationPatient=[0.8, 0.6, 0.0, -0.6, 0.8, 0.0]), tmp_path),
    }[kind]()
    series = read_image_series(paths)
    path = written(made(series), tmp_path)
    assert dciodvfy_errors(path) == []
    assert np.array_equal(read_segmentation(path, series).masks["Rectum"], organ_masks()["Rectum"])
    assert (dcmread(path).LossyImageCompression == "01") is (kind == "lossy")


def wordy() -> list[Dataset]:
    """More digits than VR DS takes, and no Slice Thickness: both are common."""
    return [
        unchecked(one, PixelSpacing="2.00000000000000001\\1.50000000000000001")
        for one in ct_series(SliceThickness=None)
    ]


@pytest.mark.req("NODE-05")
def test_the_same_work_makes_the_same_bytes_and_asks_no_clock(tmp_path: Path) -> None:
    series = images(tmp_path)
    first, second = (made(series) for _ in range(2))
    assert file_bytes(first) == file_bytes(second)
    assert {str(element.value) for element in first.iterall() if element.VR == "DA"} == {"20200102", "19500101"}


@pytest.mark.req("NODE-05")
def test_other_work_makes_other_uids(tmp_path: Path) -> None:
    series = images(tmp_path)
    others = [ORIGIN, replace(ORIGIN, settings_sha256="b" * 64), replace(ORIGIN, labelling=Labelling("PRODUCT"))]
    found = [segmentation(series, organ_masks(), origin, "Organs").dataset for origin in others]
    assert len({one.SOPInstanceUID for one in found}) == len({one.SeriesInstanceUID for one in found}) == 3


def test_an_empty_organ_is_left_out_with_a_sentence_and_none_at_all_is_refused(tmp_path: Path) -> None:
    series = images(tmp_path)
    assert segmentation(series, organ_masks(), ORIGIN, "Organs").left_out == ("Brainstem was not found",)
    with pytest.raises(InputRejected, match="No organ was found in the images, so there is nothing to write"):
        segmentation(series, {"Bladder": ball() & ~ball()}, ORIGIN, "Organs")


def test_masks_of_another_shape_and_impossible_names_are_errors_of_the_caller(tmp_path: Path) -> None:
    series = images(tmp_path)
    for wrong in ({"Bladder": ball()[1:]}, {"": ball()}, {"a\\b": ball()}, {"x" * 65: ball()}):
        with pytest.raises(ValueError, match=r"grid|name"):
            segmentation(series, wrong, ORIGIN, "Organs")
    with pytest.raises(ValueError, match="same organ"):
        segmentation(series, {"Bladder": ball(), "bladder": ball()}, ORIGIN, "Organs")


@pytest.mark.req("NODE-10")
def test_no_patient_is_in_a_warning_or_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = [unchecked(one, PatientName="SECRET NAME, Dr.", PatientSex="SECRET") for one in ct_series()]
    series = read_image_series(write_quietly(odd, tmp_path))
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        dataset = made(series)
        file_bytes(dataset)
    assert not [record for record in caplog.records if "SECRET" in record.getMessage()]
    assert not [one for one in warned if "SECRET" in str(one.message)]
    assert dataset.PatientName == "SECRET NAME, Dr."


def no_segmentation(dataset: Dataset) -> None:
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


def other_frame_of_reference(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "1.2.3"


def moved_by_a_tenth_of_a_millimetre(dataset: Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    position[0] = float(position[0]) + 0.1


def beyond_the_images(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[2] = 100


def far_away(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = ["1e300"] * 3


def mirrored(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def of_other_spacing(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.5, 2.0]


def of_other_size(dataset: Dataset) -> None:
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


def without_positions(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def fewer_frames_described(dataset: Dataset) -> None:
    dataset.NumberOfFrames -= 1


def cut_off(dataset: Dataset) -> None:
    dataset["PixelData"].value = dataset.PixelData[:-4]


def fractional(dataset: Dataset) -> None:
    dataset.SegmentationType = "FRACTIONAL"


def two_of_one_label(dataset: Dataset) -> None:
    dataset.SegmentSequence[1].SegmentLabel = "Bladder"


def one_without_label(dataset: Dataset) -> None:
    del dataset.SegmentSequence[1].SegmentLabel


def no_segments(dataset: Dataset) -> None:
    del dataset.SegmentSequence


def of_a_segment_that_is_not_described(dataset: Dataset) -> None:
    dataset.SegmentSequence = dataset.SegmentSequence[:-1]


OFF_GRID = "The segmentation does not lie on the grid of the images"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_segmentation, "A file is not a Segmentation"),
        (other_frame_of_reference, "The segmentation and the images have different Frames of Reference"),
        (moved_by_a_tenth_of_a_millimetre, OFF_GRID),
        (beyond_the_images, OFF_GRID),
        (far_away, OFF_GRID),
        (mirrored, OFF_GRID),
        (of_other_spacing, OFF_GRID),
        (of_other_size, OFF_GRID),
        (without_positions, "The segmentation does not say where each of its frames lies"),
        (fewer_frames_described, "The segmentation does not say where each of its frames lies"),
        (cut_off, "The segmentation has fewer pixels than it announces"),
        (fractional, "The segmentation is not binary"),
        (two_of_one_label, "The segmentation has two segments of one label"),
        (one_without_label, "The segmentation has a segment without a number or label of its own"),
        (no_segments, "The segmentation describes 0 segments"),
        (of_a_segment_that_is_not_described, "The segmentation has a frame of a segment that it does not describe"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, spoil: Callable[[Dataset], None], sentence: str) -> None:
    series = images(tmp_path)
    dataset = made(series)
    spoil(dataset)
    with pytest.raises(InputRejected) as caught:
        read_segmentation(written(dataset, tmp_path), series)
    assert str(caught.value) == sentence


def test_compressed_pixels_are_refused(tmp_path: Path) -> None:
    series = images(tmp_path)
    path = written(made(series), tmp_path)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].value = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00abcd"
    dataset.save_as(path)
    with pytest.raises(InputRejected, match="The pixels of the segmentation are compressed"):
        read_segmentation(path, series)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageSeries]:
    folder = tmp_path_factory.mktemp("fuzz")
    series = images(folder)
    return written(segmentation(series, {"Bladder": ball()}, ORIGIN, "Organs").dataset, folder), series


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_and_cut_bytes_are_refused_or_read(valid: tuple[Path, ImageSeries], data: st.DataObject) -> None:
    path, series = valid
    content = bytearray(path.read_bytes())
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, max_size=8)):
        content[place] = value
    fuzzed = path.with_name("fuzzed.dcm")
    fuzzed.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        read_segmentation(fuzzed, series)
    except InputRejected:
        return
