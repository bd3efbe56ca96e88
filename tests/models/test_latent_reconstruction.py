from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.diffusion import NoiseSchedule
from models.early_stopping import StopRules
from models.latent_reconstruction import (
    Attenuation,
    LatentSettings,
    Measurement,
    Projector,
    ShallowMap,
    frozen_noise,
    reconstructed,
)
from tests.models.gaussian_prior import DenseProjector, DividedDenseProjector, GaussianPrior, smooth_covariance

SCHEDULE = NoiseSchedule(1000)
SIDE = 4
PIXELS = SIDE * SIDE
ATTENUATION = Attenuation(slope=0.5, offset=0.25)
NEVER = StopRules(patience=None)
SETTINGS = LatentSettings(iterations=300, learning_rate=0.02, stop=NEVER)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prior() -> GaussianPrior:
    return GaussianPrior(torch.linspace(-0.5, 0.5, PIXELS).double(), smooth_covariance(SIDE, 0.3, 1.0), SCHEDULE)


def truth(slices: int = 1) -> Tensor:
    root = torch.linalg.cholesky(prior().covariance)
    pixels: Tensor = prior().mean + normal(slices, PIXELS, seed=7) @ root.T
    return pixels.view(slices, 1, SIDE, SIDE)


def rays(views: int = 8, detectors: int = 4) -> Tensor:
    """Rays that determine every pixel, each through many of them."""
    return normal(views, detectors, PIXELS, seed=3) / float(PIXELS**0.5)


def measured(
    image: Tensor, noise_sd: float = 0.0, projector: Projector | None = None, weights: Tensor | None = None
) -> Measurement:
    projector = projector or DenseProjector(rays())
    line_integrals = projector.forward(ATTENUATION.slope * image + ATTENUATION.offset)
    noisy = line_integrals + noise_sd * normal(*line_integrals.shape, seed=5)
    return Measurement(projector, noisy, ATTENUATION, weights)


def least_squares(measurement: Measurement) -> Tensor:
    """The analytic solution: (A' W A)^-1 A' W (y - A offset), for a measurement of one slice."""
    matrix = rays().flatten(0, 1) * ATTENUATION.slope
    data = measurement.line_integrals.flatten() - rays().flatten(0, 1).sum(dim=1) * ATTENUATION.offset
    weights = torch.ones_like(data) if measurement.weights is None else measurement.weights.flatten()
    normal_matrix = matrix.T @ (weights[:, None] * matrix)
    solution: Tensor = torch.linalg.solve(normal_matrix, matrix.T @ (weights * data))
    return solution.view(1, 1, SIDE, SIDE)


def start(slices: int = 1) -> Tensor:
    return torch.zeros(slices, 1, SIDE, SIDE, dtype=torch.float64)


