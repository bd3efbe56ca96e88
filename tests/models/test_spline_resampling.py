import numpy as np
import pytest

from models.imported import Resampling
from models.patches import Shape
from models.spline_resampling import new_shape, resampled

SPLINE = Resampling(order=3, slices_apart=None)


def ramp(shape: Shape, spacing_mm: tuple[float, float, float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Sum of the places in mm, the corner of the volume being 0; its values are known on any grid."""
    axes = [(np.arange(n) + 0.5) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    return np.asarray(np.add.outer(np.add.outer(axes[0], axes[1]), axes[2]))


def test_a_ramp_stays_that_ramp_on_another_grid_of_the_same_field_of_view() -> None:
    old, new = ((20, 24, 30), (2.0, 1.5, 1.0)), ((25, 18, 20), (1.6, 2.0, 1.5))
    found = resampled(ramp(*old), new[0], old[1], new[1], Resampling(order=1))
    np.testing.assert_allclose(found[1:-1, 1:-1, 1:-1], ramp(*new)[1:-1, 1:-1, 1:-1], rtol=1e-6)


def test_slices_that_are_three_times_as_far_apart_are_taken_from_the_nearest() -> None:
    volume = np.random.default_rng(0).normal(0.0, 1.0, (4, 10, 10))
    found = resampled(volume, (8, 10, 10), (8.0, 2.0, 2.0), (4.0, 2.0, 2.0), SPLINE)
    np.testing.assert_allclose(found, np.repeat(volume, 2, axis=0), rtol=1e-6)
    together = resampled(volume, (8, 10, 10), (5.0, 2.0, 2.0), (2.5, 2.0, 2.0), SPLINE)
    assert np.abs(together - found).max() > 0.1


def test_a_grid_with_two_coarse_axes_is_resampled_as_a_whole() -> None:
    volume = np.random.default_rng(0).normal(0.0, 1.0, (4, 10, 10))
    found = resampled(volume, (8, 10, 10), (8.0, 8.0, 2.0), (4.0, 8.0, 2.0), SPLINE)
    assert np.abs(found - np.repeat(volume, 2, axis=0)).max() > 0.1


def test_a_spline_does_not_leave_the_range_of_what_was_there() -> None:
    volume = np.zeros((10, 10, 10))
    volume[5:] = 1000.0
    found = resampled(volume, (23, 10, 10), (2.3, 2.3, 2.3), (1.0, 2.3, 2.3), SPLINE)
    assert found.min() >= 0.0 and found.max() <= 1000.0 and found.dtype == np.float32


def test_slices_apart_may_be_interpolated_between() -> None:
    volume = np.broadcast_to(np.arange(6.0)[:, None, None], (6, 4, 4))
    how = Resampling(order=1, order_between_slices=1, slices_apart=True)
    found = resampled(volume, (12, 4, 4), (6.0, 1.0, 1.0), (3.0, 1.0, 1.0), how)
    np.testing.assert_allclose(found[1:-1, 0, 0], 0.25 + 0.5 * np.arange(10), rtol=1e-6)


@pytest.mark.parametrize(("grid", "slices", "first"), [("field_of_view", 20, 0.25), ("first_voxel", 19, 0.5)])
def test_grids_have_the_field_of_view_or_the_first_voxel_in_common(grid: str, slices: int, first: float) -> None:
    how = Resampling.model_validate({"grid": grid, "order": 1})
    volume = np.broadcast_to(np.arange(10.0)[:, None, None], (10, 4, 4))
    shape = new_shape(volume.shape, (2.0, 1.0, 1.0), (1.0, 1.0, 1.0), how)
    assert shape == (slices, 4, 4)
    assert resampled(volume, shape, (2.0, 1.0, 1.0), (1.0, 1.0, 1.0), how)[1, 0, 0] == pytest.approx(first)


def test_nothing_is_resampled_to_nothing() -> None:
    assert new_shape((1, 2, 2), (1.0, 1.0, 1.0), (9.0, 9.0, 9.0), SPLINE) == (1, 1, 1)
