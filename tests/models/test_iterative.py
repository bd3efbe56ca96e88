from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from models.iterative import (
    Iteration,
    Iterations,
    Subset,
    estimated_photons,
    inverse_variances,
    ordered_subsets,
    sirt,
    view_subsets,
)
from models.phantoms import head_and_neck_phantom
from models.scan_geometry import full_turn
from models.scan_projector import ScanProjector
from tests.scans import WATER_PER_MM, chords_mm, fan_scan, parallel_scan

PIXELS, PIXEL_MM = 64, 6.0
PHOTONS = 1e5


@cache
def projector(views: int = 120) -> ScanProjector:
    return ScanProjector(fan_scan(PIXELS, full_turn(views), pixel_mm=PIXEL_MM))


@cache
def phantom(slices: int = 1) -> NDArray[np.float32]:
    """Attenuation of the head-and-neck phantom, 1/mm."""
    shape, spacing = (slices, PIXELS, PIXELS), (40.0, PIXEL_MM, PIXEL_MM)
    hu = head_and_neck_phantom(shape, spacing, np.random.default_rng(5)).hu_zyx
    return np.asarray(np.maximum(WATER_PER_MM * (1.0 + hu / 1000.0), 0.0), np.float32)


def rmse_hu(image: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    return float(1000.0 / WATER_PER_MM * np.sqrt(np.mean((image - truth) ** 2)))


def noisy(rays: NDArray[np.float32], photons: float = PHOTONS) -> NDArray[np.float32]:
    counted = np.maximum(np.random.default_rng(2).poisson(photons * np.exp(-rays.astype(float))), 1)
    return np.asarray(-np.log(counted / photons), np.float32)


def misfit(image: NDArray[np.float32], rays: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
    return float((weights * (projector().forward(image) - rays).astype(float) ** 2).sum())


@pytest.mark.parametrize("subsets, iterations, limit_hu", [(1, 150, 30.0), (10, 40, 17.0), (10, 200, 10.0)])
def test_all_views_without_noise_give_the_phantom(subsets: int, iterations: int, limit_hu: float) -> None:
    rays = projector().forward(phantom())
    image = ordered_subsets(view_subsets(projector(), subsets), rays, Iterations(iterations))
    assert rmse_hu(image, phantom()) < limit_hu


def test_sirt_is_one_subset_of_all_views() -> None:
    rays = projector().forward(phantom())
    np.testing.assert_array_equal(
        sirt(projector(), rays, Iterations(3)), ordered_subsets(view_subsets(projector(), 1), rays, Iterations(3))
    )


def test_one_step_of_sirt_is_the_formula() -> None:
    rays = projector().forward(phantom())
    matrix_rows = projector().forward(np.ones((1, PIXELS, PIXELS), np.float32))
    matrix_columns = projector().adjoint(np.ones_like(rays))
    scaled = np.divide(rays, matrix_rows, out=np.zeros_like(rays), where=matrix_rows > 1e-3)
    expected = projector().adjoint(scaled) / matrix_columns
    np.testing.assert_allclose(sirt(projector(), rays, Iterations(1)), expected, rtol=1e-3, atol=1e-7)


def test_weighted_least_squares_fall_with_every_iteration_and_lie_below_sirt() -> None:
    rays = noisy(projector().forward(phantom()))
    weights = inverse_variances(rays, PHOTONS)
    misfits: list[float] = []
    sirt(
        projector(),
        rays,
        Iterations(40),
        weights,
        watcher=lambda iteration: misfits.append(misfit(iteration.images, rays, weights)),
    )
    assert np.all(np.diff(misfits) < 0.0)
    assert misfits[-1] < misfit(sirt(projector(), rays, Iterations(40)), rays, weights)


def test_photons_set_the_variance_of_a_line_integral() -> None:
    line_integrals = np.linspace(0.0, 5.0, 6)
    counted = np.random.default_rng(0).poisson(PHOTONS * np.exp(-line_integrals), (4000, 6))
    readout = np.random.default_rng(1).normal(0.0, 30.0, counted.shape)
    variance = np.var(-np.log((counted + readout) / PHOTONS), axis=0)
    np.testing.assert_allclose(1.0 / inverse_variances(line_integrals, PHOTONS, 30.0), variance, rtol=0.1)


def test_iteration_ends_for_each_slice_at_its_noise_level() -> None:
    rays = noisy(projector().forward(phantom(3)))
    rays[2] *= 0.0
    weights = inverse_variances(rays, PHOTONS)
    seen: list[NDArray[np.float64]] = []
    settings = Iterations(200, until_chi_squared=1.5)
    subsets = view_subsets(projector(), 10)
    image = ordered_subsets(subsets, rays, settings, weights, watcher=lambda now: seen.append(now.chi_squared.copy()))
    assert len(seen) < 200
    assert seen[-1].max() <= 1.5 < seen[-2].max()
    # Nothing to explain: the slice of air was left after the first iteration.
    assert seen[0][2] == 0.0
    assert not image[2].any()
    assert rmse_hu(image[:2], phantom(3)[:2]) < rmse_hu(
        ordered_subsets(subsets, rays, Iterations(1))[:2], phantom(3)[:2]
    )


def test_a_stop_at_the_noise_level_beats_no_stop() -> None:
    expected = projector().forward(phantom())
    rays, weights = noisy(expected, photons=300.0), inverse_variances(expected, 300.0)
    stopped, unstopped = (
        ordered_subsets(view_subsets(projector(), 10), rays, Iterations(60, until_chi_squared=limit), weights)
        for limit in (1.05, None)
    )
    assert rmse_hu(stopped, phantom()) < 0.9 * rmse_hu(unstopped, phantom())


def test_slices_do_not_influence_each_other() -> None:
    rays = projector().forward(phantom(3))
    together = sirt(projector(), rays, Iterations(5))
    alone = sirt(projector(), rays[1:2], Iterations(5))
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("non_negative", [True, False])
def test_no_value_is_negative_unless_allowed(non_negative: bool) -> None:
    rays = projector(10).forward(phantom())
    assert (sirt(projector(10), rays, Iterations(20, non_negative)).min() >= 0.0) == non_negative


def test_the_watcher_sees_every_iteration_and_a_start_is_gone_on_from() -> None:
    rays = projector().forward(phantom())
    seen: list[tuple[int, float]] = []

    def watch(iteration: Iteration) -> None:
        seen.append((iteration.number, rmse_hu(iteration.images, phantom())))

    half = sirt(projector(), rays, Iterations(4), watcher=watch)
    whole = sirt(projector(), rays, Iterations(4), start=half)
    assert [number for number, _ in seen] == [1, 2, 3, 4]
    assert seen[-1][1] == pytest.approx(rmse_hu(half, phantom()))
    np.testing.assert_allclose(whole, sirt(projector(), rays, Iterations(8)), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("subsets", [1, 7, 120])
def test_subsets_share_all_views_among_them(subsets: int) -> None:
    parts: Sequence[Subset] = view_subsets(projector(), subsets)
    assert sorted(np.concatenate([part.views for part in parts]).tolist()) == list(range(120))
    assert len(parts) == subsets


def test_what_cannot_be_reconstructed_is_refused() -> None:
    rays = projector().forward(phantom())
    with pytest.raises(ValueError, match="120 views make no 121 subsets"):
        view_subsets(projector(), 121)
    with pytest.raises(ValueError, match=r"is not \(slices, 120 views, 108 detectors\)"):
        sirt(projector(), rays[0])
    with pytest.raises(ValueError, match="the variances have to be known"):
        sirt(projector(), rays, Iterations(until_chi_squared=1.0))
    with pytest.raises(ValueError, match="have to be numbers"):
        sirt(projector(), rays * np.float32(np.nan))


@pytest.mark.parametrize("photons", [1e3, 1e4])
def test_photons_are_estimated_from_the_noise_of_a_cylinder(photons: float) -> None:
    geometry = parallel_scan(views=20)
    rays = noisy(np.asarray(chords_mm(geometry) * WATER_PER_MM, np.float32), photons)
    assert estimated_photons(rays) == pytest.approx(photons, rel=0.2)


def test_the_less_noise_the_more_edges_make_the_estimate_too_small() -> None:
    exact = np.asarray(chords_mm(parallel_scan(views=20)) * WATER_PER_MM, np.float32)
    shares = [estimated_photons(noisy(exact, photons)) / photons for photons in (1e4, 1e5, 1e6)]
    assert shares == sorted(shares, reverse=True) and 0.7 < shares[1] < 1.0


@pytest.mark.parametrize(
    ("rays", "sentence"),
    [(np.zeros((1, 4, 9)), "the scan has no noise"), (np.ones((1, 4, 2)), "fewer than three elements")],
)
def test_without_noise_or_elements_nothing_is_estimated(rays: NDArray[np.float64], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        estimated_photons(rays)


def test_a_ray_without_photons_has_no_weight() -> None:
    weights = inverse_variances(np.zeros((1, 1, 3)), np.array([0.0, 4.0, 100.0]))
    np.testing.assert_array_equal(weights, [[[0.0, 4.0, 100.0]]])
    with_readout = inverse_variances(np.zeros((1, 1, 2)), np.array([0.0, 4.0]), electronic_sd=2.0)
    np.testing.assert_array_equal(with_readout, [[[0.0, 2.0]]])
