"""What else a diffusion prior can make of few views, to compare with: the prior alone, and DDS.

Images are (B, 1, H, W) in [-1, 1]. Chains may leave out times; the noises of a slice come from the seed and from its
number in the volume (`models.latent_reconstruction.frozen_noise`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from models.diffusion import Denoiser, NoiseSchedule, chain_times, ddim_step, predicted_x_0, q_sample
from models.latent_reconstruction import Measurement, frozen_noise

Operator: TypeAlias = Callable[[Tensor], Tensor]
"""A symmetric, positive linear map of images (B, 1, H, W), of each slice by itself."""

_POWER_ITERATIONS = 10


@dataclass(frozen=True)
class SamplingSettings:
    """How a chain is run from an image with noise."""

    depth: int = 100
    """Time that the image is noised to; N forgets it."""
    steps: int = 100
    eta: float = 1.0
    """1: ancestral steps (DDPM); 0: deterministic ones (DDIM)."""
    seed: int = 0
    first_slice: int = 0
    """Number of the first slice of the batch in its volume."""


@dataclass(frozen=True)
class DdsSettings:
    """How DDS is run; 100 steps of 5 iterations, as its authors did."""

    chain: SamplingSettings = field(default_factory=lambda: SamplingSettings(depth=1000, eta=0.85))
    conjugate_gradients: int = 5
    """Iterations in each step."""
    data_weight: float = 1000.0
    """Gamma times the largest eigenvalue of A' W A: how much more the best measured image counts than the prior."""


def denoised_from(start: Tensor, denoiser: Denoiser, schedule: NoiseSchedule, settings: SamplingSettings) -> Tensor:
    """The prior alone: noise the image `start` (B, 1, H, W) to a depth, then run the chain back; no data are asked.

    References
    ----------
    Meng et al., SDEdit, ICLR 2022, arXiv 2108.01073; Ho et al., arXiv 2006.11239
    """
    return _chain(start, denoiser, schedule, settings, lambda x_0: x_0)


def dds(
    measurement: Measurement, start: Tensor, denoiser: Denoiser, schedule: NoiseSchedule, settings: DdsSettings
) -> Tensor:
    """Decomposed diffusion sampling: DDIM whose x_0 is moved towards the data by a few conjugate gradients.

    In each step, (1 + gamma A' W A) x = x_0 + gamma A' W y is solved from the x_0 that was predicted, not to the end.

    References
    ----------
    Chung et al., ICLR 2024, arXiv 2303.05754
    """
    largest = largest_eigenvalue(normal_operator(measurement), start)
    gamma = (settings.data_weight / largest).view(-1, 1, 1, 1)
    correct = _correction(measurement, start, gamma, settings.conjugate_gradients)
    return _chain(start, denoiser, schedule, settings.chain, correct)


def normal_operator(measurement: Measurement) -> Operator:
    """A' W A on images of the prior's range; the offset of the attenuation is no part of it.

    A' comes from torch's gradient of A, so it is as exact as that.
    """

    def normal(image: Tensor) -> Tensor:
        with torch.enable_grad():
            x = image.detach().clone().requires_grad_()
            line_integrals = measurement.weighted(measurement.projector.forward(measurement.attenuation.slope * x))
            (gradient,) = torch.autograd.grad(0.5 * line_integrals.square().sum(), x)
        return gradient

    return normal


def data_gradient(measurement: Measurement, image: Tensor) -> Tensor:
    """A' W (A mu(x) - y) at an image (B, 1, H, W)."""
    with torch.enable_grad():
        x = image.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(0.5 * measurement.residuals(x).square().sum(), x)
    return gradient


def conjugate_gradients(operator: Operator, right: Tensor, start: Tensor, iterations: int) -> Tensor:
    """Solve operator(x) = right for each slice of the batch, from `start`; exact after as many steps as unknowns.

    References
    ----------
    Hestenes and Stiefel, J Res Natl Bur Stand 1952, doi 10.6028/jres.049.044
    """
    x = start.clone()
    residual = right - operator(x)
    direction = residual
    squares = _dot(residual, residual)
    for _ in range(iterations):
        image = operator(direction)
        # A slice that is solved already has nothing left to divide by.
        length = squares / _dot(direction, image).clamp(min=torch.finfo(x.dtype).tiny)
        x = x + length * direction
        residual = residual - length * image
        before, squares = squares, _dot(residual, residual)
        direction = residual + squares / before.clamp(min=torch.finfo(x.dtype).tiny) * direction
    return x


def largest_eigenvalue(operator: Operator, like: Tensor) -> Tensor:
    """Of each slice (B,), by power iteration from an even image, which a projector sees best; from below."""
    x = torch.ones_like(like)
    for _ in range(_POWER_ITERATIONS):
        x = operator(x)
        x = x / _dot(x, x).sqrt()
    return _dot(x, operator(x)).flatten()


def _correction(measurement: Measurement, like: Tensor, gamma: Tensor, iterations: int) -> Operator:
    normal = normal_operator(measurement)
    # gamma A' W (y - A mu(0)): with the offset of the attenuation moved to the side of the data.
    data = -gamma * data_gradient(measurement, torch.zeros_like(like))

    def correct(x_0: Tensor) -> Tensor:
        return conjugate_gradients(lambda x: x + gamma * normal(x), x_0 + data, x_0, iterations)

    return correct


@torch.no_grad()
def _chain(
    start: Tensor, denoiser: Denoiser, schedule: NoiseSchedule, settings: SamplingSettings, correct: Operator
) -> Tensor:
    """Run a chain back from `start` with noise, with every predicted x_0 corrected."""

    def noise(number: int) -> Tensor:
        return frozen_noise(start, settings.seed, number, settings.first_slice)

    x_t = q_sample(start, torch.full((len(start),), settings.depth), noise(0), schedule)
    for number, times in enumerate(chain_times(settings.depth, settings.steps), start=1):
        eps = denoiser(x_t, torch.full((len(x_t),), times[0], device=x_t.device))
        x_0 = correct(predicted_x_0(x_t, eps, times[0], schedule))
        x_t = ddim_step(x_0, eps, times, schedule, settings.eta, noise(number) if settings.eta else None)
    return x_t


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each slice: (B, 1, 1, 1)."""
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)
