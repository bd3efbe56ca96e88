"""Iterative CT over the latent of a shallow diffusion model: the measured rays decide, the prior says what is a CT.

A reverse chain whose noises are drawn once and kept is a map f from a latent x_T to an image. Of all images that f can
make, the one is sought whose line integrals are those that were measured, by descent over the latent:

    x_T = argmin || W^(1/2) (A f(x_T) - y) ||^2,    image = f(x_T)

The chain is cut at a small T, so f stays near the identity and any image can still be reached; neither the image nor
the weights of the network are changed directly, and the prior has no weight that someone would have to choose.

Images are (B, 1, H, W) in [-1, 1], as the prior takes them; B slices are computed together, and none depends on
another. Beyond the paper are the start from a filtered backprojection, the weights, the subsets of views, when to
stop, and that the latent may lie at a deeper time than there are steps.

References
----------
Ozaki et al., 2024, arXiv 2408.03156; Wang et al., NeurIPS 2024, arXiv 2405.16749 (DMPlug: that such an iteration has
to be stopped)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.diffusion import Denoiser, NoiseSchedule, chain_times, ddim_step, predicted_x_0, q_sample
from models.early_stopping import EarlyStopping, StopReason, StopRules


class Projector(Protocol):
    """Line integrals A x of slices, differentiable in x by torch."""

    def forward(self, image: Tensor) -> Tensor:
        """Attenuation (B, 1, H, W) in 1/mm -> line integrals (B, views, detectors)."""
        ...


@runtime_checkable
class DividedProjector(Projector, Protocol):
    """A projector that can compute some of its views without the others."""

    def of_views(self, views: Sequence[int]) -> Projector:
        """The same rays, of these views only, in this order."""
        ...


@dataclass(frozen=True)
class Attenuation:
    """From the range of the prior to attenuation: mu = slope x + offset, 1/mm."""

    slope: float
    offset: float

    @classmethod
    def of_window(cls, window_hu: tuple[float, float], water_per_mm: float) -> "Attenuation":
        """For images where [-1, 1] is the window; mu = mu_water (1 + HU / 1000)."""
        half_hu, middle_hu = (window_hu[1] - window_hu[0]) / 2.0, (window_hu[1] + window_hu[0]) / 2.0
        return cls(water_per_mm * half_hu / 1000.0, water_per_mm * (1.0 + middle_hu / 1000.0))


@dataclass(frozen=True)
class Measurement:
    """What was measured of B slices, and how an image would have been measured."""

    projector: Projector
    line_integrals: Tensor
    """y, (B, views, detectors)."""
    attenuation: Attenuation
    weights: Tensor | None = None
    """W, of the same shape: 1 / variance of each line integral; 0 leaves a ray out. None: all 1."""

    def residuals(self, image: Tensor) -> Tensor:
        """W^(1/2) (A mu(x) - y) of an image (B, 1, H, W): (B, views, detectors)."""
        projected = self.projector.forward(self.attenuation.slope * image + self.attenuation.offset)
        return self.weighted(projected - self.line_integrals)

    def weighted(self, line_integrals: Tensor) -> Tensor:
        """W^(1/2) times line integrals (B, views, detectors)."""
        return line_integrals if self.weights is None else line_integrals * self.weights.sqrt()

    def mean_squares(self, residuals: Tensor) -> Tensor:
        """Mean square of the residuals of each slice over the rays that count: (B,)."""
        used = residuals[0].numel() if self.weights is None else (self.weights > 0.0).sum(dim=(1, 2)).clamp(min=1)
        return residuals.square().sum(dim=(1, 2)) / used

    def subsets(self, count: int) -> "list[Measurement]":
        """The views in `count` ordered subsets; of each n-th view one, so that every subset looks from all sides.

        Raises
        ------
        ValueError
            If there are more subsets than views.
        """
        views = self.line_integrals.shape[1]
        if not 1 <= count <= views:
            raise ValueError(f"{views} views can not be divided into {count} subsets")
        return [self] if count == 1 else [self._of_views(range(start, views, count)) for start in range(count)]

    def _of_views(self, views: range) -> "Measurement":
        chosen = slice(views.start, views.stop, views.step)
        if isinstance(self.projector, DividedProjector):
            weights = None if self.weights is None else self.weights[:, chosen]
            return Measurement(
                self.projector.of_views(views), self.line_integrals[:, chosen], self.attenuation, weights
            )
        weights = torch.zeros_like(self.line_integrals)
        weights[:, chosen] = 1.0 if self.weights is None else self.weights[:, chosen]
        return replace(self, weights=weights)


@dataclass(frozen=True)
class LatentSettings:
    """How the latent is sought."""

    steps: int = 1
    """T, the steps of the chain: each costs one evaluation of the network forth and back. The paper's best is 1."""
    depth: int | None = None
    """Time at which the latent lies; deeper than T, the chain leaves out times. None: T itself, as in the paper."""
    iterations: int = 50
    """Most of them; an iteration takes one subset of the views."""
    learning_rate: float = 3e-2
    """Of Adam, in the range of the latent, where the window is 2 wide."""
    subsets: int = 1
    stop: StopRules = field(default_factory=StopRules)
    noise: float = 1.0
    """Part of the noises that is drawn; 0: the image itself is the latent, and the chain is deterministic."""
    seed: int = 0
    """Of the noises; other seeds make an ensemble whose spread tells how far the prior decided."""
    first_slice: int = 0
    """Number of the first slice of the batch in its volume: the noises of a slice do not depend on its batch."""


