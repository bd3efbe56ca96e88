"""RT Structure Sets as planning systems take them: written, validated, drawn where the organ is, read back."""

import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from scipy.spatial.distance import directed_hausdorff

from pipelines.base import InputRejected, Labelling
from pipelines.dicom.contours import outlines
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.structure_set import masks, read_structure_set, roi_masks
from pipelines.dicom.structure_set_writing import MAX_POINTS, Roi, organ_structure_set, structure_set
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import ct_series, enhanced_ct, oriented_series, ramp, unchecked, write
from tests.pipelines.organs_made import (
    NEW,
    ORIGIN,
    POSITIONS,
    SHAPE,
    WEIGHTS,
    ball,
    images,
    organ_masks,
    write_quietly,
    written,
)

TYPE_2 = (
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber SeriesNumber OperatorsName Manufacturer PositionReferenceIndicator StructureSetDate "
    "StructureSetTime"
).split()
"""PS3.3 A.19.3: the modules of the IOD."""


def made(series: ImageSeries) -> Dataset:
    return organ_structure_set(series, organ_masks(), ORIGIN, "Organs").dataset


@pytest.mark.parametrize("position", POSITIONS)
def test_masks_come_back_exactly_in_every_position_of_the_patient(tmp_path: Path, position: str) -> None:
    series = images(tmp_path, position)
    path = written(made(series), tmp_path)
    found = roi_masks(read_structure_set(path), series)
    assert dciodvfy_errors(path) == []
    assert found.remarks == ()
    assert list(found.masks) == [name for name, mask in organ_masks().items() if mask.any()]
    assert all(np.array_equal(found.masks[name], organ_masks()[name]) for name in found.masks)


@pytest.mark.parametrize("position", POSITIONS)
def test_another_reader_finds_the_same_pixels_in_the_slices_that_the_contours_name(
    tmp_path: Path, position: str
) -> None:
    """With nothing of ours: points in mm against pixel centres in mm, inside by matplotlib."""
    series = images(tmp_path, position)
    dataset = dcmread(written(made(series), tmp_path))
    slices = {header.SOPInstanceUID: index for index, header in enumerate(series.headers)}
    for definition, drawn in zip(dataset.StructureSetROISequence, dataset.ROIContourSequence, strict=True):
        mask = np.zeros(SHAPE, dtype=np.bool_)
        for contour in drawn.ContourSequence:
            index = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            mask[index] ^= inside(np.array(contour.ContourData, dtype=float).reshape(-1, 3), series.headers[index])
        assert np.array_equal(mask, organ_masks()[definition.ROIName])


def inside(points_lps: NDArray[np.float64], header: Dataset) -> NDArray[np.bool_]:
    """Pixels of a slice whose centre is within the contour."""
    row_mm, column_mm = map(float, header.PixelSpacing)
    position, cosines = (np.array(header[name].value, dtype=float) for name in
                         ("ImagePositionPatient", "ImageOrientationPatient"))  # fmt: skip
    assert np.abs((points_lps - position) @ np.cross(cosines[:3], cosines[3:])).max() < 1e-6
    flat = np.column_stack([(points_lps - position) @ cosines[:3], (points_lps - position) @ cosines[3:]])
    rows, columns = np.mgrid[: header.Rows, : header.Columns]
    centres = np.column_stack([columns.ravel() * column_mm, rows.ravel() * row_mm])
    return Outline(np.vstack([flat, flat[:1]])).contains_points(centres).reshape(rows.shape)


def test_contours_stay_within_half_a_pixel_of_the_edges_of_the_pixels() -> None:
    for mask in organ_masks().values():
        for plane in mask[mask.any(axis=(1, 2))]:
            drawn = np.vstack([along(polygon) for polygon in outlines(plane)])
            assert directed_hausdorff(pixel_edges(plane), drawn)[0] <= 0.5 + 1e-9
            assert directed_hausdorff(np.vstack(outlines(plane)), pixel_edges(plane))[0] <= 0.5 + 1e-9


