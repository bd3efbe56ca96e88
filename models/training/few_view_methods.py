"""The methods that are compared on the same scans of few views, each with one set of parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from models import fbp, few_view, latent_reconstruction
from models.diffusion import DiffusionPrior
from models.diffusion_sampling import DdsSettings, SamplingSettings, dds, denoised_from
from models.early_stopping import StopRules
from models.few_view import FewViewSettings
from models.iterative import Images, Iterations, ordered_subsets, view_subsets
from models.latent_reconstruction import Attenuation, LatentSettings, Measurement
from models.scan_projector import ScanProjector, line_integrals
from models.training.few_view_scans import ScannedSlices
from models.tv_reconstruction import tv_reconstructed

Reconstruct: TypeAlias = Callable[[ScannedSlices], Images]
"""Images in 1/mm, [slice, row, column]."""

FBP_RAMP, FBP_HANN, IR, TV = "fbp_ramp", "fbp_hann", "ir", "tv"
PRIOR, DDS, PUBLISHED, OURS = "prior", "dds", "published", "ours"

TITLES: Mapping[str, str] = {
    "truth": "truth",
    "fbp_ramp": "FBP, Ram-Lak",
    "fbp_hann": "FBP, Hann",
    "ir": "IR",
    "tv": "IR + TV",
    "prior": "prior alone (DDPM)",
    "dds": "DDS",
    "published": "published descent",
    "ours": "ours, T = 1",
}
"""In tables and pictures, in their order."""

_SUBSETS = 8


@dataclass(frozen=True)
class Method:
    """One method as it is run."""

    name: str
    parameters: str
    """In words; empty where there are none."""
    run: Reconstruct


def title(method: str) -> str:
    """Name in tables and pictures."""
    return TITLES.get(method, method.replace("ours_t", "ours, T = "))


def fbp_with(hann: bool) -> Method:
    """Filtered backprojection with the ramp alone or damped by a Hann window."""
    return Method(
        FBP_HANN if hann else FBP_RAMP,
        "",
        lambda scan: fbp.reconstructed(scan.measured.line_integrals, scan.geometry, hann),
    )


def iterative(iterations: int) -> Method:
    """Weighted least squares over ordered subsets, stopped where it explains the data down to their noise."""

    def run(scan: ScannedSlices) -> Images:
        subsets = view_subsets(scan.measured.projector, min(_SUBSETS, scan.geometry.views))
        settings = Iterations(iterations, until_chi_squared=1.0)
        return ordered_subsets(subsets, scan.measured.line_integrals, settings, scan.measured.inverse_variance)

    return Method(IR, f"{_SUBSETS} subsets, until chi squared 1 or {iterations} iterations", run)


def total_variation(weight_mm: float, iterations: int) -> Method:
    """Iterative with total variation."""

    def run(scan: ScannedSlices) -> Images:
        measured = scan.measured
        return tv_reconstructed(
            measured.projector,
            measured.line_integrals,
            measured.inverse_variance,
            weight_mm,
            Iterations(iterations),
        )

    return Method(TV, f"{weight_mm:g} mm, {iterations} iterations", run)


def prior_alone(prior: DiffusionPrior, depth: int, steps: int, seed: int) -> Method:
    """DDPM from the filtered backprojection with noise, without a look at the data."""
    steps = min(steps, depth)
    settings = SamplingSettings(depth, steps, seed=seed)

    def run(scan: ScannedSlices) -> Images:
        start = fbp.reconstructed(scan.measured.line_integrals, scan.geometry, hann=True)
        scale = _scale(prior, scan)
        image = denoised_from(_in_range(start, scale).clamp(-1.0, 1.0), prior, prior.schedule, settings)
        return _per_mm(image, scale)

    return Method(PRIOR, f"depth {depth}, {steps} steps", run)


def decomposed_sampling(prior: DiffusionPrior, data_weight: float, steps: int, seed: int) -> Method:
    """DDS from noise alone."""
    chain = replace(DdsSettings().chain, depth=prior.schedule.steps, steps=steps, seed=seed)
    settings = DdsSettings(chain, data_weight=data_weight)

    def run(scan: ScannedSlices) -> Images:
        start = fbp.reconstructed(scan.measured.line_integrals, scan.geometry, hann=True)
        scale = _scale(prior, scan)
        image = dds(_measurement(prior, scan), _in_range(start, scale), prior, prior.schedule, settings)
        return _per_mm(image, scale)

    words = f"{steps} steps of {settings.conjugate_gradients} conjugate gradients, data weight {data_weight:g}"
    return Method(DDS, words, run)


def published_descent(prior: DiffusionPrior, iterations: int, start: Method, seed: int) -> Method:
    """Adam over the latent through the network, T = 1, from the images of another method."""
    stop = StopRules(noise_level=1.0, patience=None)
    settings = LatentSettings(iterations=iterations, stop=stop, seed=seed)

    def run(scan: ScannedSlices) -> Images:
        scale = _scale(prior, scan)
        first = _in_range(start.run(scan), scale)
        found = latent_reconstruction.reconstructed(_measurement(prior, scan), first, prior, prior.schedule, settings)
        return _per_mm(found.image, scale)

    return Method(PUBLISHED, f"T = 1, {iterations} iterations of Adam from {start.name}", run)


def ours(prior: DiffusionPrior, settings: FewViewSettings, steps: int) -> Method:
    """The method under test with T steps."""
    settings = replace(settings, steps=steps)

    def run(scan: ScannedSlices) -> Images:
        return few_view.reconstructed(scan.measured, prior, scan.exposure.water_per_mm, settings).images

    words = f"T = {steps}, {settings.seeds} seeds, at most {settings.iterations} iterations"
    return Method(OURS if steps == 1 else f"{OURS}_t{steps}", words, run)


class _TensorProjector:
    """The projector of a scan as torch differentiates it."""

    def __init__(self, projector: ScanProjector) -> None:
        self._projector = projector

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) in 1/mm -> (B, views, detectors)."""
        return line_integrals(image, self._projector)


def _measurement(prior: DiffusionPrior, scan: ScannedSlices) -> Measurement:
    rays, weights = (
        torch.from_numpy(np.ascontiguousarray(part))
        for part in (scan.measured.line_integrals, scan.measured.inverse_variance)
    )
    return Measurement(_TensorProjector(scan.measured.projector), rays, _scale(prior, scan), weights)


def _scale(prior: DiffusionPrior, scan: ScannedSlices) -> Attenuation:
    return Attenuation.of_window(prior.card.window_hu, scan.exposure.water_per_mm)


def _in_range(images: Images, scale: Attenuation) -> Tensor:
    """1/mm (slice, row, column) to the range of the prior (slice, 1, row, column)."""
    return torch.from_numpy((images[:, None] - np.float32(scale.offset)) / np.float32(scale.slope))


def _per_mm(images: Tensor, scale: Attenuation) -> Images:
    return np.asarray(images[:, 0].numpy() * np.float32(scale.slope) + np.float32(scale.offset), np.float32)
