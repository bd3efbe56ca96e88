"""What lies around an organ: HU that differ from side to side, by arithmetic."""

import numpy as np
import pytest

from models.organ_surroundings import misfit_hu2, surfaces, surroundings, usual_surroundings

SPACING = (2.0, 2.0, 2.0)
SHAPE = (30, 30, 30)
SLOPE_ZYX = (1.0, 2.0, 4.0)
CUBE = np.zeros(SHAPE, bool)
CUBE[10:20, 10:20, 10:20] = True
MM = np.indices(SHAPE) * 2.0
RAMP = sum(slope * (axis - 29.0) for slope, axis in zip(SLOPE_ZYX, MM, strict=True))
"""HU that grow along each axis, 0 in the middle of the cube, whose faces lie 10 mm from it."""


def test_on_each_side_the_hu_are_those_of_the_image_at_that_distance() -> None:
    found = surroundings(surfaces(RAMP, {"Liver": CUBE}, SPACING)["Liver"])
    assert len(found) == 24
    for side in range(6):
        slope = SLOPE_ZYX[side // 2] * (1.0 if side % 2 else -1.0)
        for distance, value in zip((-4.5, -1.5, 1.5, 4.5), found[4 * side : 4 * side + 4], strict=True):
            assert value == pytest.approx(slope * (10.0 + distance), abs=1.5 * max(SLOPE_ZYX))


def test_a_side_that_an_organ_does_not_have_is_told_by_none() -> None:
    whole = np.zeros(SHAPE, bool)
    whole[10:20] = True
    found = surroundings(surfaces(RAMP, {"Liver": whole}, SPACING)["Liver"])
    assert all(value is not None for value in found[:8]) and found[8:] == (None,) * 16


def test_the_usual_is_the_mean_of_patients_two_of_whom_know() -> None:
    usual = usual_surroundings([{"Liver": (1.0, 5.0, None)}, {"Liver": (3.0, None, None), "Spleen": (1.0,)}])
    assert usual == {"Liver": (2.0, None, None)}


def test_the_misfit_is_the_squared_departure_and_metal_counts_as_300_hu() -> None:
    flat = surfaces(np.full(SHAPE, 50.0), {"Liver": CUBE}, SPACING)["Liver"]
    assert misfit_hu2(flat, (40.0,) * 24) == pytest.approx(100.0, rel=1e-4)
    assert misfit_hu2(flat, (None,) * 23 + (40.0,)) == pytest.approx(100.0, rel=1e-4)
    assert misfit_hu2(flat, (None,) * 24) == 0.0
    metal = surfaces(np.full(SHAPE, 3000.0), {"Liver": CUBE}, SPACING)["Liver"]
    assert misfit_hu2(metal, (-300.0,) * 24) == pytest.approx(300.0**2)


def test_a_displacement_looks_at_the_image_where_the_organ_would_lie() -> None:
    ramp = surfaces(RAMP, {"Liver": CUBE}, SPACING)["Liver"]
    by = np.array([1.0, 0.0, -2.0])
    assert np.median(ramp.hu(by) - ramp.hu()) == pytest.approx(1.0 - 8.0, abs=0.01)


def test_an_image_of_one_slice_has_no_surfaces() -> None:
    mask = np.zeros((1, 40, 40), np.bool_)
    mask[0, 10:30, 10:30] = True
    assert surfaces(np.zeros(mask.shape, np.float32), {"Brain": mask}, (3.0, 2.0, 2.0)) == {}
