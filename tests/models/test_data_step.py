import numpy as np
import pytest

from models.data_step import MeasuredRays, nearest_to_data
from models.iterative import Images
from models.scan_geometry import ScanGeometry
from models.scan_projector import ScanProjector
from tests.scans import WATER_PER_MM, cylinder, parallel_scan

SCAN = parallel_scan(pixels=24, views=36, pixel_mm=6.0)


def measured(image: Images, geometry: ScanGeometry = SCAN, sd: float = 0.01) -> MeasuredRays:
    projector = ScanProjector(geometry)
    rays = projector.forward(image)
    return MeasuredRays(projector, rays, np.full_like(rays, 1.0 / sd**2))


def water(slices: int = 1) -> Images:
    return np.repeat(WATER_PER_MM * cylinder(SCAN)[None], slices, axis=0)


def test_a_free_guess_goes_to_the_data() -> None:
    truth = water()
    found = nearest_to_data(measured(truth), np.zeros_like(truth), guess_sd_per_mm=1.0, iterations=400)
    assert np.abs(found - truth).max() < 0.05 * WATER_PER_MM


def test_a_sure_guess_stays() -> None:
    guess = np.full_like(water(), 0.5 * WATER_PER_MM)
    found = nearest_to_data(measured(water()), guess, guess_sd_per_mm=1e-9, iterations=50)
    np.testing.assert_allclose(found, guess, atol=1e-3 * WATER_PER_MM)


def test_between_the_two_it_is_the_minimiser() -> None:
    """Where the image is above 0, the slope of the objective is 0."""
    sd_per_mm = 0.2 * WATER_PER_MM
    rays = measured(water() + np.float32(WATER_PER_MM), sd=0.1)
    guess = np.full_like(water(), WATER_PER_MM)
    found = nearest_to_data(rays, guess, sd_per_mm, iterations=500)
    misfit = rays.inverse_variance * (rays.projector.forward(found) - rays.line_integrals)
    slope = rays.projector.adjoint(misfit) + (found - guess) / sd_per_mm**2
    scale = np.abs(rays.projector.adjoint(rays.inverse_variance * rays.line_integrals)).max()
    assert found.min() > 0.0 and np.abs(slope).max() < 1e-4 * scale


def test_nothing_attenuates_less_than_nothing() -> None:
    noisy = measured(water())
    rays = MeasuredRays(noisy.projector, noisy.line_integrals - np.float32(0.3), noisy.inverse_variance)
    assert nearest_to_data(rays, np.zeros_like(water()), 1.0, iterations=30).min() == 0.0


def test_slices_do_not_know_of_each_other() -> None:
    truth = water(2) * np.array([1.0, 0.5], np.float32)[:, None, None]
    both = measured(truth)
    together = nearest_to_data(both, np.zeros_like(truth), 1.0, iterations=20)
    alone = nearest_to_data(both.of(slice(1, 2)), np.zeros_like(truth[1:]), 1.0, iterations=20)
    np.testing.assert_allclose(together[1:], alone, atol=1e-4 * WATER_PER_MM)
    np.testing.assert_array_equal(both.repeated(2).line_integrals[[0, 2]], both.line_integrals)


def test_chi_squared_of_pure_noise_is_one_and_rays_left_out_do_not_count() -> None:
    clean = measured(water())
    noise = np.random.default_rng(0).normal(0.0, 0.01, clean.line_integrals.shape).astype(np.float32)
    weights = clean.inverse_variance.copy()
    weights[:, ::2] = 0.0
    noise[:, ::2] = 1.0
    rays = MeasuredRays(clean.projector, clean.line_integrals + noise, weights)
    assert rays.chi_squared(water())[0] == pytest.approx(1.0, abs=0.15)
