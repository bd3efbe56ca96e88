"""RT Structure Sets: read, filled, refused or remarked upon."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.base import InputRejected
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.structure_set import mask_of, masks, read_structure_set, roi_masks
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.volume import Volume
from tests.pipelines.made import AXIAL, SLICE_MM, oriented_series, ramp, write
from tests.pipelines.organs_made import NEW, ball, images, written

OBLIQUE = (0.6, 0.64, 0.48, -0.8, 0.48, 0.36)
SQUARE = np.array([[2.5, 2.5], [9.5, 2.5], [9.5, 9.5], [2.5, 9.5]])
"""Column, row: seven pixels by seven."""


def rois() -> list[Roi]:
    hollow = ball() & ~ball(radius=3.0)
    return [Roi("Bladder", ball()), Roi("Rectum", hollow), Roi("Empty", np.zeros_like(hollow)), Roi("PTV", ~ball())]


def drawn(series: ImageSeries, *heights: float, shape: NDArray[np.float64] = SQUARE) -> list[NDArray[np.float64]]:
    """The shape at these heights, in slices above the first, in LPS mm."""
    return [series.volume.points_lps(np.column_stack([shape, np.full(len(shape), height)])) for height in heights]


def contours_of(dataset: Dataset, roi: int) -> Sequence[Dataset]:
    found: Sequence[Dataset] = dataset.ROIContourSequence[roi].ContourSequence
    return found


def test_every_contour_names_the_slice_that_it_lies_in(tmp_path: Path) -> None:
    series = images(tmp_path)
    dataset = structure_set(series, rois(), "TEST", NEW)
    position = {header.SOPInstanceUID: header.ImagePositionPatient[2] for header in series.headers}
    for contour in (contour for item in dataset.ROIContourSequence for contour in item.get("ContourSequence", [])):
        reference = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        assert {float(z) for z in contour.ContourData[2::3]} == {float(position[reference])}
        assert contour.NumberOfContourPoints * 3 == len(contour.ContourData)


def test_a_structure_set_is_unapproved_and_in_one_frame_of_reference(tmp_path: Path) -> None:
    series = images(tmp_path)
    dataset = structure_set(series, rois(), "TEST", NEW)
    assert dataset.ApprovalStatus == "UNAPPROVED"
    uids = {item.ReferencedFrameOfReferenceUID for item in dataset.StructureSetROISequence}
    assert uids == {series.frame_of_reference_uid}
    found = read_structure_set(written(dataset, tmp_path))
    assert found.series_instance_uid == series.series_instance_uid
    assert [roi.interpreted_type for roi in found.rois] == ["ORGAN"] * 4


@pytest.mark.parametrize(
    ("heights", "pixels"),
    [
        ((0, 1, 2, 3, 4), [49, 49, 49, 49, 49]),
        ((0, 2, 4), [49, 49, 49, 49, 49]),
        ((0, 2), [49, 49, 49, 49, 0]),
        ((0, 1, 3, 4), [49, 49, 0, 49, 49]),
        ((0.5, 1.5, 2.5), [0, 49, 49, 49, 0]),
        ((1.2,), [0, 49, 0, 0, 0]),
        ((1, 1.25, 1.5, 1.75, 2), [0, 49, 49, 0, 0]),
    ],
    ids=["on every slice", "on every second", "ends half way", "one missing", "between slices", "alone", "denser"],
)
def test_a_slice_takes_the_nearest_contours(tmp_path: Path, heights: tuple[float, ...], pixels: list[int]) -> None:
    series = images(tmp_path)
    assert mask_of(drawn(series, *heights), series.volume).sum(axis=(1, 2)).tolist() == pixels


def test_a_contour_within_another_is_a_hole_and_one_beside_it_a_second_part(tmp_path: Path) -> None:
    series = images(tmp_path)
    hole, island, beside = (SQUARE - 6) * 3 / 7 + 6, (SQUARE - 6) / 7 + 6, SQUARE / 7 + np.array([12, 2])
    parts = [one for shape in (SQUARE, hole, island, beside) for one in drawn(series, 2, shape=shape)]
    assert mask_of(parts, series.volume).sum() == 49 - 9 + 1 + 1


def test_contours_on_oblique_slices_are_read(tmp_path: Path) -> None:
    series = read_image_series(write(oriented_series(ramp(), OBLIQUE, (-10, -20, -30)), tmp_path))
    assert mask_of(drawn(series, 1, 2), series.volume).sum(axis=(1, 2)).tolist() == [0, 49, 49, 0, 0]


def test_contours_of_another_place_leave_an_empty_mask(tmp_path: Path) -> None:
    series = images(tmp_path)
    assert not mask_of(drawn(series, 500), series.volume).any()
    assert not mask_of([], series.volume).any()


def test_contours_beyond_the_slices_are_left_out_with_a_remark(tmp_path: Path) -> None:
    series = images(tmp_path)
    path = written(structure_set(series, rois(), "TEST", NEW), tmp_path)
    shorter = replace(
        series,
        volume=Volume(series.volume.array_zyx[:3], series.volume.affine),
        padding_zyx=series.padding_zyx[:3],
        headers=series.headers[:3],
    )
    found = roi_masks(read_structure_set(path), shorter, ["Bladder"])
    assert np.array_equal(found.masks["Bladder"], ball()[:3])
    assert found.remarks == (
        "Bladder has 2 of 5 contours that name images which the series does not have",
        "Bladder has 2 of 5 contours outside of the images",
    )


def test_what_has_no_inside_or_no_contour_is_left_out_with_a_remark(tmp_path: Path) -> None:
    series = images(tmp_path)
    dataset = structure_set(series, rois(), "TEST", NEW)
    dataset.StructureSetROISequence[0].ROIName = "bolus of Mrs SECRET"
    for contour in contours_of(dataset, 0):
        contour.ContourGeometricType = "POINT"
    for contour in contours_of(dataset, 1)[1:]:
        contour.ContourGeometricType = "OPEN_PLANAR"
    found = roi_masks(read_structure_set(written(dataset, tmp_path)), series)
    assert set(found.masks) == {"Rectum", "PTV"}
    assert found.masks["Rectum"].sum() == rois()[1].mask_zyx[0].sum()
    assert found.remarks == (
        "ROI 1 has 5 contours that are points or open",
        "ROI 1 has no closed contour",
        f"Rectum has {len(contours_of(dataset, 1)) - 1} contours that are points or open",
        "ROI 3 has no closed contour",
    )


def test_images_that_the_series_lacks_are_a_remark_when_the_contours_lie_on_its_slices(tmp_path: Path) -> None:
    series = images(tmp_path)
    dataset = structure_set(series, rois(), "TEST", NEW)
    for contour in contours_of(dataset, 0):
        contour.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    del contours_of(dataset, 1)[0].ContourImageSequence
    found = roi_masks(read_structure_set(written(dataset, tmp_path)), series, ["Bladder", "Rectum"])
    assert found.remarks == ("Bladder has 5 of 5 contours that name images which the series does not have",)
    assert np.array_equal(found.masks["Bladder"], ball())


def test_regions_are_asked_for_by_name(tmp_path: Path) -> None:
    series = images(tmp_path)
    structures = read_structure_set(written(structure_set(series, rois(), "TEST", NEW), tmp_path))
    assert list(roi_masks(structures, series, ["rectum", "PTV"]).masks) == ["rectum", "PTV"]
    for name, sentence in (
        ("Larynx", "The structure set has no region Larynx"),
        ("Empty", "The region Empty has no contour on the images"),
    ):
        with pytest.raises(InputRejected) as caught:
            roi_masks(structures, series, ["Bladder", name])
        assert str(caught.value) == sentence


def two_of_one_name(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[1].ROIName = "Bladder"


def other_frame_of_reference(dataset: Dataset) -> None:
    for item in dataset.StructureSetROISequence:
        item.ReferencedFrameOfReferenceUID = "1.2.3"


def two_frames_of_reference(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"


def odd_number_of_coordinates(dataset: Dataset) -> None:
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData)[:-1]


def two_points(dataset: Dataset) -> None:
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData)[:6]


def out_of_plane(dataset: Dataset) -> None:
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = [*list(contour.ContourData)[:-1], float(contour.ContourData[-1]) + SLICE_MM]


def naming_another_slice(dataset: Dataset) -> None:
    first, *_, last = contours_of(dataset, 0)
    first.ContourImageSequence = last.ContourImageSequence


def without_number(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[0].ROINumber


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (two_of_one_name, "The structure set has two regions of one name"),
        (other_frame_of_reference, "The structure set and the images have different Frames of Reference"),
        (two_frames_of_reference, "The structure set is drawn in 2 Frames of Reference, not in one"),
        (odd_number_of_coordinates, "The structure set has a contour that is no list of points"),
        (two_points, "The structure set has a closed contour of less than three points"),
        (out_of_plane, "A contour does not lie in a slice plane of the images"),
        (naming_another_slice, "A contour names an image in which it does not lie"),
        (without_number, "The structure set has a region without ROI Number"),
    ],
)
def test_an_odd_structure_set_is_refused(tmp_path: Path, spoil: Callable[[Dataset], None], sentence: str) -> None:
    series = images(tmp_path)
    dataset = structure_set(series, rois(), "TEST", NEW)
    spoil(dataset)
    with pytest.raises(InputRejected) as caught:
        masks(read_structure_set(written(dataset, tmp_path)), series)
    assert str(caught.value) == sentence


def test_an_image_is_no_structure_set(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="A file is not an RT Structure Set"):
        read_structure_set(write(oriented_series(ramp(), AXIAL, (0, 0, 0)), tmp_path)[0])
