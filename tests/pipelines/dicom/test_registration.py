"""Spatial Registrations: written, validated, read back."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.base import InputRejected
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.registration import (
    Registration,
    image_registration,
    known_matrix,
    read_registration,
    spatial_registration,
)
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import ct_series, write
from tests.pipelines.organs_made import ORIGIN

NEW = NewInstance("1.2.3.1", "1.2.3.2", 5, "Registration", "Maker")
MATRIX = np.array([[0.8, -0.6, 0, 5], [0.6, 0.8, 0, -7], [0, 0, 1, 2.5], [0, 0, 0, 1]])


def registration(folder: Path, moving_study: str = "1.2.9") -> Dataset:
    for name in ("fixed", "moving"):
        (folder / name).mkdir()
    fixed = read_image_series(write(ct_series(), folder / "fixed"))
    other = ct_series(FrameOfReferenceUID="1.2.3.9", StudyInstanceUID=moving_study, SeriesInstanceUID="1.2.3.8")
    for index, dataset in enumerate(other):
        dataset.SOPInstanceUID = f"1.2.3.7.{index + 1}"
    moving = read_image_series(write(other, folder / "moving"))
    return spatial_registration(fixed, moving, MATRIX, NEW)


def written(dataset: Dataset, folder: Path) -> Path:
    path = folder / "registration.dcm"
    path.write_bytes(file_bytes(dataset))
    return path


@pytest.mark.parametrize("moving_study", ["1.2.9", ct_series()[0].StudyInstanceUID])
def test_a_registration_comes_back(tmp_path: Path, moving_study: str) -> None:
    path = written(registration(tmp_path, moving_study), tmp_path)
    (found,) = read_registration(path)
    assert dciodvfy_errors(path) == []
    assert found.matrix == pytest.approx(MATRIX)
    assert found.moving_frame_of_reference_uid == "1.2.3.9"
    assert found.fixed_frame_of_reference_uid == ct_series()[0].FrameOfReferenceUID


def matrix_of(dataset: Dataset) -> Dataset:
    found = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    assert isinstance(found, Dataset)
    return found


def test_odd_registrations_are_refused(tmp_path: Path) -> None:
    dataset = registration(tmp_path)
    for values, sentence in (
        ([1.0] * 15, "The registration has a matrix that is not 4 x 4"),
        ((MATRIX * 1.1).ravel().tolist(), "The registration is not rigid"),
        (np.diag([1.0, 1.0, -1.0, 1.0]).ravel().tolist(), "The registration is not rigid"),
    ):
        matrix_of(dataset).FrameOfReferenceTransformationMatrix = values
        with pytest.raises(InputRejected) as caught:
            read_registration(written(dataset, tmp_path))
        assert str(caught.value) == sentence
    del dataset.FrameOfReferenceUID
    with pytest.raises(InputRejected, match="does not say to which Frame of Reference it leads"):
        read_registration(written(dataset, tmp_path))


def both(folder: Path, moving_frame: str = "1.2.3.9") -> tuple[ImageSeries, ImageSeries]:
    for name in ("planning", "target"):
        (folder / name).mkdir()
    other = ct_series(FrameOfReferenceUID=moving_frame, StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.3.8")
    for index, dataset in enumerate(other):
        dataset.SOPInstanceUID = f"1.2.3.7.{index + 1}"
    planning = read_image_series(write(ct_series(), folder / "planning"))
    return planning, read_image_series(write(other, folder / "target"))


def test_what_was_found_in_images_is_written_with_the_program_that_found_it(tmp_path: Path) -> None:
    planning, target = both(tmp_path)
    dataset = image_registration(planning, target, np.linalg.inv(MATRIX), ORIGIN)
    path = written(dataset, tmp_path)
    (found,) = read_registration(path)
    assert dciodvfy_errors(path) == []
    assert found.matrix == pytest.approx(MATRIX)
    assert found.moving_frame_of_reference_uid == target.frame_of_reference_uid
    assert dataset.SeriesDescription == "Registration to planning CT NOT FOR TREATMENT"
    assert dataset.Manufacturer == "rtnode"
    assert len(dataset.ContributingEquipmentSequence) == 2
    assert file_bytes(dataset) == file_bytes(image_registration(planning, target, np.linalg.inv(MATRIX), ORIGIN))


def test_within_one_frame_of_reference_only_images_are_moved(tmp_path: Path) -> None:
    planning, target = both(tmp_path, ct_series()[0].FrameOfReferenceUID)
    dataset = image_registration(planning, target, MATRIX, ORIGIN)
    path = written(dataset, tmp_path)
    assert dciodvfy_errors(path) == []
    fixed, moving = dataset.RegistrationSequence
    assert "FrameOfReferenceUID" in fixed
    assert "FrameOfReferenceUID" not in moving
    assert len(moving.ReferencedImageSequence) == len(target.headers)
    assert read_registration(path) == ()


def test_a_known_matrix_leads_either_way_and_over_a_third_frame() -> None:
    to_b, to_c = Registration("b", "a", MATRIX), Registration("c", "b", shift(1, 2, 3))
    assert known_matrix("a", "b", [to_b]) == pytest.approx(MATRIX)
    assert known_matrix("b", "a", [to_b]) == pytest.approx(np.linalg.inv(MATRIX))
    assert known_matrix("a", "c", [to_b, to_c]) == pytest.approx(shift(1, 2, 3) @ MATRIX)
    assert known_matrix("c", "a", [to_b, to_c]) == pytest.approx(np.linalg.inv(shift(1, 2, 3) @ MATRIX))
    assert known_matrix("a", "a", []) == pytest.approx(np.eye(4))
    assert known_matrix("a", "d", [to_b, to_c]) is None


def test_two_registrations_that_disagree_are_refused() -> None:
    first, near, far = (Registration("b", "a", shift(x, 0, 0)) for x in (0.0, 0.4, 3.0))
    assert known_matrix("a", "b", [first, near]) == pytest.approx(np.eye(4))
    with pytest.raises(InputRejected, match="Two registrations between the Frames of Reference disagree"):
        known_matrix("a", "b", [first, far])


def shift(*by_mm: float) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = by_mm
    return matrix
