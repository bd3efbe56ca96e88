from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fbp import reconstructed
from models.intensity import AIR_HU
from models.scan_geometry import ScanGeometry, full_turn
from models.scan_simulation import Exposure, attenuation_per_mm, hu_of, simulated_scan
from tests.scans import FAN_FLAT, RADIUS_MM, WATER_PER_MM, chords_mm, cylinder, distance_mm, fan_scan, parallel_scan

SILENT = Exposure(photons=np.inf, water_per_mm=WATER_PER_MM)
SCANS = {
    "parallel": parallel_scan(views=30),
    "arc, quarter offset": fan_scan(angles_rad=full_turn(30), central_element=80.75),
    "flat": fan_scan(angles_rad=full_turn(30), fan=FAN_FLAT),
}
SMALL = parallel_scan(pixels=32, views=6, pixel_mm=6.0)


def water(geometry: ScanGeometry, slices: int = 1) -> NDArray[np.float32]:
    """Cylinders of water in air, HU."""
    return np.repeat(AIR_HU * (1.0 - cylinder(geometry))[None], slices, axis=0).astype(np.float32)


@pytest.mark.parametrize("geometry", SCANS.values(), ids=SCANS.keys())
def test_line_integrals_of_water_are_its_chords(geometry: ScanGeometry) -> None:
    scan = simulated_scan(water(geometry), geometry, SILENT)
    chord_mm = chords_mm(geometry)
    error_mm = np.abs(scan.line_integrals[0] / WATER_PER_MM - chord_mm)
    assert error_mm[chord_mm > 0.9 * RADIUS_MM].max() < 1.2
    assert error_mm.mean() < 0.2
    # Past the whole rim there is nothing.
    assert scan.line_integrals[0][:, :5].max() == 0.0


def test_each_element_is_as_wide_as_its_pitch() -> None:
    wide = replace(parallel_scan(views=1), detectors=9, detector_mm=30.0)
    scan = simulated_scan(water(wide), wide, SILENT)
    # Transmission, not attenuation, is what an element averages over its width, here over three rays.
    rays = chords_mm(replace(wide, detectors=27, detector_mm=10.0)).reshape(9, 3)
    expected = -np.log(np.exp(-rays * WATER_PER_MM).mean(axis=1))
    assert scan.line_integrals[0, 0] == pytest.approx(expected, abs=0.06)
    assert not chords_mm(wide)[0] * WATER_PER_MM == pytest.approx(expected, abs=0.06)


def test_a_scan_without_noise_reconstructs_to_the_slice() -> None:
    geometry = parallel_scan()
    scan = simulated_scan(water(geometry), geometry, SILENT)
    hu = hu_of(reconstructed(scan.line_integrals, geometry), WATER_PER_MM)[0]
    assert hu[distance_mm(geometry) < RADIUS_MM - 6.0].mean() == pytest.approx(0.0, abs=4.0)
    assert hu[(distance_mm(geometry) > RADIUS_MM + 6.0) & (distance_mm(geometry) < 70.0)].mean() < -950.0


def test_noise_varies_by_the_variance_that_is_stated() -> None:
    repeats = 1500
    exposure = Exposure(photons=2e3, electronic_sd=10.0, water_per_mm=WATER_PER_MM)
    still = simulated_scan(water(SMALL), SMALL, SILENT).line_integrals[0]
    scan = simulated_scan(water(SMALL, repeats), SMALL, exposure)
    stated = 1.0 / scan.inverse_variance.astype(np.float64).mean(axis=0)
    # The variance of one ray is known to sqrt(2 / repeats), 3.7 %; there are some 300 rays.
    ratio = scan.line_integrals.var(axis=0, ddof=1) / stated
    assert np.abs(ratio - 1.0).max() < 5.0 * np.sqrt(2.0 / repeats)
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)
    assert (scan.line_integrals.mean(axis=0) - still)[still > 1.0].mean() == pytest.approx(0.0, abs=0.01)


def test_more_water_and_fewer_photons_make_more_noise() -> None:
    geometry = SMALL
    much, little = (
        simulated_scan(water(geometry), geometry, Exposure(photons, water_per_mm=WATER_PER_MM))
        for photons in (1e6, 1e3)
    )
    assert (little.inverse_variance < much.inverse_variance).all()
    chord_mm = chords_mm(geometry)
    assert much.inverse_variance[0][chord_mm > 100.0].max() < much.inverse_variance[0][chord_mm == 0.0].min()


def test_the_noise_of_a_slice_is_its_own_whatever_is_measured_with_it() -> None:
    together = simulated_scan(water(SMALL, 3), SMALL, Exposure(), seed=7)
    alone = simulated_scan(water(SMALL), SMALL, Exposure(), seed=7, first_slice=2)
    np.testing.assert_array_equal(together.line_integrals[2], alone.line_integrals[0])
    np.testing.assert_array_equal(together.inverse_variance[2], alone.inverse_variance[0])
    assert not np.array_equal(together.line_integrals[1], together.line_integrals[2])


def test_another_seed_is_other_noise() -> None:
    one, other = (simulated_scan(water(SMALL), SMALL, Exposure(), seed).line_integrals for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_infinitely_many_photons_make_no_noise() -> None:
    one, other = (simulated_scan(water(SMALL), SMALL, SILENT, seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.line_integrals, other.line_integrals)
    assert (one.inverse_variance == 1.0).all()


def test_an_element_without_a_photon_still_has_a_number() -> None:
    scan = simulated_scan(water(SMALL) + 30000.0, SMALL, Exposure(photons=100.0))
    assert np.isfinite(scan.line_integrals).all()
    assert scan.line_integrals.max() == pytest.approx(np.log(100.0 / 0.5))


def test_hu_are_attenuation_on_another_scale() -> None:
    hu = np.array([-1000.0, 0.0, 1000.0])
    attenuation = attenuation_per_mm(hu, WATER_PER_MM)
    assert attenuation == pytest.approx([0.0, 0.02, 0.04])
    assert hu_of(attenuation, WATER_PER_MM) == pytest.approx(hu, abs=1e-3)
    assert attenuation_per_mm(np.array([-3000.0]), WATER_PER_MM) == 0.0


@pytest.mark.parametrize("shape", [(32, 32), (1, 32, 31), (1, 1, 32, 32)])
def test_slices_of_another_grid_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"is not \(slices, 32 rows, 32 columns\)"):
        simulated_scan(np.zeros(shape, np.float32), SMALL, SILENT)
