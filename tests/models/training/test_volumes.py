from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.training.volumes import TrainingDataError, of_split, read_volume

OPENKBP_VOXEL_MM = np.array([4.0, 3.0, 2.5], np.float32)


def openkbp(folder: Path, patient_id: str = "pt_1") -> Path:
    """Stored [row, column, slice from the head down], HU + 1024; one bright voxel in each corner direction."""
    stored = np.zeros((8, 8, 4), np.int16)
    stored[7, 0, 0] = 1024 + 500  # posterior, right, top of the head
    path = folder / f"{patient_id}.npz"
    np.savez(path, ct=stored, voxel_mm=OPENKBP_VOXEL_MM)
    return path


def test_openkbp_axes_become_slice_up_row_posterior_column_left(tmp_path: Path) -> None:
    volume = read_volume(openkbp(tmp_path))
    assert volume.hu_zyx.shape == (4, 8, 8)
    assert volume.hu_zyx[3, 7, 0] == 500.0
    assert volume.spacing_zyx_mm == (2.5, 4.0, 3.0)


def test_outside_the_scan_is_air(tmp_path: Path) -> None:
    assert read_volume(openkbp(tmp_path)).hu_zyx.min() == -1000.0


@pytest.mark.parametrize(("patient_id", "split"), [("pt_200", "train"), ("pt_201", "validation"), ("pt_241", "test")])
def test_openkbp_numbers_say_the_split(tmp_path: Path, patient_id: str, split: str) -> None:
    assert read_volume(openkbp(tmp_path, patient_id)).split == split


def test_a_plain_volume_is_read_as_it_is(tmp_path: Path) -> None:
    hu = np.arange(32, dtype=np.int16).reshape(2, 4, 4)
    np.savez(tmp_path / "neck.npz", ct=hu, spacing_zyx=np.array([1.5, 1.0, 1.0], np.float32))
    volume = read_volume(tmp_path / "neck.npz")
    np.testing.assert_array_equal(volume.hu_zyx, hu)
    assert (volume.patient_id, volume.split, volume.spacing_zyx_mm) == ("neck", None, (1.5, 1.0, 1.0))


def test_volumes_without_a_split_are_for_training(tmp_path: Path) -> None:
    np.savez(tmp_path / "neck.npz", ct=np.zeros((2, 4, 4), np.int16), spacing_zyx=np.ones(3))
    volumes = [read_volume(openkbp(tmp_path, "pt_201")), read_volume(tmp_path / "neck.npz")]
    assert [volume.patient_id for volume in of_split(volumes, "train")] == ["neck"]


def test_npz_volumes_are_planning_cts(tmp_path: Path) -> None:
    assert read_volume(openkbp(tmp_path)).domain == "planning_ct"


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "dose.npz", dose=np.zeros(3))
    with pytest.raises(TrainingDataError, match="not the arrays"):
        read_volume(tmp_path / "dose.npz")


@pytest.mark.parametrize("kept_bytes", [2, 300])
def test_a_broken_file_is_named(tmp_path: Path, kept_bytes: int) -> None:
    path = openkbp(tmp_path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(TrainingDataError, match=r"pt_1\.npz can not be read"):
        read_volume(path)


def test_a_single_array_under_the_name_of_an_archive_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(TrainingDataError, match=r"one\.npz has not the arrays"):
        read_volume(tmp_path / "one.npz")


@pytest.mark.parametrize(
    "spacing",
    [[0.0, 1.0, 1.0], [1.5, -1.0, 1.0], [np.nan, 1.0, 1.0], [1.5, np.inf, 1.0], [1.5, 1.0], [[1.0, 1.0, 1.0]]],
)
@pytest.mark.parametrize("name", ["spacing_zyx", "voxel_mm"])
def test_a_spacing_that_can_not_be_is_refused(tmp_path: Path, name: str, spacing: list[float]) -> None:
    np.savez(tmp_path / "neck.npz", ct=np.zeros((2, 4, 4), np.int16), **{name: np.array(spacing)})  # type: ignore[arg-type]
    with pytest.raises(TrainingDataError, match=r"neck\.npz: the spacing .* is not three positive numbers of mm"):
        read_volume(tmp_path / "neck.npz")


@pytest.mark.parametrize(
    ("ct", "reason"),
    [
        (np.full((2, 4, 4), np.nan, np.float32), "values that are not finite"),
        (np.full((2, 4, 4), np.inf, np.float32), "values that are not finite"),
        (np.zeros((4, 4), np.int16), r"the shape \(4, 4\), which is no volume"),
        (np.zeros((0, 4, 4), np.int16), r"the shape \(0, 4, 4\), which is no volume"),
        (np.full((2, 4, 4), "-"), "have to be numbers"),
    ],
)
def test_a_ct_that_can_not_be_is_refused(tmp_path: Path, ct: NDArray[Any], reason: str) -> None:
    np.savez(tmp_path / "neck.npz", ct=ct, spacing_zyx=np.ones(3))
    with pytest.raises(TrainingDataError, match=reason):
        read_volume(tmp_path / "neck.npz")