@dataclass(frozen=True)
class Trace:
    """What an optimisation went through; (iterations, B)."""

    residuals: Tensor
    """Mean weighted squared residual over the views of the iteration's subset."""
    variances: Tensor
    """Of the last iterates, as the stopping rule sees them; NaN in the first ones."""


@dataclass(frozen=True)
class Reconstruction:
    """What was found, how, and why the search ended."""

    image: Tensor
    """(B, 1, H, W), in the range of the prior."""
    trace: Trace
    reasons: tuple[StopReason, ...]
    """Of each slice."""
    iterations: tuple[int, ...]
    """Number of the iterate that is given back, of each slice, from 1."""


class ShallowMap:
    """f: x_T -> x_0, the reverse chain from a small T with noises that were drawn once; deterministic.

    Each step is the ancestral one (`models.diffusion.ddim_step` with eta = 1), the last one without noise.
    """

    def __init__(self, denoiser: Denoiser, schedule: NoiseSchedule, settings: LatentSettings, like: Tensor) -> None:
        """Draw the noises for slices of the shape (B, 1, H, W), and on the device, of `like`."""
        self.depth = settings.depth or settings.steps
        self._denoiser, self._schedule = denoiser, schedule
        self._times = chain_times(self.depth, settings.steps)
        self._noises = [
            settings.noise * frozen_noise(like, settings.seed, number, settings.first_slice)
            for number in range(len(self._times))
        ]

    def latent_of(self, image: Tensor) -> Tensor:
        """Start of the search: the image (B, 1, H, W) with the frozen noise of the depth, x_T."""
        return q_sample(image, torch.full((len(image),), self.depth), self._noises[0], self._schedule)

    def __call__(self, x_t: Tensor) -> Tensor:
        """The image of a latent (B, 1, H, W); differentiable."""
        for times, fresh in zip(self._times, [*self._noises[1:], None], strict=True):
            if len(self._times) > 1 and torch.is_grad_enabled():
                # Memory then does not grow with T, for one more evaluation of each step.
                x_t = checkpoint(self._step, x_t, times, fresh, use_reentrant=False)
            else:
                x_t = self._step(x_t, times, fresh)
        return x_t

    def _step(self, x_t: Tensor, times: tuple[int, int], fresh: Tensor | None) -> Tensor:
        eps = self._denoiser(x_t, torch.full((len(x_t),), times[0], device=x_t.device))
        x_0 = predicted_x_0(x_t, eps, times[0], self._schedule)
        return ddim_step(x_0, eps, times, self._schedule, eta=1.0, fresh=fresh)


def frozen_noise(like: Tensor, seed: int, number: int, first_slice: int = 0) -> Tensor:
    """N(0, 1) of the shape (B, 1, H, W): the same for the same seed, number and slice, on any device, in any batch."""
    slices = range(first_slice, first_slice + len(like))
    shape = like.shape[1:]
    noises = [np.random.default_rng([seed, number, at]).standard_normal(shape, np.float32) for at in slices]
    return torch.from_numpy(np.stack(noises)).to(like)


def reconstructed(
    measurement: Measurement,
    start: Tensor,
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    settings: LatentSettings,
    progress: Callable[[float, str], None] = lambda done, what: None,
) -> Reconstruction:
    """Search the latent whose image was measured, from an image `start` (B, 1, H, W) such as a backprojection.

    Raises
    ------
    ValueError
        If the settings ask for more steps than times, or for more subsets than views.
    """
    shallow = ShallowMap(denoiser, schedule, settings, start)
    subsets = measurement.subsets(settings.subsets)
    latent = shallow.latent_of(start).detach().clone().requires_grad_()
    adam = torch.optim.Adam([latent], lr=settings.learning_rate)
    stopping = EarlyStopping(settings.stop, len(start))
    residuals: list[Tensor] = []
    variances: list[Tensor] = []
    for iteration in range(settings.iterations):
        image, squares = _descended(shallow, subsets[iteration % len(subsets)], latent, adam)
        residuals.append(squares.cpu())
        # One subset alone would stop at the luck of its views.
        variances.append(stopping.see(image, torch.stack(residuals[-len(subsets) :]).mean(dim=0)))
        progress((iteration + 1) / settings.iterations, "reconstructing")
        if stopping.is_over():
            break
    trace = Trace(torch.stack(residuals), torch.stack(variances))
    return Reconstruction(stopping.image(), trace, tuple(stopping.reasons), tuple(stopping.iterations))


def _descended(
    shallow: ShallowMap, measurement: Measurement, latent: Tensor, adam: torch.optim.Adam
) -> tuple[Tensor, Tensor]:
    """One step of Adam; the image before the step, and its mean weighted squared residuals (B,)."""
    adam.zero_grad(set_to_none=True)
    image = shallow(latent)
    residuals = measurement.residuals(image)
    # The sum, not the mean: a gradient that is divided by the number of rays falls to where Adam's epsilon counts.
    (0.5 * residuals.square().sum()).backward()  # type: ignore[no-untyped-call]
    adam.step()
    return image.detach(), measurement.mean_squares(residuals.detach())
