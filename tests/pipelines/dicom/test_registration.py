"""Spatial Registrations: written, validated, read back."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from pipelines.base import InputRejected
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.registration import read_registration, spatial_registration
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import ct_series, write

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
