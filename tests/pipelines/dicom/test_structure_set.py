"""RT Structure Sets: written, validated, read back, filled."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.base import InputRejected
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.structure_set import mask_of, masks, read_structure_set
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import AXIAL, SLICE_MM, oriented_series, ramp, write

NEW = NewInstance("1.2.3.1", "1.2.3.2", 2, "Test", "Maker")
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.6, 0.64, 0.48, -0.8, 0.48, 0.36)


def ball(center: tuple[float, float, float] = (2, 8, 9), radius: float = 6.0) -> NDArray[np.bool_]:
    z, y, x = np.mgrid[:5, :16, :20]
    return np.asarray((((z - center[0]) * 3) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2) <= radius**2)


def images(folder: Path, orientation: tuple[float, ...] = AXIAL) -> ImageSeries:
    return read_image_series(write(oriented_series(ramp(), orientation, (-10, -20, -30)), folder))


def rois() -> list[Roi]:
    hollow = ball() & ~ball(radius=3.0)
    return [Roi("Bladder", ball()), Roi("Rectum", hollow), Roi("Empty", np.zeros_like(hollow)), Roi("PTV", ~ball())]


def written(dataset: Dataset, folder: Path) -> Path:
    path = folder / "structure_set.dcm"
    path.write_bytes(file_bytes(dataset))
    return path


@pytest.mark.parametrize("orientation", [AXIAL, FEET_FIRST, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)])
def test_masks_come_back_exactly(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    series = images(tmp_path, orientation)
    path = written(structure_set(series, rois(), "TEST", NEW), tmp_path)
    found = masks(read_structure_set(path), series)
    assert dciodvfy_errors(path) == []
    assert set(found) == {"Bladder", "Rectum", "PTV"}
    for roi in rois():
        assert np.array_equal(found.get(roi.name, np.zeros_like(roi.mask_zyx)), roi.mask_zyx)


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


def test_contours_sparser_than_slices_are_carried_to_the_slices_between(tmp_path: Path) -> None:
    series = images(tmp_path)
    corners = np.array([[2.5, 2.5], [9.5, 2.5], [9.5, 9.5], [2.5, 9.5]])
    contours = [series.volume.points_lps(np.column_stack([corners, np.full(4, k)])) for k in (0.0, 2.0, 4.0)]
    assert mask_of(contours, series.volume).sum(axis=(1, 2)).tolist() == [49] * 5


def test_contours_of_another_place_leave_an_empty_mask(tmp_path: Path) -> None:
    series = images(tmp_path)
    far = np.array([[0.0, 0, 500], [5, 0, 500], [5, 5, 500]])
    assert not mask_of([far], series.volume).any()
    assert not mask_of([], series.volume).any()


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
