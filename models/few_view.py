"""CT from few views: iterative reconstruction over the latent of a shallow diffusion model, whole method.

Each slice begins with a short iterative reconstruction with total variation. Its latent x_T is the image itself with a
part of the noise of the depth, drawn once and kept; the reverse chain f of the prior makes an image of it, and the
latent is moved until f(x_T) explains the measured rays:

    x_T <- x_T + (d(f(x_T)) - f(x_T)),    image = d(f(x_T))

with d(x) some steps from x towards the data (`models.data_step`). It is a Gauss-Newton step for the misfit of f(x_T) in
which the derivative of f, near 1 for a shallow chain, is taken to be 1: it needs no step back through the network, and
ten of them came nearer to the data than sixty of Adam's (`models.latent_reconstruction`, the method as published).
Like that method it learns the image first and the noise later, so it has to be stopped: where the misfit is what noise
leaves, or, where the noise is not known, where the iterates move least.

The same is done with several draws of the noise. Their mean is the result; their spread says where the prior decided.

References
----------
Ozaki et al., 2024, arXiv 2408.03156; Wang et al., NeurIPS 2024, arXiv 2405.16749
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from models.data_step import MeasuredRays, nearest_to_data
from models.diffusion import DiffusionPrior
from models.early_stopping import EarlyStopping, StopReason, StopRules
from models.iterative import Images, Iterations
from models.latent_reconstruction import Attenuation, LatentSettings, ShallowMap
from models.scan_geometry import Floats
from models.tv_reconstruction import tv_reconstructed

_DEPTH_TIMES_VIEWS = 1600
_SHALLOWEST, _DEEPEST = 10, 60


@dataclass(frozen=True)
class FewViewSettings:
    """How slices are reconstructed; what is not said otherwise was chosen on patients that nothing is tested on."""

    steps: int = 1
    """T, evaluations of the network in the chain."""
    depth: int | None = None
    """Time that the chain begins at; None: the deeper, the fewer views there are (`depth_for`)."""
    noise: float = 0.3
    """Part of the noise of the depth that is drawn."""
    seeds: int = 4
    """Draws of the noise."""
    first_seed: int = 0
    iterations: int = 30
    """Most of them."""
    data_iterations: int = 8
    """Steps towards the data in each."""
    trust: float = 2.0
    """Standard deviation that d leaves to f(x_T), as a multiple of that of the noise of the depth."""
    stop: StopRules = field(default_factory=lambda: StopRules(noise_level=1.35, patience=None))
    """Nearer to the noise small lesions keep more of their contrast, but more blobs come up that are none. Not 1, as
    pixels explain a patient, and one ray a detector element, only so well."""
    tv_weight_mm: float = 350.0
    tv_iterations: int = 80
    batch: int = 8
    """Slices times seeds that are computed together."""

    def depth_for(self, views: int) -> int:
        """The depth for slices with so many views.

        A scan with half as many views leaves about twice as much to the prior: on the patients it was chosen on, the
        best depth was 20 with 80 views and 40 with 40; with 20 views 40 was better than 20. The bounds were not tried.
        """
        if self.depth is not None:
            return self.depth
        return int(np.clip(round(_DEPTH_TIMES_VIEWS / views), max(_SHALLOWEST, self.steps), _DEEPEST))


@dataclass(frozen=True)
class FewViewResult:
    """Slices as reconstructed."""

    images: Images
    """Mean over the seeds, [slice, row, column] in 1/mm."""
    spread: Images
    """Standard deviation over the seeds, of the same shape, in 1/mm; 0 where there is one seed."""
    reasons: tuple[StopReason, ...]
    """Why the last seed of each slice stopped."""
    iterations: tuple[float, ...]
    """Of each slice, mean over the seeds."""


def reconstructed(
    measured: MeasuredRays,
    prior: DiffusionPrior,
    water_per_mm: float,
    settings: FewViewSettings,
    progress: Callable[[float, str], None] = lambda done, what: None,
    first_slice: int = 0,
) -> FewViewResult:
    """Reconstruct slices; the noises of a slice come from its place after the first one, not from its batch.

    Raises
    ------
    ValueError
        If the rays do not fit the scan, or the chain has more steps than times.
    """
    slices = len(measured.line_integrals)
    together = max(1, settings.batch // settings.seeds)
    parts: list[FewViewResult] = []
    for start in range(0, slices, together):
        chosen = slice(start, min(start + together, slices))
        parts.append(_batch(measured.of(chosen), prior, water_per_mm, settings, first_slice + start))
        progress(chosen.stop / slices, "reconstructing")
    return FewViewResult(
        images=np.concatenate([part.images for part in parts]),
        spread=np.concatenate([part.spread for part in parts]),
        reasons=tuple(reason for part in parts for reason in part.reasons),
        iterations=tuple(number for part in parts for number in part.iterations),
    )


def _batch(
    measured: MeasuredRays, prior: DiffusionPrior, water_per_mm: float, settings: FewViewSettings, first_slice: int
) -> FewViewResult:
    start = tv_reconstructed(
        measured.projector,
        measured.line_integrals,
        measured.inverse_variance,
        settings.tv_weight_mm,
        Iterations(settings.tv_iterations),
    )
    scale = Attenuation.of_window(prior.card.window_hu, water_per_mm)
    stopped = _descended(measured.repeated(settings.seeds), start, prior, scale, settings, first_slice)
    found = _per_mm(stopped.image(), scale).reshape(len(start), settings.seeds, *start.shape[1:])
    return FewViewResult(
        images=found.mean(axis=1),
        spread=found.std(axis=1, ddof=1) if settings.seeds > 1 else np.zeros_like(start),
        reasons=tuple(stopped.reasons[settings.seeds - 1 :: settings.seeds]),
        iterations=tuple(np.reshape(stopped.iterations, (len(start), settings.seeds)).mean(axis=1).tolist()),
    )


@torch.inference_mode()
def _descended(
    measured: MeasuredRays,
    start: Images,
    prior: DiffusionPrior,
    scale: Attenuation,
    settings: FewViewSettings,
    first_slice: int,
) -> EarlyStopping:
    """Every seed of every slice, the seeds of a slice together; images are in the range of the prior."""
    settings = replace(settings, depth=settings.depth_for(measured.projector.geometry.views))
    chain = _SeededMap(prior, settings, torch.from_numpy(_in_range(start, scale)), first_slice)
    curvature = measured.curvature()
    sd_per_mm = settings.trust * scale.slope * prior.schedule.noise(chain.depth)
    stopping = EarlyStopping(settings.stop, len(measured.line_integrals))
    latent = chain.latent
    for _ in range(settings.iterations):
        image = chain(latent)
        guess = _per_mm(image, scale)
        found = nearest_to_data(measured, guess, sd_per_mm, settings.data_iterations, curvature)
        stopping.see(torch.from_numpy(_in_range(found, scale)), torch.from_numpy(measured.chi_squared(found)))
        if stopping.is_over():
            break
        latent = latent + torch.from_numpy((found - guess)[:, None] / np.float32(scale.slope)) * chain.signal
    return stopping


class _SeededMap:
    """The shallow maps of several seeds, side by side: entry n of a batch is seed n modulo their number."""

    def __init__(self, prior: DiffusionPrior, settings: FewViewSettings, start: Tensor, first_slice: int) -> None:
        self._maps = [
            ShallowMap(
                prior,
                prior.schedule,
                LatentSettings(
                    steps=settings.steps,
                    depth=settings.depth,
                    seed=settings.first_seed + number,
                    first_slice=first_slice,
                    noise=settings.noise,
                ),
                start,
            )
            for number in range(settings.seeds)
        ]
        self.depth = self._maps[0].depth
        self.signal = prior.schedule.signal(self.depth)
        """What a change of the image is multiplied by in the latent."""
        self.latent = self._interleaved([one.latent_of(start) for one in self._maps])

    def __call__(self, latent: Tensor) -> Tensor:
        """(slices x seeds, 1, H, W) -> the same."""
        seeds = len(self._maps)
        return self._interleaved([one(latent[number::seeds]) for number, one in enumerate(self._maps)])

    @staticmethod
    def _interleaved(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts, dim=1).flatten(0, 1)


def residuals_by_view(measured: MeasuredRays, images: Images) -> Floats:
    """Square root of the mean of (A x - y)^2 / variance over the rays of each view: (slice, view); 1 is the noise."""
    used = np.maximum(np.count_nonzero(measured.inverse_variance, axis=2), 1)
    return np.asarray(np.sqrt(measured.squares(images).sum(axis=2, dtype=np.float64) / used))


def _in_range(images: Images, scale: Attenuation) -> Images:
    """1/mm to the range of the prior: (slice, row, column) -> (slice, 1, row, column); metal lies above 1."""
    return (images[:, None] - np.float32(scale.offset)) / np.float32(scale.slope)


def _per_mm(images: Tensor, scale: Attenuation) -> Images:
    """Range of the prior to 1/mm: (slice, 1, row, column) -> (slice, row, column)."""
    return np.asarray(images[:, 0].numpy() * np.float32(scale.slope) + np.float32(scale.offset), np.float32)
