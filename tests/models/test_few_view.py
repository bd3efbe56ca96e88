from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.data_step import MeasuredRays
from models.diffusion import Architecture, DenoisingNetwork, DiffusionPrior, NoiseSchedule
from models.early_stopping import StopRules
from models.few_view import FewViewSettings, reconstructed, residuals_by_view
from models.scan_projector import ScanProjector
from models.scan_simulation import Exposure, hu_of, simulated_scan
from models.weights import Card, TrainingDomain
from tests.scans import cylinder, fan_scan

SCAN = fan_scan(pixels=32, angles_rad=tuple(np.arange(24) * 2 * np.pi / 24), pixel_mm=6.0)
EXPOSURE = Exposure(photons=1e4)
WATER_PER_MM = EXPOSURE.water_per_mm
SETTINGS = FewViewSettings(seeds=2, iterations=20, tv_iterations=20)
PHANTOM_HU = (np.stack([1.0 * cylinder(SCAN), 1.2 * cylinder(SCAN)]) * 1000.0 - 1000.0).astype(np.float32)


def card() -> Card:
    domain = TrainingDomain(
        modality="made up",
        pixel_spacing_mm=(1.0, 8.0),
        slice_spacing_mm=(1.0, 8.0),
        body_mean_hu=0.0,
        body_mean_sd_hu=50.0,
        patients=1,
        slices=1,
    )
    return Card(
        name="untrained",
        sha256="0" * 64,
        method="diffusion",
        architecture={},
        window_hu=(-1000.0, 2000.0),
        training_domain=domain,
    )


def prior(knows: float = 0.0) -> DiffusionPrior:
    """An untrained network predicts no noise, so f is the identity; or one that knows this part of the truth."""
    network = _Knowing(knows) if knows else DenoisingNetwork(Architecture(channels=8, levels=1, blocks=1)).eval()
    return DiffusionPrior(card(), network.requires_grad_(False), NoiseSchedule(1000))  # type: ignore[arg-type]


class _Knowing(torch.nn.Module):
    """Goes a part of the way from any image to the first slice of the phantom."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self._part, self._schedule = part, NoiseSchedule(1000)
        self._truth = torch.from_numpy((PHANTOM_HU[:1] - 500.0) / 1500.0)

    def forward(self, x_t: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        time = int(times[0])
        away = x_t - self._schedule.signal(time) * self._truth
        return self._part * away / self._schedule.noise(time)


def measured(photons: float = EXPOSURE.photons, slices: int = 2) -> MeasuredRays:
    scan = simulated_scan(PHANTOM_HU[:slices], SCAN, replace(EXPOSURE, photons=photons))
    return MeasuredRays(ScanProjector(SCAN), scan.line_integrals, scan.inverse_variance)


def error_hu(images: NDArray[np.float32]) -> float:
    inside = PHANTOM_HU[: len(images)] > -300.0
    return float(np.sqrt(np.mean((hu_of(images, WATER_PER_MM) - PHANTOM_HU[: len(images)])[inside] ** 2)))


def test_the_misfit_ends_at_the_noise_and_each_slice_by_itself() -> None:
    rays = measured()
    result = reconstructed(rays, prior(), WATER_PER_MM, SETTINGS)
    assert set(result.reasons) == {"noise level"}
    assert rays.chi_squared(result.images).max() < 1.7
    alone = reconstructed(rays.of(slice(1, 2)), prior(), WATER_PER_MM, SETTINGS, first_slice=1)
    np.testing.assert_allclose(result.images[1], alone.images[0], atol=0.003 * WATER_PER_MM)


def test_a_prior_that_knows_better_makes_the_image_better() -> None:
    rays = measured(slices=1)
    without, half = (error_hu(reconstructed(rays, prior(knows), WATER_PER_MM, SETTINGS).images) for knows in (0.0, 0.5))
    assert half < 0.7 * without


@pytest.mark.parametrize("steps", [1, 3])
def test_the_same_seeds_make_the_same_image_and_others_another(steps: int) -> None:
    rays, settings = measured(slices=1), replace(SETTINGS, steps=steps, iterations=3)
    first, again, other = (
        reconstructed(rays, prior(knows=0.5), WATER_PER_MM, replace(settings, first_seed=seed)).images
        for seed in (0, 0, 5)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_spread_grows_with_the_noise_that_is_drawn_and_one_seed_has_none() -> None:
    rays = measured(slices=1)
    spreads = [
        float(reconstructed(rays, prior(), WATER_PER_MM, settings).spread.mean())
        for settings in (
            replace(SETTINGS, seeds=1),
            replace(SETTINGS, iterations=1, noise=0.1),
            replace(SETTINGS, iterations=1, noise=0.4),
        )
    ]
    assert spreads[0] == 0.0
    assert all(smaller < larger for smaller, larger in pairwise(spreads))


def test_where_the_noise_is_not_known_iterates_that_move_ever_more_stop() -> None:
    """A prior that drives images away from the truth makes each step larger than the last."""
    rules = StopRules(noise_level=None, window=2, patience=2)
    settings = replace(SETTINGS, stop=rules)
    result = reconstructed(measured(slices=1), prior(knows=-1.5), WATER_PER_MM, settings)
    assert result.reasons == ("variance",)
    assert result.iterations[0] < SETTINGS.iterations


@pytest.mark.parametrize(
    ("views", "steps", "depth"), [(160, 1, 10), (80, 1, 20), (40, 1, 40), (10, 1, 60), (800, 15, 15)]
)
def test_the_fewer_views_the_deeper_the_chain(views: int, steps: int, depth: int) -> None:
    assert FewViewSettings(steps=steps).depth_for(views) == depth
    assert FewViewSettings(depth=7).depth_for(views) == 7


def test_progress_counts_slices() -> None:
    seen: list[float] = []
    settings = replace(SETTINGS, iterations=1, batch=2)
    reconstructed(measured(), prior(), WATER_PER_MM, settings, lambda done, what: seen.append(done))
    assert seen == [0.5, 1.0]


def test_a_view_that_is_wrong_stands_out() -> None:
    rays = measured(slices=1)
    wrong = rays.line_integrals.copy()
    wrong[0, 7] += 0.2
    images = reconstructed(rays, prior(), WATER_PER_MM, SETTINGS).images
    residuals = residuals_by_view(MeasuredRays(rays.projector, wrong, rays.inverse_variance), images)
    assert residuals.shape == (1, 24)
    assert int(residuals[0].argmax()) == 7 and residuals[0, 7] > 3.0 * np.median(residuals)
