"""Train MVCT enhancement: a CycleGAN on unpaired slices, resumable, the same result from the same seed.

The number of updates is fixed, not the number of epochs, so that runs on data sets of different size compare.
"""

import copy
import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.cyclegan import (
    Architecture,
    CycleGAN,
    Generator,
    LossWeights,
    conversions,
    cycle_loss,
    discriminator_losses,
    generator_losses,
    with_noise,
)
from models.inference import nobody
from models.training.card import finished_weights
from models.training.checkpoint import (
    module_tensors,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    with_prefix,
    write_checkpoint,
)
from models.training.curve import draw_learning_curve
from models.training.pairs import UnpairedSlices, simulated_pairs
from models.training.pool import ImagePool
from models.training.volumes import TrainingDataError, TrainingVolume, of_split

Progress = Callable[[float, str], None]

_BETAS = (0.5, 0.999)
_LARGEST_GRADIENT = 1.0
_LOGGED = (*(term.name for term in fields(LossWeights)), "discriminators")
_SIMULATION_SHARE = 0.1
"""Part of the progress bar that the simulation of the data takes."""


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides what a training run makes, data aside."""

    updates: int = 20_000
    seed: int = 0
    device: str = "cpu"
    slices: int | None = None
    """Number of training slices of each domain; None takes all."""
    batch: int = 4
    crop_pixels: int = 64
    window_hu: tuple[float, float] = (-800.0, 1200.0)
    noise_sd_hu: tuple[float, float] = (20.0, 50.0)
    """Range of the noise of the simulated MVCT, one value per patient; and of the noise, with the texture that this
    scanner has in a uniform phantom, that is given to planning CT before it is made into MVCT."""
    learning_rate: float = 3e-4
    """Of the generators; falls to 0 along half a cosine. The discriminators have the same."""
    warm_up_updates: int = 2_000
    """First updates (part of `updates`), in which A -> B only learns to take MVCT noise off planning CT: the backward
    cycle with an untrained B -> A, which is the identity. An eighth of the work, and a calmer start. Of a short
    training at most three quarters."""
    warm_up_learning_rate: float = 5e-4
    pool_images: int = 64
    ema_decay: float = 0.995
    """The shipped generator is the moving average of the trained one; this is kept of it with each update."""
    bf16: bool = False
    log_every: int = 50
    checkpoint_every: int = 500
    working_spacing_mm: float | None = None
    architecture: Architecture = field(default_factory=Architecture)
    losses: LossWeights = field(default_factory=LossWeights)

    def warm_up(self) -> int:
        """Number of updates that only take noise off."""
        return min(self.warm_up_updates, 3 * self.updates // 4)

    def sha256(self) -> str:
        """Digest of all settings; a checkpoint is continued only by the run that wrote it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def train(
    volumes: Sequence[TrainingVolume],
    settings: TrainingSettings,
    output: Path,
    name: str,
    progress: Progress = nobody,
) -> Path:
    """Train on the training patients, measure limits on the validation patients; returns the weights file.

    Into `output` go NAME.safetensors, NAME.md, NAME.csv (log), NAME.png (learning curve) and the last checkpoint. A
    run that was interrupted goes on from there.

    Raises
    ------
    TrainingDataError
        If the data do not suffice: no training volume, one patient only, or fewer slices than a batch.
    """
    train_volumes = of_split(volumes, "train")
    if not train_volumes:
        raise TrainingDataError("there is no training volume")
    output.mkdir(parents=True, exist_ok=True)
    simulation = _part(progress, 0.0, _SIMULATION_SHARE)
    pairs = simulated_pairs(train_volumes, settings.noise_sd_hu, settings.seed, simulation)
    slices = UnpairedSlices(pairs, settings.window_hu, settings.crop_pixels, settings.slices)
    if len(slices) < settings.batch:
        raise TrainingDataError(f"{len(slices)} training slices are fewer than a batch of {settings.batch}")
    run = TrainingRun(settings, slices, output / f"{name}.checkpoint.json", output / f"{name}.csv")
    run.to_the_end(_part(progress, _SIMULATION_SHARE, 0.95))
    draw_learning_curve(output / f"{name}.csv", output / f"{name}.png")
    return finished_weights(run.average, settings, pairs, volumes, output / f"{name}.safetensors", progress)


