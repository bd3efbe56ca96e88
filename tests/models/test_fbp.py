from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fbp import ray_weights, reconstructed
from models.scan_geometry import ImageGrid, ScanGeometry, full_turn
from tests.scans import (
    CENTRE_MM,
    FAN_FLAT,
    RADIUS_MM,
    WATER_PER_MM,
    arc_of,
    chords_mm,
    distance_mm,
    fan_scan,
    parallel_scan,
)

UNSORTED = tuple(np.random.default_rng(1).permutation(full_turn(240)).tolist())
SCANS = {
    "parallel": parallel_scan(),
    "parallel, full turn": replace(parallel_scan(), angles_rad=full_turn(300), central_element=71.75),
    "arc": fan_scan(),
    "arc, quarter offset": fan_scan(central_element=81.0),
    "arc, unsorted": fan_scan(angles_rad=UNSORTED),
    "arc, twice round": fan_scan(angles_rad=full_turn(240) + full_turn(240)),
    "arc, one view lost": fan_scan(angles_rad=full_turn(240)[1:]),
    "flat": fan_scan(fan=FAN_FLAT, central_element=80.2),
    "arc, short scan": fan_scan(angles_rad=arc_of(180, 240.0)),
    "flat, short scan": fan_scan(angles_rad=arc_of(170, 222.0, -75.0), fan=FAN_FLAT, central_element=83.0),
    "image off centre": replace(fan_scan(), grid=ImageGrid(80, 90, 2.0, (8.0, -12.0))),
}
scans = pytest.mark.parametrize("geometry", SCANS.values(), ids=SCANS.keys())


def water(geometry: ScanGeometry, hann: bool = False) -> NDArray[np.float64]:
    """Reconstructed cylinder of water in air, HU."""
    image = reconstructed(WATER_PER_MM * chords_mm(geometry), geometry, hann)
    return np.asarray(1000.0 * (image / WATER_PER_MM - 1.0))


@scans
@pytest.mark.parametrize("hann", [False, True])
def test_water_is_0_hu_everywhere_in_the_cylinder_and_air_minus_1000(geometry: ScanGeometry, hann: bool) -> None:
    hu, distance = water(geometry, hann), distance_mm(geometry)
    inside, outside = hu[distance < RADIUS_MM - 10.0], hu[distance > RADIUS_MM + 8.0]
    assert np.abs(inside).max() < 5.0
    assert inside.mean() == pytest.approx(0.0, abs=0.5)
    assert outside.mean() == pytest.approx(-1000.0, abs=2.0)


@scans
def test_the_cylinder_lies_where_it_is_to_a_twentieth_of_a_pixel(geometry: ScanGeometry) -> None:
    density = np.where(distance_mm(geometry) < RADIUS_MM + 6.0, water(geometry) + 1000.0, 0.0)
    y = np.average(geometry.grid.row_positions_mm(), weights=density.sum(axis=1))
    x = np.average(geometry.grid.column_positions_mm(), weights=density.sum(axis=0))
    assert (y, x) == pytest.approx(CENTRE_MM, abs=0.05 * geometry.grid.pixel_mm)


def test_a_short_scan_without_weights_for_what_is_seen_twice_would_be_wrong() -> None:
    geometry = fan_scan(angles_rad=arc_of(180, 240.0))
    weights = ray_weights(geometry)
    step_rad = np.deg2rad(240.0 / 180)
    assert weights.max() == pytest.approx(step_rad, rel=1e-6)
    # Every line once: half a turn for each ray, over all views that see it.
    assert weights[:, 81].sum() == pytest.approx(np.pi, rel=0.01)
    assert weights.min() < 0.01 * step_rad


def test_opposite_rays_of_a_short_scan_weigh_one_together() -> None:
    geometry = fan_scan(angles_rad=arc_of(240, 240.0))
    relative = ray_weights(geometry) / np.deg2rad(1.0)
    fan_deg = np.rad2deg(geometry.fan_angles_rad())
    element = int(np.abs(fan_deg - 5.0).argmin())
    mirrored = geometry.detectors - 1 - element
    opposite = 180.0 - 2.0 * fan_deg[element]
    later = np.interp(np.arange(0, 40) + opposite, np.arange(240), relative[:, mirrored])
    np.testing.assert_allclose(relative[:40, element] + later, 1.0, atol=2e-3)


def test_slices_are_the_same_together_and_alone() -> None:
    geometry = fan_scan(angles_rad=full_turn(30))
    rays = np.stack([chords_mm(geometry), 2.0 * chords_mm(geometry)])
    together = reconstructed(rays, geometry)
    assert together.shape == (2, 96, 96)
    np.testing.assert_allclose(together[1], reconstructed(rays[1], geometry), rtol=1e-5, atol=1e-6)


def test_less_than_half_a_turn_is_refused() -> None:
    geometry = fan_scan(angles_rad=arc_of(60, 120.0))
    with pytest.raises(ValueError, match="cover 120 degrees, less than half a turn"):
        reconstructed(chords_mm(geometry), geometry)
