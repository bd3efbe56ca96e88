from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.diffusion import NoiseSchedule
from models.diffusion_sampling import (
    DdsSettings,
    SamplingSettings,
    conjugate_gradients,
    data_gradient,
    dds,
    denoised_from,
    largest_eigenvalue,
    normal_operator,
)
from models.latent_reconstruction import Measurement
from tests.models.gaussian_prior import DenseProjector, GaussianPrior
from tests.models.test_latent_reconstruction import (
    ATTENUATION,
    PIXELS,
    SIDE,
    least_squares,
    measured,
    normal,
    prior,
    rays,
    start,
    truth,
)

SCHEDULE = NoiseSchedule(1000)
WEIGHTS = torch.linspace(0.5, 2.0, 32, dtype=torch.float64).view(1, 8, 4)


def normal_matrix(weights: Tensor) -> Tensor:
    matrix = rays().flatten(0, 1) * ATTENUATION.slope
    return matrix.T @ (weights.flatten()[:, None] * matrix)


def weighted() -> Measurement:
    return measured(truth(), 0.05, weights=WEIGHTS)


def test_the_normal_operator_is_the_weighted_matrix_times_its_transpose() -> None:
    x = normal(1, 1, SIDE, SIDE, seed=1)
    expected = (normal_matrix(WEIGHTS) @ x.flatten()).view(x.shape)
    torch.testing.assert_close(normal_operator(weighted())(x), expected)


def test_the_data_gradient_vanishes_at_the_least_squares_solution() -> None:
    assert data_gradient(weighted(), start()).abs().max() > 0.01
    gradient = data_gradient(weighted(), least_squares(weighted()))
    torch.testing.assert_close(gradient, start(), atol=1e-12, rtol=0.0)


def test_conjugate_gradients_solve_the_normal_equations_in_as_many_steps_as_pixels() -> None:
    right = normal(2, 1, SIDE, SIDE, seed=2)
    operator = normal_operator(measured(truth(2), weights=WEIGHTS.expand(2, 8, 4)))
    solved = conjugate_gradients(lambda x: x + 10.0 * operator(x), right, torch.zeros_like(right), PIXELS)
    matrix = torch.eye(PIXELS, dtype=torch.float64) + 10.0 * normal_matrix(WEIGHTS)
    expected = torch.linalg.solve(matrix, right.flatten(1).T).T.view(right.shape)
    torch.testing.assert_close(solved, expected, atol=1e-9, rtol=0.0)


def test_conjugate_gradients_rest_at_a_solution() -> None:
    x = normal(1, 1, SIDE, SIDE, seed=2)
    assert torch.equal(conjugate_gradients(lambda image: image, x, x, 5), x)


def test_the_largest_eigenvalue_is_found() -> None:
    found = largest_eigenvalue(normal_operator(weighted()), start())
    assert float(found) == pytest.approx(float(torch.linalg.eigvalsh(normal_matrix(WEIGHTS))[-1]), rel=0.1)


@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
def test_dds_follows_rays_that_determine_the_image(eta: float) -> None:
    chain = SamplingSettings(depth=1000, steps=20, eta=eta)
    found = dds(measured(truth()), start(), prior(), SCHEDULE, DdsSettings(chain, PIXELS, data_weight=1e6))
    torch.testing.assert_close(found, truth(), atol=1e-3, rtol=0.0)


def test_a_few_conjugate_gradients_in_each_step_are_enough() -> None:
    found = dds(measured(truth()), start(), prior(), SCHEDULE, DdsSettings())
    assert (found - truth()).abs().max() < 0.05


def test_where_no_ray_goes_dds_believes_the_prior() -> None:
    certain = GaussianPrior(prior().mean, 1e-8 * torch.eye(PIXELS, dtype=torch.float64), SCHEDULE)
    matrix = torch.eye(PIXELS, dtype=torch.float64)[: PIXELS // 2].view(2, 4, PIXELS)
    image = truth()
    found = dds(measured(image, projector=DenseProjector(matrix)), start(), certain, SCHEDULE, DdsSettings())
    seen, unseen = found.flatten()[: PIXELS // 2], found.flatten()[PIXELS // 2 :]
    torch.testing.assert_close(seen, image.flatten()[: PIXELS // 2], atol=2e-3, rtol=0.0)
    torch.testing.assert_close(unseen, certain.mean[PIXELS // 2 :], atol=2e-3, rtol=0.0)


def test_the_prior_alone_forgets_the_start_in_the_depth_and_keeps_it_in_the_shallows() -> None:
    far = prior().mean.view(1, 1, SIDE, SIDE) + 3.0
    shallow, deep = (denoised_from(far, prior(), SCHEDULE, SamplingSettings(depth, depth)) for depth in (1, 1000))
    assert (shallow - far).abs().max() < 0.1
    assert (deep - prior().mean.view(deep.shape)).abs().max() < 4 * 0.3


def test_samples_of_the_prior_have_its_mean_and_spread() -> None:
    narrow = GaussianPrior(torch.tensor([0.3]).double(), torch.tensor([[0.04]]).double(), SCHEDULE)
    images = torch.zeros(1000, 1, 1, 1, dtype=torch.float64)
    found = denoised_from(images, narrow, SCHEDULE, SamplingSettings(1000, 500, eta=0.0))
    assert float(found.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(found.std()) == pytest.approx(0.2, rel=0.1)


def test_the_same_seed_samples_the_same_image_and_another_one_another() -> None:
    settings = SamplingSettings(depth=50, steps=5)
    first, again, other = (
        denoised_from(start(), prior(), SCHEDULE, replace(settings, seed=seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
