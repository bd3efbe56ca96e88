"""Affine, indices and orientation of a volume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.volume import AxisOrder, Volume, axis_order
from tests.pipelines.made import AXIAL, COLUMN_MM, ROW_MM, SLICE_MM, oriented_series, ramp, write

HFS, HFP = AXIAL, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
FFS = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def volume(tmp_path: Path, orientation: tuple[float, ...] = HFS) -> Volume:
    return read_image_series(write(oriented_series(ramp(), orientation, (-10, -20, -30)), tmp_path)).volume


def test_affine_of_an_axial_series_is_its_header(tmp_path: Path) -> None:
    read = volume(tmp_path)
    assert read.spacing_zyx_mm == pytest.approx((SLICE_MM, ROW_MM, COLUMN_MM))
    expected = [[COLUMN_MM, 0, 0, -10], [0, ROW_MM, 0, -20], [0, 0, SLICE_MM, -30], [0, 0, 0, 1]]
    assert read.affine == pytest.approx(np.array(expected))
    assert read.image_orientation_patient == pytest.approx(HFS)


def test_indices_are_the_inverse_of_points(tmp_path: Path) -> None:
    tilted = (np.cos(0.2), np.sin(0.2), 0.0, -np.sin(0.2), np.cos(0.2), 0.0)
    read = volume(tmp_path, tilted)
    indices = np.array([[0.0, 0.0, 0.0], [19.0, 15.0, 4.0], [3.5, 2.25, 1.0]])
    assert read.indices_xyz(read.points_lps(indices)) == pytest.approx(indices, abs=1e-9)


@pytest.mark.parametrize("orientation", [HFS, HFP, SAGITTAL, (0.6, 0.64, 0.48, -0.8, 0.48, 0.36)])
def test_another_program_finds_every_voxel_at_the_same_place(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    read = volume(tmp_path, orientation)
    reader: Any = SimpleITK.ImageSeriesReader()  # type: ignore[no-untyped-call]
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), read.array_zyx)
    for index in ((0, 0, 0), (19, 15, 4), (7, 3, 2)):
        expected = image.TransformIndexToPhysicalPoint(index)
        assert read.points_lps(np.array([index]))[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("orientation", [HFS, HFP, FFS, SAGITTAL, CORONAL])
def test_canonical_axes_run_to_head_back_and_left(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    read = volume(tmp_path, orientation)
    order = axis_order(read)
    position = read.points_lps(np.array([[c, r, s] for s in range(5) for r in range(16) for c in range(20)]))
    for lps_axis, array_axis in ((2, 0), (1, 1), (0, 2)):
        ascending = order.canonical(position[:, lps_axis].reshape(5, 16, 20))
        assert (np.diff(ascending, axis=array_axis) > 0).all()
    assert np.array_equal(order.original(order.canonical(read.array_zyx)), read.array_zyx)


def test_a_permutation_that_is_not_its_own_inverse_comes_back() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    order = AxisOrder((1, 2, 0), (0, 2))
    assert np.array_equal(order.original(order.canonical(array)), array)


def test_values_of_another_shape_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        volume(tmp_path).with_array(np.zeros((1, 2, 3)))


def test_a_shifted_grid_is_another_grid(tmp_path: Path) -> None:
    read = volume(tmp_path)
    shifted = read.affine.copy()
    shifted[0, 3] += 0.01
    assert read.same_grid(read.with_array(read.array_zyx + 1))
    assert not read.same_grid(Volume(read.array_zyx, shifted))
    assert not read.same_grid(Volume(read.array_zyx[1:], read.affine))
