"""The card of a freshly trained diffusion prior: what it was trained on, and how much noise it takes away."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from models.diffusion import METHOD, Architecture, DiffusionPrior, load_prior, predicted_x_0, q_sample
from models.weights import TrainingDomain, save, write_card

JUDGED_TIMES = (1, 10, 50, 100, 300)
"""Times at which the prior has to take noise off slices that it never saw."""

_TEXT = """\
# {name}

**A prior of planning CT for reconstruction from few views. By itself it knows nothing about a patient.**

## Intended use

Research. Predicts the noise in a CT slice (models/diffusion.py), for models/latent_reconstruction.py.

## Data

{patients} training patients, {slices} slices; {updates} updates of {batch} crops of {crop} pixels, seed {seed}.

## Metrics: noise taken away

{judged}

## Stability limits

None: a prior is not released, what is reconstructed with it is. Those limits belong to the pipeline's own card.
"""
_NOBODY = "Not measured: there was no validation patient."
_TABLE = """\
Root mean square error over crops of the validation patients.

| time | noise, HU | left, HU |
|---|---|---|
"""


class _Settings(Protocol):
    """What the card says about a training."""

    @property
    def updates(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def crop_pixels(self) -> int: ...
    @property
    def window_hu(self) -> tuple[float, float]: ...
    @property
    def architecture(self) -> Architecture: ...


def finished_prior(
    network: nn.Module, settings: _Settings, domain: TrainingDomain, validation: Sequence[Tensor], path: Path
) -> Path:
    """Write weights and card; what the card states is measured with the weights as they were written.

    `validation` are batches of crops (B, 1, H, W) of patients that were not trained on; without any, the card says so.
    """
    facts = {
        "method": METHOD,
        "architecture": asdict(settings.architecture),
        "window_hu": settings.window_hu,
        "training_domain": domain,
    }
    card = save(path, network.state_dict(), facts, "")
    metrics = noise_taken_away(load_prior(str(path)), validation) if validation else {}
    text = _TEXT.format(
        name=card.name,
        patients=domain.patients,
        slices=domain.slices,
        updates=settings.updates,
        batch=settings.batch,
        crop=settings.crop_pixels,
        seed=settings.seed,
        judged=_table(metrics) if metrics else _NOBODY,
    )
    write_card(path.with_suffix(".md"), card.model_copy(update={"metrics": metrics, "text": text}))
    return path


@torch.inference_mode()
def noise_taken_away(prior: DiffusionPrior, batches: Sequence[Tensor]) -> dict[str, float]:
    """Root mean square in HU of the noise at each judged time, and of what the predicted clean image is wrong by.

    Names are noise_tTIME_hu and left_tTIME_hu. Of an image that is nothing but noise to the prior the two are equal.
    """
    low_hu, high_hu = prior.card.window_hu
    metrics: dict[str, float] = {}
    for time in (time for time in JUDGED_TIMES if time <= prior.schedule.steps):
        squares = torch.stack([_squared_error(prior, batch, time, number) for number, batch in enumerate(batches)])
        scale_hu = (high_hu - low_hu) / 2.0
        relative = prior.schedule.noise(time) / prior.schedule.signal(time)
        metrics[f"noise_t{time}_hu"] = float(f"{relative * scale_hu:.4g}")
        metrics[f"left_t{time}_hu"] = float(f"{float(squares.mean().sqrt()) * scale_hu:.4g}")
    return metrics


def _squared_error(prior: DiffusionPrior, x_0: Tensor, time: int, seed: int) -> Tensor:
    """Mean square of the predicted clean image minus the true one, for one noise of that seed."""
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed))
    times = torch.full((len(x_0),), time)
    x_t = q_sample(x_0, times, eps, prior.schedule)
    return (predicted_x_0(x_t, prior(x_t, times), time, prior.schedule) - x_0).square().mean()


def _table(metrics: Mapping[str, float]) -> str:
    times = [name.removeprefix("noise_t").removesuffix("_hu") for name in metrics if name.startswith("noise_t")]
    rows = [f"| {time} | {metrics[f'noise_t{time}_hu']:.3g} | {metrics[f'left_t{time}_hu']:.3g} |" for time in times]
    return _TABLE + "\n".join(rows)
