from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.diffusion import (
    Architecture,
    DenoisingNetwork,
    NoiseSchedule,
    chain_times,
    ddim_step,
    load_prior,
    p_sample,
    predicted_x_0,
    q_sample,
)
from models.weights import WeightsError, save
from tests.models.gaussian_prior import GaussianPrior, smooth_covariance

SCHEDULE = NoiseSchedule(1000)
TINY = Architecture(channels=8, levels=2, blocks=1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(side: int = 4) -> GaussianPrior:
    mean = torch.linspace(-0.5, 0.5, side * side, dtype=torch.float64)
    return GaussianPrior(mean, smooth_covariance(side, sd=0.3, length=1.0), SCHEDULE)


def shaken(network: DenoisingNetwork) -> DenoisingNetwork:
    """With weights as after a training: none of them 0."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.1)
    return network


@pytest.mark.parametrize(("time", "sd"), [(1, 0.0100), (2, 0.0148), (10, 0.0435), (100, 0.3209), (1000, 1.0000)])
def test_the_noise_of_each_time_is_that_of_the_linear_schedule(time: int, sd: float) -> None:
    betas = [1e-4 + (0.02 - 1e-4) * step / 999 for step in range(time)]
    assert 1.0 - SCHEDULE.noise(time) ** 2 == pytest.approx(np.prod([1.0 - beta for beta in betas]))
    assert SCHEDULE.noise(time) == pytest.approx(sd, abs=6e-5)
    assert SCHEDULE.noise(0) == 0.0 and SCHEDULE.signal(0) == 1.0


def test_a_shorter_schedule_ends_at_the_same_noise() -> None:
    for part in (0.2, 0.5, 1.0):
        assert NoiseSchedule(250).noise(int(250 * part)) == pytest.approx(SCHEDULE.noise(int(1000 * part)), rel=0.01)


def test_the_forward_process_mixes_image_and_noise_by_the_time_of_each_image() -> None:
    x_0, eps = torch.full((2, 1, 1, 1), 0.5), torch.full((2, 1, 1, 1), -2.0)
    expected = [0.5 * SCHEDULE.signal(time) - 2.0 * SCHEDULE.noise(time) for time in (1, 700)]
    assert q_sample(x_0, torch.tensor([1, 700]), eps, SCHEDULE).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("time", [1, 30, 999])
def test_the_true_noise_gives_back_the_clean_image(time: int) -> None:
    x_0, eps = noise(1, 1, 4, 4, seed=1), noise(1, 1, 4, 4, seed=2)
    x_t = q_sample(x_0, torch.tensor([time]), eps, SCHEDULE)
    torch.testing.assert_close(predicted_x_0(x_t, eps, time, SCHEDULE), x_0)


@pytest.mark.parametrize("time", [2, 10, 500])
def test_an_ancestral_step_draws_from_the_posterior_of_the_earlier_image(time: int) -> None:
    x_0, eps, fresh = (noise(1, 1, 4, 4, seed=seed) for seed in (1, 2, 3))
    x_t = q_sample(x_0, torch.tensor([time]), eps, SCHEDULE)
    # Two independent Gaussian statements about x_(t-1): from x_0, and from x_t by the one step between them.
    alpha = SCHEDULE.alpha_bar[time] / SCHEDULE.alpha_bar[time - 1]
    precisions = 1.0 / SCHEDULE.noise(time - 1) ** 2, alpha / (1.0 - alpha)
    means = SCHEDULE.signal(time - 1) * x_0, x_t / alpha**0.5
    mean = (precisions[0] * means[0] + precisions[1] * means[1]) / sum(precisions)
    step = p_sample(x_t, eps, time, fresh, SCHEDULE)
    torch.testing.assert_close(step, mean + sum(precisions) ** -0.5 * fresh)


@pytest.mark.parametrize("time", [1, 2, 400])
def test_ddim_with_full_noise_is_the_ancestral_step(time: int) -> None:
    x_t, eps, fresh = (noise(1, 1, 4, 4, seed=seed) for seed in (1, 2, 3))
    x_0 = predicted_x_0(x_t, eps, time, SCHEDULE)
    ancestral = p_sample(x_t, eps, time, fresh, SCHEDULE)
    torch.testing.assert_close(ddim_step(x_0, eps, (time, time - 1), SCHEDULE, 1.0, fresh), ancestral)


def test_the_last_ancestral_step_adds_no_noise() -> None:
    x_t, eps = noise(1, 1, 4, 4), noise(1, 1, 4, 4, seed=1)
    step = p_sample(x_t, eps, 1, 100.0 * noise(1, 1, 4, 4, seed=2), SCHEDULE)
    torch.testing.assert_close(step, predicted_x_0(x_t, eps, 1, SCHEDULE))


def test_a_deterministic_step_goes_along_the_noise() -> None:
    x_0, eps = noise(1, 1, 4, 4), noise(1, 1, 4, 4, seed=1)
    expected = q_sample(x_0, torch.tensor([120]), eps, SCHEDULE)
    torch.testing.assert_close(ddim_step(x_0, eps, (700, 120), SCHEDULE), expected)


def test_ddim_carries_noise_to_the_image_that_it_stands_for_under_a_gaussian_prior() -> None:
    prior = gaussian()
    x = start = noise(1, 1, 4, 4)
    for time in range(1000, 0, -1):
        eps = prior(x, torch.tensor([time]))
        x = ddim_step(predicted_x_0(x, eps, time, SCHEDULE), eps, (time, time - 1), SCHEDULE)
    # The probability flow of a Gaussian keeps its place along every eigenvector, counted in standard deviations.
    values, vectors = torch.linalg.eigh(prior.covariance)
    spread = (values / (SCHEDULE.alpha_bar[1000] * values + SCHEDULE.noise(1000) ** 2)).sqrt()
    along = (start.flatten() - SCHEDULE.signal(1000) * prior.mean) @ vectors
    torch.testing.assert_close(x.flatten(), prior.mean + vectors @ (spread * along), atol=5e-3, rtol=0.0)


def test_ddpm_samples_have_mean_and_covariance_of_a_gaussian_prior() -> None:
    prior = GaussianPrior(
        torch.tensor([0.4, -0.2]).double(), torch.tensor([[0.09, 0.03], [0.03, 0.04]]).double(), SCHEDULE
    )
    x = noise(10_000, 1, 1, 2)
    for time in range(1000, 0, -1):
        x = p_sample(x, prior(x, torch.tensor([time])), time, noise(*x.shape, seed=time), SCHEDULE)
    torch.testing.assert_close(x.flatten(1).mean(dim=0), prior.mean, atol=0.01, rtol=0.0)
    torch.testing.assert_close(torch.cov(x.flatten(1).T), prior.covariance, atol=0.004, rtol=0.0)


def test_a_chain_goes_from_its_depth_to_0_in_even_steps() -> None:
    assert chain_times(1, 1) == [(1, 0)]
    assert chain_times(3, 3) == [(3, 2), (2, 1), (1, 0)]
    assert chain_times(100, 4) == [(100, 75), (75, 50), (50, 25), (25, 0)]
    assert all(time > earlier for time, earlier in chain_times(11, 10))


@pytest.mark.parametrize(("depth", "steps"), [(1, 2), (5, 0), (0, 1)])
def test_a_chain_of_more_steps_than_times_is_refused(depth: int, steps: int) -> None:
    with pytest.raises(ValueError, match="can not have"):
        chain_times(depth, steps)


def test_an_untrained_network_predicts_no_noise() -> None:
    eps = DenoisingNetwork(TINY)(torch.randn(2, 1, 16, 24), torch.tensor([1, 900]))
    assert eps.shape == (2, 1, 16, 24) and not eps.any()


def test_the_network_hears_the_time() -> None:
    network = shaken(DenoisingNetwork(TINY))
    early, late = network(torch.zeros(2, 1, 16, 16), torch.tensor([1, 2]))
    assert (early - late).abs().max() > 1e-3


def test_a_schedule_of_another_length_tells_the_network_the_same_time() -> None:
    long, short = (DenoisingNetwork(Architecture(channels=8, levels=2, blocks=1, steps=n)) for n in (1000, 100))
    short.load_state_dict(shaken(long).state_dict())
    x = torch.zeros(1, 1, 16, 16)
    torch.testing.assert_close(short(x, torch.tensor([7])), long(x, torch.tensor([70])))


def test_noise_is_predicted_from_the_neighbourhood_only() -> None:
    network = shaken(DenoisingNetwork(TINY))
    wide = torch.rand(1, 1, 16, 192) - 0.5
    other = wide.clone()
    other[..., 120:] = -1.0
    times = torch.tensor([5])
    torch.testing.assert_close(network(wide, times)[..., :48], network(other, times)[..., :48])


def test_a_slice_does_not_depend_on_the_others_of_its_batch() -> None:
    network = shaken(DenoisingNetwork(TINY))
    slices, times = torch.randn(3, 1, 16, 16), torch.tensor([3, 50, 800])
    torch.testing.assert_close(network(slices, times)[1:2], network(slices[1:2], times[1:2]), atol=1e-5, rtol=1e-5)


def test_the_shipped_size_is_below_the_limit_of_a_file() -> None:
    parameters = sum(parameter.numel() for parameter in DenoisingNetwork(Architecture()).parameters())
    assert 2_500_000 < parameters < 16 * 2**20 / 4


FACTS: dict[str, Any] = {
    "method": "diffusion",
    "architecture": {"channels": 8, "levels": 2, "blocks": 1, "steps": 500},
    "window_hu": (-1000.0, 2000.0),
    "training_domain": {
        "modality": "planning CT",
        "pixel_spacing_mm": (1.0, 5.0),
        "slice_spacing_mm": (1.0, 5.0),
        "body_mean_hu": 0.0,
        "body_mean_sd_hu": 20.0,
        "patients": 2,
        "slices": 10,
    },
}


def saved(folder: Path, **changed: object) -> str:
    network = shaken(DenoisingNetwork(Architecture(**FACTS["architecture"])))
    save(folder / "prior.safetensors", network.state_dict(), {**FACTS, **changed}, "")
    return str(folder / "prior.safetensors")


def test_a_prior_comes_back_with_its_schedule_and_frozen(tmp_path: Path) -> None:
    prior = load_prior(saved(tmp_path))
    assert prior.schedule.steps == 500
    assert not any(parameter.requires_grad for parameter in prior.network.parameters())
    x = torch.randn(1, 1, 16, 16, requires_grad=True)
    prior(x, torch.tensor([1])).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.any()


def test_a_prior_in_bfloat16_agrees_to_its_digits_and_answers_in_float32(tmp_path: Path) -> None:
    path = saved(tmp_path)
    exact, fast = (load_prior(path, bf16=bf16) for bf16 in (False, True))
    x, times = torch.randn(1, 1, 16, 16), torch.tensor([10])
    eps = fast(x, times)
    assert eps.dtype == torch.float32
    assert 0.0 < (eps - exact(x, times)).abs().max() < 0.05 * exact(x, times).abs().max()


def test_weights_of_another_method_are_no_prior(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="of the method cyclegan, not diffusion"):
        load_prior(saved(tmp_path, method="cyclegan"))


@pytest.mark.parametrize("architecture", [{"channels": 16, "levels": 2, "blocks": 1}, {"width": 8}])
def test_weights_that_do_not_fit_their_card_are_refused(tmp_path: Path, architecture: dict[str, int]) -> None:
    with pytest.raises(WeightsError, match="do not fit the architecture"):
        load_prior(saved(tmp_path, architecture=architecture))
