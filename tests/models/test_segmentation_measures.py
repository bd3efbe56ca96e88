from math import inf, isnan, pi, sqrt

import numpy as np
import pytest

from models.intensity import Mask
from models.segmentation_measures import (
    OrganMeasures,
    Spacing,
    SurfaceDistances,
    dice,
    measures_by_organ,
    organ_measures,
    volume_error_percent,
    volume_ml,
)

SPACING: Spacing = (3.0, 1.5, 1.0)
SHAPE = (20, 30, 40)
EMPTY: Mask = np.zeros(SHAPE, bool)


def box(start: tuple[int, int, int], size: tuple[int, int, int]) -> Mask:
    mask = EMPTY.copy()
    mask[tuple(slice(at, at + n) for at, n in zip(start, size, strict=True))] = True
    return mask


def ball(radius_mm: float, spacing_zyx_mm: Spacing) -> Mask:
    """A ball about the middle of an image of 44 mm."""
    axes = [np.arange(-(22 // mm), 22 // mm + 1) * mm for mm in spacing_zyx_mm]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.asarray(z**2 + y**2 + x**2 <= radius_mm**2)


CUBE = box((5, 8, 10), (6, 8, 12))


@pytest.mark.parametrize(("axis", "steps"), [(0, 1), (0, 2), (1, 3), (2, 5)])
def test_a_shifted_box_has_the_overlap_and_the_distance_of_its_shift(axis: int, steps: int) -> None:
    shifted = np.roll(CUBE, steps, axis)
    found = organ_measures(shifted, CUBE, SPACING)
    size = (6, 8, 12)[axis]
    assert found.dice == pytest.approx((size - steps) / size)
    distances = SurfaceDistances.between(shifted, CUBE, SPACING)
    assert distances.hausdorff_mm(100.0) == pytest.approx(steps * SPACING[axis])
    assert found.volume_error_percent == 0.0


def test_the_mean_distance_of_a_shifted_box_weighs_corners_by_their_area() -> None:
    """A slab so wide that its rim does not count: both faces are off by the shift, or 0 if it moves in its plane."""
    slab = np.zeros((12, 200, 200), bool)
    slab[4:8, 1:-1, 1:-1] = True
    distances = SurfaceDistances.between(np.roll(slab, 2, axis=0), slab, (2.0, 1.0, 1.0))
    faces, rim = 2 * 198.0**2, 4 * 198.0 * 8.0
    # Of the rim the half beyond the other slab is off by less than the shift of 4 mm.
    assert 4.0 * faces / (faces + rim) < distances.mean_mm() < 4.0


def test_surface_dice_is_the_area_within_the_tolerance() -> None:
    """Shift of 3 mm along the slices: the faces are out of tolerance, the sides but for their ends are not."""
    shifted = np.roll(CUBE, 1, axis=0)
    distances = SurfaceDistances.between(shifted, CUBE, SPACING)
    assert distances.surface_dice(3.0) == 1.0
    face, sides = 2 * 12.0 * 12.0, 2 * (12.0 + 12.0) * 18.0
    # Both end faces of each box are off by 3 mm: but the corners of one lie on the sides of the other.
    assert distances.surface_dice(2.0) == pytest.approx(1.0 - face / (face + sides), abs=0.13)
    assert distances.surface_dice(2.9) < distances.surface_dice(3.0)


def test_a_face_counts_by_its_area_and_not_by_its_voxels() -> None:
    """A plate of 30 x 40 pixels and one slice: 1.5 x 1.0 mm in each pixel of its faces, 3.0 mm on its rim."""
    plate = np.zeros((9, 34, 44), bool)
    plate[4, 2:-2, 2:-2] = True
    surface = SurfaceDistances.between(plate, plate, SPACING).truth
    assert surface is not None
    # The rim is rounded off by the gradient, so its edges count a little less than as a box.
    exact = 2 * 45.0 * 40.0 + 2 * (45.0 + 40.0) * 3.0
    assert surface.areas_mm2.sum() == pytest.approx(exact, rel=0.05)


def test_the_area_of_a_slope_of_45_degrees_is_exact() -> None:
    rows, columns = np.indices((60, 60))
    wedge = np.broadcast_to(columns < rows, (40, 60, 60))
    surface = SurfaceDistances.between(np.ascontiguousarray(wedge), np.ascontiguousarray(wedge), (1.0, 1.0, 1.0)).truth
    assert surface is not None
    legs, ends, slope = 2 * 59.0 * 40.0, 59.0**2, 59.0 * sqrt(2.0) * 40.0
    assert surface.areas_mm2.sum() == pytest.approx(legs + ends + slope, rel=0.03)


@pytest.mark.parametrize("spacing_zyx_mm", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 0.5, 0.75)])
def test_concentric_balls_are_apart_by_the_difference_of_their_radii(spacing_zyx_mm: Spacing) -> None:
    found = organ_measures(ball(15.0, spacing_zyx_mm), ball(20.0, spacing_zyx_mm), spacing_zyx_mm, tolerance_mm=7.0)
    voxel_mm = max(spacing_zyx_mm)
    assert found.dice == pytest.approx(2 * 15.0**3 / (15.0**3 + 20.0**3), abs=0.02)
    # Corners of voxels lie on both sides of the sphere, and the nearest one is on the near side.
    assert found.mean_surface_distance_mm == pytest.approx(5.0, abs=0.55 * voxel_mm)
    assert found.hd95_mm == pytest.approx(5.0, abs=voxel_mm)
    assert found.surface_dice == 1.0
    assert found.volume_error_percent == pytest.approx(100.0 * ((15.0 / 20.0) ** 3 - 1.0), abs=2.0)
    assert found.true_ml == pytest.approx(4.0 / 3.0 * pi * 8.0, rel=0.02)


def test_the_surface_of_a_ball_is_that_of_a_sphere() -> None:
    sphere = ball(20.0, (1.0, 1.0, 1.0))
    surface = SurfaceDistances.between(sphere, sphere, (1.0, 1.0, 1.0)).truth
    assert surface is not None
    assert surface.areas_mm2.sum() == pytest.approx(4.0 * pi * 400.0, rel=0.06)


def test_hd95_leaves_out_a_twentieth_of_the_surface() -> None:
    """A spur of one voxel far from the organ is less than that: it counts for the largest distance alone."""
    spoiled = CUBE | box((18, 28, 38), (1, 1, 1))
    distances = SurfaceDistances.between(spoiled, CUBE, SPACING)
    assert distances.hausdorff_mm(95.0) == 0.0
    assert distances.hausdorff_mm(100.0) > 20.0


def test_equal_masks_agree_in_everything() -> None:
    volume = 6 * 8 * 12 * 4.5 / 1000.0
    assert organ_measures(CUBE, CUBE, SPACING, 0.0) == OrganMeasures(1.0, 1.0, 0.0, 0.0, 0.0, volume, volume)


def test_a_mask_at_the_border_of_the_image_has_a_surface_there() -> None:
    whole = np.ones((4, 5, 6), bool)
    surface = SurfaceDistances.between(whole, whole, SPACING).truth
    assert surface is not None and len(surface.areas_mm2) == 5 * 6 * 7 - 3 * 4 * 5


def test_voxels_that_touch_in_a_corner_have_a_surface_there() -> None:
    diagonal = box((5, 5, 5), (1, 1, 1)) | box((6, 6, 6), (1, 1, 1))
    surface = SurfaceDistances.between(diagonal, diagonal, SPACING).truth
    assert surface is not None and len(surface.areas_mm2) == 15


def test_where_both_masks_are_empty_there_is_nothing_to_measure() -> None:
    found = organ_measures(EMPTY, EMPTY, SPACING)
    assert all(isnan(value) for value in (found.dice, found.surface_dice, found.hd95_mm, found.volume_error_percent))
    assert isnan(found.mean_surface_distance_mm) and found.true_ml == 0.0


@pytest.mark.parametrize(("predicted", "truth", "error"), [(EMPTY, CUBE, -100.0), (CUBE, EMPTY, inf)])
def test_where_one_mask_is_empty_the_other_is_infinitely_far(predicted: Mask, truth: Mask, error: float) -> None:
    found = organ_measures(predicted, truth, SPACING)
    assert (found.dice, found.surface_dice) == (0.0, 0.0)
    assert (found.hd95_mm, found.mean_surface_distance_mm) == (inf, inf)
    assert found.volume_error_percent == error


def test_an_organ_that_was_not_predicted_counts_as_missed() -> None:
    found = measures_by_organ({"Bladder": CUBE, "Heart": CUBE}, {"Bladder": CUBE, "Rectum": CUBE}, SPACING)
    assert (found["Bladder"].dice, found["Rectum"].dice) == (1.0, 0.0)
    assert set(found) == {"Bladder", "Rectum"}


def test_volumes_are_in_millilitres_and_errors_have_a_sign() -> None:
    assert volume_ml(box((0, 0, 0), (10, 10, 10)), SPACING) == pytest.approx(4.5)
    assert volume_error_percent(CUBE, box((5, 8, 10), (6, 8, 6))) == pytest.approx(100.0)


def test_dice_counts_voxels() -> None:
    assert dice(box((0, 0, 0), (1, 1, 4)), box((0, 0, 2), (1, 1, 4))) == pytest.approx(0.5)


def test_masks_of_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        organ_measures(CUBE, CUBE[1:], SPACING)