class TrainingRun:
    """One training: networks, optimisers, random numbers; everything that a checkpoint holds."""

    def __init__(self, settings: TrainingSettings, slices: UnpairedSlices, checkpoint: Path, log: Path) -> None:
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._slices = slices
        self._checkpoint = checkpoint
        self._log = log
        self._device = torch.device(settings.device)
        self._model = CycleGAN(settings.architecture).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: Generator = copy.deepcopy(self._model.a_to_b).requires_grad_(False)
        """Moving average of the generator A -> B: what is shipped."""
        self._generators = self._adam(self._model.generator_parameters())
        self._discriminators = self._adam(self._model.discriminator_parameters())
        self._rng = np.random.default_rng(settings.seed)
        self._pool = ImagePool(settings.pool_images)
        self._update = 0
        self._sums: dict[str, float] = {}
        self._restore()

    def to_the_end(self, progress: Progress) -> None:
        """All updates that are left."""
        while self._update < self._settings.updates:
            losses = self._one_update()
            self._update += 1
            self._log_row(losses)
            if self._update % self._settings.checkpoint_every == 0 or self._update == self._settings.updates:
                self._save()
            progress(self._update / self._settings.updates, "training")

    def _one_update(self) -> Mapping[str, Tensor]:
        self._set_learning_rate()
        x, y, noise = self._drawn()
        if self._update < self._settings.warm_up():
            return self._denoising_update(y, noise)
        return self._adversarial_update(x, y, noise)

    def _drawn(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draw x, y and noise for y, each (B, 1, H, W), in units of the window."""
        x, y, noise = (image.to(self._device) for image in self._slices.batch(self._settings.batch, self._rng))
        span_hu = self._settings.window_hu[1] - self._settings.window_hu[0]
        return x, y, noise * (2.0 / span_hu * self._rng.uniform(*self._settings.noise_sd_hu))

    def _denoising_update(self, y: Tensor, noise: Tensor) -> Mapping[str, Tensor]:
        with self._autocast():
            loss = self._settings.losses.cycle_b * cycle_loss(self._model.a_to_b(with_noise(y, noise)), y)
        self._descend(self._generators, loss)
        self._follow()
        return {"cycle_b": loss}

    def _adversarial_update(self, x: Tensor, y: Tensor, noise: Tensor) -> Mapping[str, Tensor]:
        with self._autocast():
            step = conversions(self._model, x, y, noise)
            losses = generator_losses(self._model, step, self._settings.losses)
        self._descend(self._generators, torch.stack(list(losses.values())).sum())
        fakes = self._pool.exchanged((step.x_fake.detach(), step.y_fake.detach()), self._rng)
        with self._autocast():
            loss = discriminator_losses(self._model, (x, y), fakes)
        self._descend(self._discriminators, loss)
        self._follow()
        return {**losses, "discriminators": loss}

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        # The generators' loss also reaches the discriminators' parameters; their gradients are dropped here.
        self._model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        # One wild batch could push every output to the end of the range, where no gradient brings it back.
        torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], _LARGEST_GRADIENT)
        optimiser.step()

    def _follow(self) -> None:
        """Set average to decay * average + (1 - decay) * trained; the decay starts low so that early weights fade."""
        decay = min(self._settings.ema_decay, (1.0 + self._update) / (10.0 + self._update))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self._model.a_to_b.parameters(), strict=True):
                slow.lerp_(fast, 1.0 - decay)

    def _set_learning_rate(self) -> None:
        rate = self._settings.warm_up_learning_rate
        if (past := self._update - self._settings.warm_up()) >= 0:
            whole = max(self._settings.updates - self._settings.warm_up(), 1)
            rate = self._settings.learning_rate * 0.5 * (1.0 + np.cos(np.pi * past / whole))
        for optimiser in (self._generators, self._discriminators):
            optimiser.param_groups[0]["lr"] = float(rate)

    def _adam(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, lr=self._settings.learning_rate, betas=_BETAS)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.bf16)

    def _log_row(self, losses: Mapping[str, Tensor]) -> None:
        """Add to the running means; a row of the CSV log every `log_every` updates."""
        for term, loss in losses.items():
            self._sums[term] = self._sums.get(term, 0.0) + float(loss.detach())
        if self._update % self._settings.log_every:
            return
        means = {term: f"{total / self._settings.log_every:.5f}" for term, total in self._sums.items()}
        row = {"update": self._update, **{term: means.get(term, "") for term in _LOGGED}}
        self._sums = {}
        is_new = not self._log.exists()
        with self._log.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)

    def _save(self) -> None:
        tensors = {
            **module_tensors("model", self._model),
            **module_tensors("average", self.average),
            **optimiser_tensors("generators", self._generators),
            **optimiser_tensors("discriminators", self._discriminators),
            **self._pool.tensors("pool"),
        }
        write_checkpoint(self._checkpoint, tensors, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "settings_sha256": self._settings.sha256(),
            "update": self._update,
            "rng": self._rng.bit_generator.state,
            "sums": self._sums,
        }

    def _restore(self) -> None:
        """Go on from the checkpoint; without one of these settings, begin anew with an empty log."""
        found = read_checkpoint(self._checkpoint)
        if found is None or found[1]["settings_sha256"] != self._settings.sha256():
            self._log.unlink(missing_ok=True)
            return
        tensors, state = found
        self._model.load_state_dict(with_prefix("model", tensors))
        self.average.load_state_dict(with_prefix("average", tensors))
        restore_optimiser("generators", self._generators, tensors)
        restore_optimiser("discriminators", self._discriminators, tensors)
        self._pool.restore("pool", tensors, self._device)
        self._rng.bit_generator.state = state["rng"]
        self._update, self._sums = state["update"], state["sums"]
        _cut_log(self._log, self._update)


def _cut_log(log: Path, last_update: int) -> None:
    """Drop the rows that were written after the checkpoint."""
    if not log.exists():
        return
    header, *rows = log.read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if int(row.split(",", 1)[0]) <= last_update]
    log.write_text("\n".join([header, *kept, ""]), encoding="utf-8")


def _part(progress: Progress, start: float, stop: float) -> Progress:
    """The progress of one part of the work, within the whole."""
    return lambda done, what: progress(start + (stop - start) * done, what)
