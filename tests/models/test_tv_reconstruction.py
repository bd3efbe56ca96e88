from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from models import fbp
from models.iterative import Iteration, Iterations, inverse_variances, ordered_subsets, view_subsets
from models.phantoms import head_and_neck_phantom
from models.scan_geometry import full_turn
from models.scan_projector import ScanProjector
from models.tv_reconstruction import tv_objective, tv_reconstructed
from tests.scans import WATER_PER_MM, fan_scan

SIDE_MM = 384.0
PHOTONS = 2e5
TENTH_OF_THE_VIEWS = 80
WEIGHT_MM = 1500.0


@cache
def projector(views: int = 40, pixels: int = 48) -> ScanProjector:
    return ScanProjector(fan_scan(pixels, full_turn(views), pixel_mm=SIDE_MM / pixels))


@cache
def body(slices: int = 1, pixels: int = 48) -> NDArray[np.float32]:
    """Attenuation of the head-and-neck phantom, 1/mm."""
    spacing = (40.0, SIDE_MM / pixels, SIDE_MM / pixels)
    hu = head_and_neck_phantom((slices, pixels, pixels), spacing, np.random.default_rng(5)).hu_zyx
    return np.asarray(np.maximum(WATER_PER_MM * (1.0 + hu / 1000.0), 0.0), np.float32)


def scan(slices: int = 1, measured_by: ScanProjector | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Noisy line integrals and 1 / variance."""
    measuring = measured_by or projector()
    expected = PHOTONS * np.exp(-measuring.forward(body(slices, measuring.geometry.grid.rows)).astype(float))
    counted = np.maximum(np.random.default_rng(2).poisson(expected), 1)
    rays = np.asarray(-np.log(counted / PHOTONS), np.float32)
    return rays, inverse_variances(rays, PHOTONS)


def rmse_hu(image: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    return float(1000.0 / WATER_PER_MM * np.sqrt(np.mean((image - truth) ** 2)))


def test_at_a_tenth_of_the_views_it_beats_filtered_backprojection_and_sirt() -> None:
    few, truth = projector(TENTH_OF_THE_VIEWS, 96), body(pixels=96)
    rays, weights = scan(measured_by=few)
    subsets = view_subsets(few, 8)
    others = [
        fbp.reconstructed(rays, few.geometry),
        fbp.reconstructed(rays, few.geometry, hann=True),
        ordered_subsets(subsets, rays, Iterations(20)),
        ordered_subsets(subsets, rays, Iterations(25, until_chi_squared=1.0), weights),
    ]
    best_hu = min(rmse_hu(image, truth) for image in others)
    assert rmse_hu(tv_reconstructed(few, rays, weights, WEIGHT_MM), truth) < 0.7 * best_hu


def test_it_comes_near_the_minimum_within_150_iterations() -> None:
    rays, weights = scan()
    quick = tv_reconstructed(projector(), rays, weights, WEIGHT_MM)
    minimum = tv_reconstructed(projector(), rays, weights, WEIGHT_MM, Iterations(800), start=quick)
    values = [float(tv_objective(projector(), image, rays, weights, WEIGHT_MM)[0]) for image in (quick, minimum)]
    assert values[1] < values[0] < 1.01 * values[1]


def test_the_minimum_is_the_same_from_any_start() -> None:
    small = projector(20, 24)
    truth = np.zeros((1, 24, 24), np.float32)
    truth[:, 6:18, 8:15] = WATER_PER_MM
    rays = small.forward(truth)
    weights = inverse_variances(rays, 1e4)
    settings = Iterations(800)
    found = [
        tv_reconstructed(small, rays, weights, 500.0, settings, start=np.full((1, 24, 24), start, np.float32))
        for start in (0.0, 0.05)
    ]
    assert rmse_hu(found[0], found[1]) < 1.0


def test_at_the_minimum_the_misfit_pulls_as_much_as_total_variation() -> None:
    rays, weights = scan()
    image = tv_reconstructed(projector(), rays, weights, WEIGHT_MM, Iterations(500))
    # d/ds of the objective at s x is 0 for s = 1, and total variation grows with s.
    again = projector().forward(image)
    pull = float(np.vdot(again.astype(float), weights * (rays - again)))
    length = float(tv_objective(projector(), image, again, weights, WEIGHT_MM)[0])
    assert pull == pytest.approx(length, rel=0.01)


def test_a_disturbance_of_the_minimum_is_worse() -> None:
    rays, weights = scan()
    image = tv_reconstructed(projector(), rays, weights, WEIGHT_MM, Iterations(400))
    least = tv_objective(projector(), image, rays, weights, WEIGHT_MM)
    rng = np.random.default_rng(0)
    for sd in (1e-4, 1e-3):
        disturbed = np.maximum(image + rng.normal(0.0, sd, image.shape).astype(np.float32), 0.0)
        assert tv_objective(projector(), disturbed, rays, weights, WEIGHT_MM) > least


def test_a_heavy_weight_makes_a_flat_image() -> None:
    rays, weights = scan()
    rough, flat = (tv_reconstructed(projector(), rays, weights, weight, Iterations(60)) for weight in (10.0, 1e9))
    assert np.ptp(flat) < 0.2 * np.ptp(rough)


def test_iteration_ends_for_each_slice_at_its_noise_level() -> None:
    rays, weights = (array.copy() for array in scan(2))
    rays[1] = 0.0
    seen: list[NDArray[np.float64]] = []
    settings = Iterations(100, until_chi_squared=2.0)

    def watch(iteration: Iteration) -> None:
        seen.append(iteration.chi_squared.copy())

    image = tv_reconstructed(projector(), rays, weights, WEIGHT_MM, settings, watcher=watch)
    assert 1 < len(seen) < 100
    assert seen[-1][0] <= 2.0 < seen[-2][0]
    assert not image[1].any()


def test_slices_do_not_influence_each_other() -> None:
    rays, weights = scan(2)
    together = tv_reconstructed(projector(), rays, weights, WEIGHT_MM, Iterations(5))
    alone = tv_reconstructed(projector(), rays[1:], weights[1:], WEIGHT_MM, Iterations(5))
    np.testing.assert_allclose(together[1:], alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("non_negative", [True, False])
def test_no_value_is_negative_unless_allowed(non_negative: bool) -> None:
    image = tv_reconstructed(projector(), *scan(), 10.0, Iterations(10, non_negative))
    assert (image.min() >= 0.0) == non_negative


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="has to be above 0"):
        tv_reconstructed(projector(), *scan(), 0.0)