def along(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the closed contour, a hundredth of a pixel apart."""
    closed = [*polygon, polygon[0]]
    return np.vstack([np.linspace(a, b, max(2, int(100 * np.hypot(*(b - a))))) for a, b in pairwise(closed)])


def pixel_edges(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Points (column, row) on the edges between pixels inside and outside, a tenth of a pixel apart."""
    padded = np.pad(mask, 1)
    steps, points = np.linspace(-0.5, 0.5, 11), []
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        points.append(np.column_stack([np.full(11, column - 0.5), row - 1 + steps]))
    for row, column in np.argwhere(padded[1:] != padded[:-1]):
        points.append(np.column_stack([column - 1 + steps, np.full(11, row - 0.5)]))
    return np.vstack(points)


def test_a_contour_holds_half_a_pixel_less_than_its_pixels_and_a_hole_half_a_pixel_more() -> None:
    thin, solid, hollow = np.zeros((3, 12, 12), dtype=np.bool_)
    thin[5, 2:9] = solid[2:9, 2:9] = hollow[2:9, 2:9] = True
    hollow[4:7, 4:7] = False
    assert [area(plane) for plane in (thin, solid, hollow)] == pytest.approx([7 - 0.5, 49 - 0.5, 40 - 0.5 + 0.5])


def area(mask: NDArray[np.bool_]) -> float:
    total = 0.0
    for x, y in (polygon.T for polygon in outlines(mask)):
        total += abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2
    return total


@pytest.mark.req("NODE-05")
def test_an_organ_is_named_coloured_coded_and_unapproved(tmp_path: Path) -> None:
    dataset = made(images(tmp_path))
    names = [item.ROIName for item in dataset.StructureSetROISequence]
    at = names.index("Parotid_R")
    definition = dataset.StructureSetROISequence[at]
    observation, drawn = dataset.RTROIObservationsSequence[at], dataset.ROIContourSequence[at]
    assert names[:2] == ["Bladder", "Rectum"]
    assert definition.ROIGenerationAlgorithm == "AUTOMATIC"
    assert WEIGHTS[:12] in definition.ROIGenerationDescription
    assert observation.RTROIInterpretedType == "ORGAN"
    (kind,) = observation.RTROIIdentificationCodeSequence
    assert (kind.CodeValue, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("45289007", "Right")
    assert drawn.ROIDisplayColor == [70, 200, 255]
    assert {drawn.ReferencedROINumber, observation.ReferencedROINumber} == {definition.ROINumber}
    assert dataset.ApprovalStatus == "UNAPPROVED"
    assert dataset.SeriesDescription == "Organs NOT FOR TREATMENT"
    assert WEIGHTS in dataset.StructureSetDescription


@pytest.mark.req("NODE-05")
def test_all_is_in_the_frame_of_reference_of_the_images_and_every_contour_names_one(tmp_path: Path) -> None:
    series = images(tmp_path)
    dataset = made(series)
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    uids = {item.ReferencedFrameOfReferenceUID for item in dataset.StructureSetROISequence}
    assert {frame.FrameOfReferenceUID, dataset.FrameOfReferenceUID, *uids} == {series.frame_of_reference_uid}
    (referenced,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in referenced.ContourImageSequence] == [
        header.SOPInstanceUID for header in series.headers
    ]
    for contour in (contour for drawn in dataset.ROIContourSequence for contour in drawn.ContourSequence):
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        assert len(contour.ContourImageSequence) == 1
        assert contour.NumberOfContourPoints * 3 == len(contour.ContourData)


@pytest.mark.parametrize("kind", ["bare", "enhanced", "breast"])
def test_every_element_that_must_be_there_is_there(tmp_path: Path, kind: str) -> None:
    bare = dict.fromkeys(("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ContentDate", "Manufacturer"))
    datasets = {
        "bare": lambda: ct_series(ContentTime=None, **bare),
        "enhanced": lambda: [enhanced_ct(ramp())],
        "breast": lambda: ct_series(BodyPartExamined="BREAST", Laterality="L"),
    }[kind]()
    series = read_image_series(write(datasets, tmp_path))
    path = written(made(series), tmp_path)
    dataset = dcmread(path)
    assert [keyword for keyword in TYPE_2 if keyword not in dataset] == []
    assert all(
        "ROIInterpreter" in item and "RTROIInterpretedType" in item for item in dataset.RTROIObservationsSequence
    )
    assert dciodvfy_errors(path) == []
    assert np.array_equal(masks(read_structure_set(path), series)["Bladder"], ball())


@pytest.mark.req("NODE-05")
def test_the_same_work_makes_the_same_bytes_and_asks_no_clock(tmp_path: Path) -> None:
    series = images(tmp_path)
    first, second = (made(series) for _ in range(2))
    assert file_bytes(first) == file_bytes(second)
    assert {str(element.value) for element in first.iterall() if element.VR == "DA"} == {"20200102", "19500101"}


def test_the_labelling_decides_the_description_and_the_uids(tmp_path: Path) -> None:
    series = images(tmp_path)
    clinical = replace(ORIGIN, labelling=Labelling("PRODUCT", not_for_treatment=False))
    dataset = organ_structure_set(series, organ_masks(), clinical, "Organs").dataset
    assert dataset.SeriesDescription == "Organs"
    assert dataset.SOPInstanceUID != made(series).SOPInstanceUID


def test_an_empty_organ_is_left_out_with_a_sentence_and_none_at_all_is_refused(tmp_path: Path) -> None:
    series = images(tmp_path)
    assert organ_structure_set(series, organ_masks(), ORIGIN, "Organs").left_out == ("Brainstem was not found",)
    with pytest.raises(InputRejected, match="No organ was found in the images, so there is nothing to write"):
        organ_structure_set(series, {"Bladder": ball() & ~ball()}, ORIGIN, "Organs")


@pytest.mark.parametrize(
    "orientation",
    [
        (0.6, 0.64, 0.48, -0.8, 0.48, 0.36),
        (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
        (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
        (0.8, 0.6, 0.0, -0.6, 0.8, 0.0),
        (1.0, 0.0, 0.0, 0.0, np.cos(0.02), np.sin(0.02)),
    ],
)
def test_slices_that_are_not_transverse_are_refused(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    series = read_image_series(write(oriented_series(ramp(), orientation, (0, 0, 0)), tmp_path))
    with pytest.raises(InputRejected) as caught:
        made(series)
    assert str(caught.value) == "The slices are not transverse, and planning systems take no contours on oblique ones"


def test_a_contour_of_very_many_points_is_cut_so_that_its_text_fits(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    stored = np.zeros((2, 90, 90), dtype=np.int16)
    ragged = np.pad(rng.random((2, 80, 80)) > 0.35, ((0, 0), (5, 5), (5, 5)))
    assert max(len(polygon) for polygon in outlines(ragged[0])) > MAX_POINTS
    series = read_image_series(write(ct_series(stored), tmp_path))
    path = written(structure_set(series, [Roi("Bladder", ragged)], "TEST", NEW), tmp_path)
    contours = dcmread(path).ROIContourSequence[0].ContourSequence
    assert {contour["ContourData"].VR for contour in contours} == {"DS"}
    assert max(contour.NumberOfContourPoints for contour in contours) <= MAX_POINTS
    assert np.array_equal(masks(read_structure_set(path), series)["Bladder"], ragged)


@pytest.mark.req("NODE-10")
def test_no_patient_is_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = [unchecked(one, PatientName="SECRET NAME, Dr.", PatientSex="SECRET") for one in ct_series()]
    series = read_image_series(write_quietly(odd, tmp_path))
    with caplog.at_level(logging.DEBUG):
        file_bytes(made(series))
    assert not [record for record in caplog.records if "SECRET" in record.getMessage()]
