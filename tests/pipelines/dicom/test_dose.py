"""RT Dose: written, validated, read back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.base import InputRejected
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.dose import read_dose, rt_dose
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import changed, ct_series, write

NEW = NewInstance("1.2.3.1", "1.2.3.2", 4, "Dose", "Maker")


def gray(frames: int = 4) -> NDArray[np.float64]:
    return np.linspace(0, 70.123, frames * 6 * 7).reshape(frames, 6, 7)


def dose(folder: Path, frames: int = 4) -> tuple[Dataset, Volume]:
    planning = read_image_series(write(ct_series(), folder))
    affine = np.array([[2.5, 0, 0, -9], [0, 2.0, 0, -18], [0, 0, 3.0, -27], [0, 0, 0, 1]])
    grid = Volume(gray(frames), affine)
    return rt_dose(planning.header, grid, "1.2.3.4", NEW), grid


def written(dataset: Dataset, folder: Path) -> Path:
    path = folder / "dose.dcm"
    path.write_bytes(file_bytes(dataset))
    return path


def test_a_dose_comes_back_in_its_place(tmp_path: Path) -> None:
    dataset, grid = dose(tmp_path)
    path = written(dataset, tmp_path)
    found = read_dose(path)
    assert dciodvfy_errors(path) == []
    assert found.volume.array_zyx == pytest.approx(gray(), abs=1e-6)
    assert found.volume.same_grid(grid)
    assert (found.dose_summation_type, found.rt_plan_uid) == ("PLAN", "1.2.3.4")


def test_a_dose_may_use_all_of_32_bits(tmp_path: Path) -> None:
    dataset, _ = dose(tmp_path)
    stored = np.full((4, 6, 7), 2**32 - 1, dtype="<u4")
    found = read_dose(written(changed(dataset, PixelData=stored.tobytes(), DoseGridScaling="1e-8"), tmp_path))
    assert found.volume.array_zyx == pytest.approx(42.94967295)


def test_offsets_that_are_positions_mean_the_same(tmp_path: Path) -> None:
    dataset, grid = dose(tmp_path)
    dataset.GridFrameOffsetVector = [-27, -24, -21, -18]
    assert read_dose(written(dataset, tmp_path)).volume.same_grid(grid)


def test_offsets_that_are_positions_run_against_the_normal_of_a_patient_with_feet_first(tmp_path: Path) -> None:
    dataset, _ = dose(tmp_path)
    dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [9, -18, -18]
    distances = read_dose(written(changed(dataset, GridFrameOffsetVector=[0, 3, 6, 9]), tmp_path))
    positions = read_dose(written(changed(dataset, GridFrameOffsetVector=[-18, -21, -24, -27]), tmp_path))
    assert positions.volume.same_grid(distances.volume)
    assert positions.volume.array_zyx.tolist() == distances.volume.array_zyx.tolist()
    assert positions.volume.points_lps(np.array([[0.0, 0.0, 3.0]])).tolist() == [[9.0, -18.0, -27.0]]


@pytest.mark.parametrize("dose_type", ["PHYSICAL", "EFFECTIVE"])
def test_a_dose_says_of_what_type_it_is(tmp_path: Path, dose_type: str) -> None:
    dataset, _ = dose(tmp_path)
    assert read_dose(written(changed(dataset, DoseType=dose_type), tmp_path)).dose_type == dose_type


def test_frames_stored_toward_the_feet_are_turned(tmp_path: Path) -> None:
    dataset, grid = dose(tmp_path)
    dataset.GridFrameOffsetVector = [0, -3, -6, -9]
    dataset.ImagePositionPatient = [-9, -18, -18]
    found = read_dose(written(dataset, tmp_path)).volume
    assert found.same_grid(grid)
    assert found.array_zyx == pytest.approx(gray()[::-1], abs=1e-6)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda d: changed(d, DoseUnits="RELATIVE"), "Dose Units is not GY"),
        (lambda d: changed(d, DoseType="ERROR"), "Dose Type is neither PHYSICAL nor EFFECTIVE"),
        (
            lambda d: changed(d, GridFrameOffsetVector=[5, 8, 11, 14]),
            "The Grid Frame Offset Vector starts neither at 0 nor at the position of an axial plane",
        ),
        (lambda d: changed(d, DoseGridScaling=0), "The dose has no usable Dose Grid Scaling"),
        (lambda d: changed(d, GridFrameOffsetVector=None), "The dose has no usable Grid Frame Offset Vector"),
        (lambda d: changed(d, GridFrameOffsetVector=[0, 3, 6]), "The dose has no usable Grid Frame Offset Vector"),
        (lambda d: changed(d, GridFrameOffsetVector=[0, 3, 6, 10]), "The planes of the dose are not at even distances"),
        (lambda d: changed(d, GridFrameOffsetVector=[0, 0, 0, 0]), "The planes of the dose are not at even distances"),
        (lambda d: changed(d, ImagePositionPatient=None), "An image has no usable Image Position (Patient)"),
        (
            lambda d: changed(d, FrameOfReferenceUID=None),
            "The dose does not say to which Frame of Reference it belongs",
        ),
        (lambda d: changed(d, PixelData=bytes(12)), "The pixel data have 12 bytes where the header announces 672"),
        (lambda d: changed(d, SOPClassUID="1.2.3"), "A file is not an RT Dose"),
    ],
)
def test_an_odd_dose_is_refused(tmp_path: Path, spoil: Callable[[Dataset], Dataset], sentence: str) -> None:
    dataset, _ = dose(tmp_path)
    with pytest.raises(InputRejected) as caught:
        read_dose(written(spoil(dataset), tmp_path))
    assert str(caught.value).startswith(sentence)