def test_one_shallow_step_is_the_posterior_mean() -> None:
    latent = normal(1, 1, SIDE, SIDE, seed=1)
    shallow = ShallowMap(prior(), SCHEDULE, LatentSettings(depth=60), latent)
    torch.testing.assert_close(shallow(latent), prior().posterior_mean(latent, 60))


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_frozen_noises_make_the_map_deterministic_and_another_seed_makes_another_map(steps: int) -> None:
    latent = normal(2, 1, SIDE, SIDE, seed=1)
    first, again, other = (
        ShallowMap(prior(), SCHEDULE, LatentSettings(steps=steps, seed=seed), latent)(latent) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    # One step goes to the image at once and draws nothing.
    assert torch.equal(first, other) == (steps == 1)


def test_the_latent_of_an_image_is_the_image_with_the_noise_of_its_depth() -> None:
    image = torch.zeros(1, 1, 256, 256)
    latent = ShallowMap(prior(), SCHEDULE, LatentSettings(steps=5, depth=300), image).latent_of(image + 0.4)
    assert float(latent.mean()) == pytest.approx(0.4 * SCHEDULE.signal(300), abs=0.01)
    assert float(latent.std()) == pytest.approx(SCHEDULE.noise(300), rel=0.02)


def test_noises_belong_to_a_slice_and_not_to_its_batch() -> None:
    whole = frozen_noise(torch.zeros(3, 1, 4, 4), seed=2, number=1)
    torch.testing.assert_close(frozen_noise(torch.zeros(1, 1, 4, 4), 2, 1, first_slice=2), whole[2:])
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_gradient_by_the_latent_is_that_of_finite_differences(steps: int) -> None:
    latent, image = normal(1, 1, SIDE, SIDE, seed=1), truth()
    shallow = ShallowMap(CurvedPrior(), SCHEDULE, LatentSettings(steps=steps, depth=200), latent)

    def loss(x: Tensor) -> Tensor:
        return measured(image).residuals(shallow(x)).square().sum()

    x = latent.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    step, direction = 1e-5, normal(1, 1, SIDE, SIDE, seed=9)
    difference = (loss(latent + step * direction) - loss(latent - step * direction)) / (2.0 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-6)


class CurvedPrior:
    """A denoiser that is not linear."""

    def __call__(self, x_t: Tensor, times: Tensor) -> Tensor:
        return torch.tanh(x_t + 0.3 * x_t.roll(1, dims=-1) ** 2)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_consistent_rays_give_back_the_image_whatever_the_noises(steps: int) -> None:
    settings = replace(SETTINGS, steps=steps, iterations=150, learning_rate=0.04)
    found = reconstructed(measured(truth()), start(), prior(), SCHEDULE, settings)
    torch.testing.assert_close(found.image, truth(), atol=0.01, rtol=0.0)
    assert found.trace.residuals[-1] < 1e-4 * found.trace.residuals[0]
    assert found.reasons == ("iterations",) and found.iterations == (150,)


def test_noisy_rays_that_differ_in_weight_give_the_weighted_least_squares_solution() -> None:
    weights = torch.linspace(0.2, 5.0, 32, dtype=torch.float64).view(1, 8, 4)
    measurement = measured(truth(), noise_sd=0.02, weights=weights)
    settings = replace(SETTINGS, depth=10, iterations=600)
    found = reconstructed(measurement, start(), prior(), SCHEDULE, settings)
    torch.testing.assert_close(found.image, least_squares(measurement), atol=2e-3, rtol=0.0)
    unweighted = least_squares(replace(measurement, weights=None))
    assert (found.image - unweighted).abs().max() > 0.02


def test_a_ray_of_weight_0_does_not_count() -> None:
    weights = torch.ones(1, 8, 4, dtype=torch.float64)
    weights[:, 2] = 0.0
    measurement = measured(truth(), weights=weights)
    measurement.line_integrals[:, 2] = 100.0
    found = reconstructed(measurement, start(), prior(), SCHEDULE, SETTINGS)
    torch.testing.assert_close(found.image, truth(), atol=5e-3, rtol=0.0)
    assert found.trace.residuals[-1] < 1e-5


def test_the_trace_holds_the_mean_squares_of_the_images_that_were_seen() -> None:
    measurement = measured(truth())
    found = reconstructed(measurement, start(), prior(), SCHEDULE, replace(SETTINGS, iterations=3))
    expected = measurement.residuals(found.image).square().mean()
    assert found.trace.residuals.shape == found.trace.variances.shape == (3, 1)
    torch.testing.assert_close(found.trace.residuals[-1, 0], expected)


def test_slices_computed_together_are_what_each_is_alone() -> None:
    settings = replace(SETTINGS, steps=2, iterations=20)
    together = reconstructed(measured(truth(3)), start(3), prior(), SCHEDULE, settings)
    one = Measurement(DenseProjector(rays()), measured(truth(3)).line_integrals[2:], ATTENUATION)
    alone = reconstructed(one, start(), prior(), SCHEDULE, replace(settings, first_slice=2))
    torch.testing.assert_close(together.image[2:], alone.image)
    torch.testing.assert_close(together.trace.residuals[:, 2:], alone.trace.residuals)


@pytest.mark.parametrize("noise_sd", [0.01, 0.05])
def test_a_fit_stops_at_the_noise_level_and_would_have_gone_on_to_learn_the_noise(noise_sd: float) -> None:
    weights = torch.full((1, 8, 4), noise_sd**-2, dtype=torch.float64)
    measurement = measured(truth(), noise_sd, weights=weights)
    stopped, fitted = (
        reconstructed(measurement, start(), prior(), SCHEDULE, replace(SETTINGS, stop=rules))
        for rules in (StopRules(noise_level=1.0, patience=None), NEVER)
    )
    assert stopped.reasons == ("noise level",) and len(stopped.trace.residuals) == stopped.iterations[0] < 300
    assert float(stopped.trace.residuals[-1]) <= 1.0 < float(stopped.trace.residuals[-2])
    # With half as many pixels as rays, a full fit swallows half of the noise.
    assert float(fitted.trace.residuals[-1]) < 0.7


@pytest.mark.parametrize("rules", [StopRules(1.0, patience=None), StopRules(window=5, patience=15)])
def test_where_rays_blur_a_fit_that_is_stopped_is_nearer_to_the_truth_than_one_of_the_noise(rules: StopRules) -> None:
    blur = smooth_covariance(SIDE, 1.0, 1.2)
    projector = DenseProjector((blur / blur.sum(dim=1).mean()).expand(3, -1, -1))
    weights = torch.full((1, 3, PIXELS), 0.05**-2, dtype=torch.float64)
    measurement = measured(truth(), 0.05, projector, weights)
    stopped, fitted = (
        reconstructed(measurement, start(), prior(), SCHEDULE, replace(SETTINGS, learning_rate=0.05, stop=stop))
        for stop in (rules, NEVER)
    )
    assert stopped.reasons != ("iterations",)
    errors = [float((found.image - truth()).square().mean().sqrt()) for found in (stopped, fitted)]
    assert errors[0] < 0.85 * errors[1]


def test_a_fit_that_settled_stops_by_the_variance_and_gives_back_its_calmest_image() -> None:
    settings = replace(SETTINGS, learning_rate=0.05, stop=StopRules(window=5, patience=10))
    found = reconstructed(measured(truth(), 0.02), start(), prior(), SCHEDULE, settings)
    variances = found.trace.variances[:, 0].nan_to_num(torch.inf)
    assert found.reasons == ("variance",)
    assert found.iterations[0] == int(variances.argmin()) + 1
    assert len(variances) == found.iterations[0] + 10


@pytest.mark.parametrize("projector", [DenseProjector, DividedDenseProjector])
def test_subsets_of_the_views_lead_to_the_same_image(projector: type[DenseProjector]) -> None:
    measurement = measured(truth(), projector=projector(rays()))
    found = reconstructed(measurement, start(), prior(), SCHEDULE, replace(SETTINGS, subsets=4))
    torch.testing.assert_close(found.image, truth(), atol=0.02, rtol=0.0)


def test_ordered_subsets_take_every_view_once_and_look_from_all_sides() -> None:
    projector = DividedDenseProjector(rays())
    subsets = measured(truth(), projector=projector).subsets(4)
    assert projector.asked == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert [subset.line_integrals.shape for subset in subsets] == [(1, 2, 4)] * 4


def test_a_subset_means_the_same_with_and_without_a_divided_projector() -> None:
    weights = torch.rand(1, 8, 4, dtype=torch.float64) + 0.5
    whole, divided = (
        measured(truth(), 0.1, projector, weights).subsets(3)[1]
        for projector in (DenseProjector(rays()), DividedDenseProjector(rays()))
    )
    squares = [subset.mean_squares(subset.residuals(start())) for subset in (whole, divided)]
    torch.testing.assert_close(squares[0], squares[1])


def test_the_noise_level_is_compared_with_all_subsets_and_not_with_a_lucky_one() -> None:
    measurement = measured(truth(), 0.05, weights=torch.full((1, 8, 4), 400.0, dtype=torch.float64))
    rules = StopRules(noise_level=1.0, patience=None)
    found = reconstructed(
        measurement, start(), prior(), SCHEDULE, replace(SETTINGS, learning_rate=0.005, subsets=4, stop=rules)
    )
    assert found.reasons == ("noise level",)
    assert (found.trace.residuals[:-1] < 1.0).any()
    assert float(found.trace.residuals[-4:].mean()) <= 1.0


@pytest.mark.parametrize("count", [0, 9])
def test_more_subsets_than_views_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="8 views can not be divided"):
        measured(truth()).subsets(count)


def test_attenuation_of_a_window_is_that_of_air_water_and_bone() -> None:
    attenuation = Attenuation.of_window((-1000.0, 2000.0), water_per_mm=0.02)
    per_mm = [attenuation.slope * unit + attenuation.offset for unit in (-1.0, -1.0 / 3.0, 1.0)]
    assert per_mm == pytest.approx([0.0, 0.02, 0.06])


def test_progress_ends_at_one() -> None:
    seen: list[float] = []
    settings = replace(SETTINGS, iterations=4)
    reconstructed(measured(truth()), start(), prior(), SCHEDULE, settings, lambda done, what: seen.append(done))
    assert seen == [0.25, 0.5, 0.75, 1.0]
