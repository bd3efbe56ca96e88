from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from models.denoising import HuCurve, bilateral, non_local_means, total_variation
from models.intensity import Hu

Denoiser: TypeAlias = Callable[[NDArray[Any]], Hu]

FILTERS: dict[str, Denoiser] = {
    "bilateral": lambda hu: bilateral(hu, 2.0, 6.0, 120.0),
    "non-local means": lambda hu: non_local_means(hu, 40.0),
    "total variation": lambda hu: total_variation(hu, 25.0),
}
each_filter = pytest.mark.parametrize("denoised", FILTERS.values(), ids=FILTERS)


def step(noise_sd: float = 0.0) -> Hu:
    """Fat on the left, bone on the right."""
    hu = np.full((2, 48, 48), -100.0)
    hu[:, :, 24:] = 700.0
    return (hu + np.random.default_rng(0).normal(0.0, noise_sd, hu.shape)).astype(np.float32)


@each_filter
def test_a_flat_image_stays(denoised: Denoiser) -> None:
    flat = np.full((2, 16, 20), 42.0, np.float32)
    assert denoised(flat) == pytest.approx(flat, abs=1e-3)


@each_filter
def test_noise_falls_and_the_edge_stays(denoised: Denoiser) -> None:
    result = denoised(step(20.0))
    assert result.dtype == np.float32 and result.shape == (2, 48, 48)
    left, right = result[:, 4:-4, 4:20], result[:, 4:-4, 28:44]
    assert max(left.std(), right.std()) < 0.5 * 20.0
    assert [left.mean(), right.mean()] == pytest.approx([-100.0, 700.0], abs=5.0)
    across = result.mean(axis=(0, 1))
    assert across[24] - across[23] > 700.0


@each_filter
def test_slices_do_not_mix(denoised: Denoiser) -> None:
    hu = step(20.0)
    both = denoised(hu)
    assert denoised(hu[:1]) == pytest.approx(both[:1], abs=1e-3)


@pytest.mark.parametrize("radius", [12.0, 24.0])
def test_total_variation_has_the_closed_form_of_a_disc(radius: float) -> None:
    """A disc loses 2 weight / r of its height: Strong and Chan, Inverse Probl 2003, doi 10.1088/0266-5611/19/6/059."""
    row, column = np.indices((96, 96)) - 47.5
    disc = (np.hypot(row, column) < radius).astype(np.float32)[None] * 300.0
    middle = total_variation(disc, 60.0)[0, 44:52, 44:52].mean()
    assert 300.0 - middle == pytest.approx(2.0 * 60.0 / radius, rel=0.1)


def test_total_variation_keeps_the_mean() -> None:
    hu = step(30.0)
    assert total_variation(hu, 40.0).mean() == pytest.approx(hu.mean(), abs=0.05)


def test_non_local_means_of_great_strength_is_the_mean_in_reach() -> None:
    hu = np.random.default_rng(1).normal(0.0, 50.0, (1, 21, 21)).astype(np.float32)
    result = non_local_means(hu, 1e6, reach_pixels=2)
    assert result[0, 10, 10] == pytest.approx(hu[0, 8:13, 8:13].mean(), abs=1e-2)


def test_the_curve_finds_the_hu_of_the_other_scale() -> None:
    truth = np.random.default_rng(0).uniform(-900.0, 1200.0, 50_000)
    image = np.interp(truth, [-1000.0, 0.0, 1500.0], [-1000.0, 0.0, 600.0])
    curve = HuCurve.fitted(image, truth)
    # Between its points the curve is straight, and the kink lies between two points.
    assert np.abs(curve(image) - truth).mean() < 8.0
    covered = (truth > -800.0) & (truth < 900.0)
    assert np.abs(curve(image) - truth)[covered].max() < 60.0


def test_the_curve_rises_and_continues_with_its_last_difference() -> None:
    curve = HuCurve(np.array([0.0, 100.0]), np.array([-10.0, 300.0]))
    assert curve(np.array([-50.0, 50.0, 150.0])) == pytest.approx([-60.0, 145.0, 350.0])
    rng = np.random.default_rng(0)
    image = rng.uniform(-200.0, 400.0, 5000)
    assert np.all(np.diff(HuCurve.fitted(image, rng.normal(0.0, 300.0, 5000)).to_hu) >= 0.0)


def test_a_curve_from_few_voxels_is_a_shift() -> None:
    curve = HuCurve.fitted(np.array([0.0, 10.0, 20.0]), np.array([5.0, 15.0, 25.0]))
    assert curve(np.array([0.0, 100.0])) == pytest.approx([5.0, 105.0])
