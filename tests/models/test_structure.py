from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask, body_mask
from models.structure import deformation, displacement_zyx_mm

SPACING = (4.0, 4.0, 4.0)
SHAPE = (32, 64, 64)


def scene(positions_zyx_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """A body of fat with a lattice of muscle and four rods of bone: structure everywhere, in HU."""
    z, y, x = positions_zyx_mm
    lattice = np.sin(2 * np.pi * z / 48.0) * np.sin(2 * np.pi * y / 40.0) * np.sin(2 * np.pi * x / 44.0)
    hu = -100.0 + 150.0 / (1.0 + np.exp(-8.0 * lattice))
    for row, column in ((-40.0, -30.0), (40.0, 35.0), (-20.0, 50.0), (25.0, -45.0)):
        hu = hu + 600.0 * np.exp(-(np.hypot(y - row, x - column) ** 2) / 60.0)
    outside = 1.0 / (1.0 + np.exp(-(np.hypot(y / 100.0, x / 90.0) - 1.0) * 40.0))
    return np.asarray(hu * (1.0 - outside) - 1000.0 * outside)


@cache
def grid_mm() -> NDArray[np.float64]:
    axes = [(np.arange(n) - (n - 1) / 2.0) * mm for n, mm in zip(SHAPE, SPACING, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


@cache
def still() -> tuple[NDArray[np.float64], Mask]:
    hu = scene(grid_mm())
    return hu, body_mask(hu)


def noise(seed: int, sd: float = 35.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, sd, SHAPE)


def smooth_motion_mm() -> NDArray[np.float64]:
    """A displacement of up to 5 mm with a wavelength of 200 mm, (axis, slice, row, column)."""
    z, y, x = grid_mm()
    return np.stack([0.0 * z, 5.0 * np.sin(2 * np.pi * x / 200.0), 5.0 * np.cos(2 * np.pi * y / 200.0)])


def megavoltage(hu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Less contrast, the tissues in the same order."""
    return np.interp(hu, [-1000.0, -100.0, 50.0, 800.0], [-1000.0, -60.0, 40.0, 400.0])


def test_a_smooth_deformation_is_recovered() -> None:
    hu, body = still()
    motion_mm = smooth_motion_mm()
    # What lies at y in the output lay at y - u(y) in the input; the displacement found, at x, is u where x came to lie.
    moved = scene(grid_mm() - motion_mm)
    found = displacement_zyx_mm(hu, moved, body, SPACING)
    inside = ndimage.binary_erosion(body, iterations=3, border_value=1)
    _, row_mm, column_mm = grid_mm() + np.moveaxis(found, -1, 0)
    expected = 5.0 * np.stack([np.sin(2 * np.pi * column_mm / 200.0), np.cos(2 * np.pi * row_mm / 200.0)], axis=-1)
    assert np.hypot(*np.moveaxis(found[..., 1:] - expected, -1, 0))[inside].mean() < 0.9
    measured = deformation(hu, moved, body, SPACING)
    true_mm = np.sqrt(np.square(motion_mm).sum(axis=0))[body]
    assert measured.mean_mm == pytest.approx(true_mm.mean(), abs=0.8)
    assert measured.p95_mm == pytest.approx(np.percentile(true_mm, 95), abs=1.2)


def test_a_deformation_is_recovered_through_a_change_of_contrast_and_noise() -> None:
    hu, body = still()
    motion_mm = smooth_motion_mm()
    moved = scene(grid_mm() - motion_mm)
    measured = deformation(megavoltage(hu) + noise(0), moved, body, SPACING)
    true_mm = np.sqrt(np.square(motion_mm).sum(axis=0))[body]
    assert measured.mean_mm == pytest.approx(true_mm.mean(), abs=1.2)


def test_the_same_image_does_not_move() -> None:
    hu, body = still()
    found = deformation(hu, hu, body, SPACING)
    assert found.mean_mm < 0.01 and found.p95_mm < 0.01


def test_a_change_of_contrast_is_hardly_motion() -> None:
    hu, body = still()
    found = deformation(megavoltage(hu), hu, body, SPACING)
    assert found.mean_mm < 0.3 and found.p95_mm < 0.8


def test_noise_alone_moves_little() -> None:
    hu, body = still()
    found = deformation(hu + noise(1), hu + noise(2), body, SPACING)
    assert 0.0 < found.mean_mm < 0.5 and found.p95_mm < 1.0


def test_a_shift_has_the_direction_of_the_displacement() -> None:
    hu, body = still()
    found = displacement_zyx_mm(hu, scene(grid_mm() - np.array([0.0, 0.0, 4.0]).reshape(3, 1, 1, 1)), body, SPACING)
    assert np.median(found[body], axis=0) == pytest.approx([0.0, 0.0, 4.0], abs=0.5)


def test_fine_images_are_registered_on_a_coarser_grid() -> None:
    hu, body = still()
    found = displacement_zyx_mm(hu, hu, body, (1.0, 1.0, 1.0))
    assert found.shape == (*SHAPE, 3) and np.abs(found).max() < 0.05


def test_a_few_slices_suffice() -> None:
    hu, body = still()
    assert deformation(hu[:3], hu[:3], body[:3], SPACING).mean_mm < 0.01


def test_without_a_body_there_is_nothing_to_register() -> None:
    hu, body = still()
    with pytest.raises(ValueError, match="empty"):
        deformation(hu, hu, ~body & body, SPACING)
