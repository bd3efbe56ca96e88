"""Regions of a planning structure set on the images of another day: where geometry says they have to be."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from models.segmentation_measures import dice
from pipelines.base import InputRejected
from pipelines.dicom.carried_structures import CarriedStructures, carried_mask, carried_over
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.structure_set import masks, read_structure_set
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import AXIAL, oriented_series, write
from tests.pipelines.organs_made import NEW, ORIGIN, POSITIONS, written

SHAPE = (16, 40, 48)
CORNER = (-36.0, -40.0, -24.0)
CENTER = np.array([0.0, 0.0, 0.0])
FRAME, OTHER_FRAME = "1.2.3.4.1", "1.2.3.4.2"


def series(
    folder: Path,
    name: str,
    orientation: Sequence[float] = AXIAL,
    corner: Sequence[float] = CORNER,
    shape: tuple[int, int, int] = SHAPE,
    **changes: str,
) -> ImageSeries:
    """Voxels of 3 x 2 x 1.5 mm."""
    (folder / name).mkdir()
    datasets = oriented_series(np.zeros(shape, np.int16), orientation, corner)
    for index, dataset in enumerate(datasets):
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"1.2.3.5.{len(name)}", f"1.2.3.6.{len(name)}.{index + 1}"
        dataset.FrameOfReferenceUID = FRAME if name == "planning" else OTHER_FRAME
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    return read_image_series(write(datasets, folder / name))


def centres_lps(volume: Volume) -> NDArray[np.float64]:
    z, y, x = np.mgrid[tuple(slice(size) for size in volume.array_zyx.shape)]
    return volume.points_lps(np.stack([x, y, z], axis=-1).reshape(-1, 3)).reshape(*volume.array_zyx.shape, 3)


def ball(volume: Volume, center_lps: Sequence[float] | NDArray[np.float64], radius_mm: float) -> NDArray[np.bool_]:
    return np.asarray(np.linalg.norm(centres_lps(volume) - center_lps, axis=-1) <= radius_mm)


def moving(deg: float, shift: Sequence[float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(deg) * np.array([2.0, -1.0, 2.0]) / 3.0).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def drawn(planning: ImageSeries, folder: Path, **regions: NDArray[np.bool_]) -> Path:
    types = {"PTV_High": "PTV", "External": "EXTERNAL"}
    rois = [
        Roi(name, mask, types.get(name, "ORGAN"), (10 * index, 200, 7))
        for index, (name, mask) in enumerate(regions.items())
    ]
    return written(structure_set(planning, rois, "PLAN", NEW), folder)


@pytest.fixture
def planning(tmp_path: Path) -> ImageSeries:
    return series(tmp_path, "planning")


def three(planning: ImageSeries, folder: Path) -> Path:
    volume = planning.volume
    return drawn(
        planning, folder, Parotid_L=ball(volume, (14, -8, 3), 9.0), PTV_High=ball(volume, (-6, 6, -3), 14.0),
        Bob_Miller=ball(volume, (-20, -20, 10), 6.0),
    )  # fmt: skip


def carry(planning: ImageSeries, path: Path, target: ImageSeries, matrix: NDArray[np.float64]) -> CarriedStructures:
    return carried_over(planning, path, target, matrix, ORIGIN, registration_uid="1.2.3.77")


@pytest.mark.parametrize("deg", [0.0, 5.0])
def test_a_ball_comes_to_lie_where_the_matrix_takes_its_centre(
    planning: ImageSeries, tmp_path: Path, deg: float
) -> None:
    target = series(tmp_path, "target", corner=(-33.7, -41.3, -25.0))
    matrix = moving(deg, (3.1, -2.3, 4.7))
    result = carry(planning, three(planning, tmp_path), target, matrix)
    for name, center, radius in (("Parotid_L", (14, -8, 3), 9.0), ("PTV_High", (-6, 6, -3), 14.0)):
        there = matrix[:3, :3] @ center + matrix[:3, 3]
        assert dice(result.masks[name], ball(target.volume, there, radius)) > 0.95
        centroid = target.volume.points_lps(np.argwhere(result.masks[name]).mean(axis=0)[None, ::-1])[0]
        assert centroid == pytest.approx(there, abs=0.3)
    assert result.remarks == ()


def test_on_the_same_grid_nothing_changes_and_feet_first_only_the_order_does(
    planning: ImageSeries, tmp_path: Path
) -> None:
    path = three(planning, tmp_path)
    on_planning = masks(read_structure_set(path), planning)
    far = planning.volume.points_lps(np.array([[SHAPE[2] - 1.0, 0.0, SHAPE[0] - 1.0]]))[0]
    same, feet_first = series(tmp_path, "same"), series(tmp_path, "feet_first", POSITIONS["FFS"], far)
    assert np.linalg.det(feet_first.volume.affine) > 0 > feet_first.volume.affine[0, 0]
    for name, mask in on_planning.items():
        assert np.array_equal(carry(planning, path, same, np.eye(4)).masks[name], mask)
        assert np.array_equal(carry(planning, path, feet_first, np.eye(4)).masks[name], mask[::-1, :, ::-1])


def test_the_file_is_valid_and_says_what_it_was_made_of(planning: ImageSeries, tmp_path: Path) -> None:
    source = three(planning, tmp_path)
    target = series(tmp_path, "target")
    result = carry(planning, source, target, moving(3.0, (1, 1, 1)))
    (tmp_path / "new").mkdir()
    path = written(result.dataset, tmp_path / "new")
    assert dciodvfy_errors(path) == []
    dataset, original = dcmread(path), dcmread(source)
    assert [item.ROIName for item in dataset.StructureSetROISequence] == ["Parotid_L", "PTV_High", "Bob_Miller"]
    assert [item.RTROIInterpretedType for item in dataset.RTROIObservationsSequence] == ["ORGAN", "PTV", "ORGAN"]
    assert [item.ROIDisplayColor for item in dataset.ROIContourSequence] == [
        item.ROIDisplayColor for item in original.ROIContourSequence
    ]
    assert [bool(item.get("RTROIIdentificationCodeSequence")) for item in dataset.RTROIObservationsSequence] == [
        True, False, False
    ]  # fmt: skip
    assert dataset.StructureSetLabel == "CARRIED"
    assert dataset.ApprovalStatus == "UNAPPROVED"
    assert dataset.FrameOfReferenceUID == OTHER_FRAME
    assert dataset.SeriesDescription == "Carried over from planning CT NOT FOR TREATMENT"
    assert dataset.PredecessorStructureSetSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert dataset.StructureSetDescription.startswith(
        f"Carried over from structure set {original.SOPInstanceUID} by registration 1.2.3.77. Pipeline segment_headneck"
    )
    assert len(dataset.ContributingEquipmentSequence) == 2


def test_another_reader_finds_every_contour_on_the_slice_that_it_names(planning: ImageSeries, tmp_path: Path) -> None:
    target = series(tmp_path, "target", corner=(-30.0, -44.0, -22.5))
    result = carry(planning, three(planning, tmp_path), target, moving(5.0, (2, 1, -3)))
    dataset = dcmread(written(result.dataset, tmp_path))
    heights = {header.SOPInstanceUID: float(header.ImagePositionPatient[2]) for header in target.headers}
    contours = [contour for item in dataset.ROIContourSequence for contour in item.ContourSequence]
    assert len(contours) > 15
    for contour in contours:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        assert points[:, 2] == pytest.approx(heights[contour.ContourImageSequence[0].ReferencedSOPInstanceUID])
    read = masks(read_structure_set(tmp_path / "RTSTRUCT.dcm"), target)
    assert list(read) == list(result.masks)
    assert all(np.array_equal(read[name], result.masks[name]) for name in read)


def test_what_leaves_the_field_of_view_is_cut_or_left_out_with_a_sentence(
    planning: ImageSeries, tmp_path: Path
) -> None:
    path = three(planning, tmp_path)
    target = series(tmp_path, "target")
    result = carry(planning, path, target, moving(0.0, (-2.0, -26.0, 3.0)))
    cut, gone = result.remarks
    assert cut.startswith("Parotid_L lies by ")
    assert cut.endswith(" % outside of the field of view and is cut")
    assert gone == "ROI 3 lies outside of the field of view and is left out"
    assert set(result.masks) == {"Parotid_L", "PTV_High"}
    with pytest.raises(InputRejected) as caught:
        carry(planning, path, target, moving(0.0, (500, 0, 0)))
    assert str(caught.value) == "No region of the structure set lies in the field of view of the images"


def test_voxels_that_the_scanner_did_not_see_belong_to_no_region(planning: ImageSeries, tmp_path: Path) -> None:
    path = three(planning, tmp_path)
    target = series(tmp_path, "target")
    seen = ball(target.volume, (-6, 6, -3), 20.0)
    result = carried_over(planning, path, target, np.eye(4), ORIGIN, seen=seen)
    assert not any((mask & ~seen).any() for mask in result.masks.values())
    assert [remark.split(" ")[0] for remark in result.remarks] == ["Parotid_L", "ROI"]


def test_only_the_regions_asked_for_are_carried(planning: ImageSeries, tmp_path: Path) -> None:
    path, target = three(planning, tmp_path), series(tmp_path, "target")
    result = carried_over(planning, path, target, np.eye(4), ORIGIN, names=["parotid_l"])
    assert list(result.masks) == ["parotid_l"]
    assert [item.ROIName for item in result.dataset.StructureSetROISequence] == ["Parotid_L"]
    with pytest.raises(InputRejected, match="The structure set has no region Rectum"):
        carried_over(planning, path, target, np.eye(4), ORIGIN, names=["Rectum"])


@pytest.mark.parametrize("other", ["", "SOMEBODY-ELSE"])
def test_images_of_another_patient_are_refused(planning: ImageSeries, tmp_path: Path, other: str) -> None:
    target = series(tmp_path, "target", PatientID=other)
    with pytest.raises(InputRejected) as caught:
        carry(planning, three(planning, tmp_path), target, np.eye(4))
    assert str(caught.value) == "The planning CT, its structure set and the images are not of one patient"


@pytest.mark.req("NODE-05")
def test_the_same_work_makes_the_same_bytes(planning: ImageSeries, tmp_path: Path) -> None:
    path, target = three(planning, tmp_path), series(tmp_path, "target")
    first, second = (carry(planning, path, target, moving(2.0, (1, 2, 3))).dataset for _ in range(2))
    assert file_bytes(first) == file_bytes(second)


def test_a_region_that_ends_with_the_planning_ct_ends_half_a_slice_beyond_its_last_slice() -> None:
    small = Volume(np.zeros((6, 8, 8), np.float32), np.diag([1.0, 1.0, 2.0, 1.0]))
    tall = Volume(np.zeros((30, 8, 8), np.float32), np.diag([1.0, 1.0, 0.5, 1.0]))
    tall.affine[2, 3] = -1.75
    mask = np.zeros((6, 8, 8), np.bool_)
    mask[:, 2:6, 2:6] = True
    heights = -1.75 + 0.5 * np.flatnonzero(carried_mask(mask, small, tall, np.eye(4)).any(axis=(1, 2)))
    assert (heights.min(), heights.max()) == (-0.75, 10.75)
