"""Train the enhancement of MVCT or CBCT: resumable, the same result from the same seed.

Unpaired is the published way, a CycleGAN on slices of different patients; supervised is the same network on simulated
pairs, whose truth is known. The number of updates is fixed, not the number of epochs, so that runs on data sets of
different size compare.
"""

import copy
import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from pydantic import ConfigDict
from torch import Tensor

from models.cyclegan import (
    SUPERVISED,
    Architecture,
    CycleGAN,
    Encoder,
    Features,
    Generator,
    LossWeights,
    Step,
    conversions,
    cycle_loss,
    discriminator_losses,
    forward_conversion,
    generator_losses,
    with_noise,
)
from models.inference import nobody
from models.intensity import body_mask
from models.training.card import SIMULATED, Origin, finished_weights, training_domain
from models.training.checkpoint import (
    module_tensors,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    with_prefix,
    write_checkpoint,
)
from models.training.checks import check_training_data
from models.training.curve import draw_learning_curve
from models.training.gradients import GradientLimit
from models.training.kept_pairs import SimulationProgress, kept_pairs, read_pair
from models.training.pairs import MODALITY_NAMES, Modality, Scans
from models.training.pool import ImagePool
from models.training.slices import Batch, TrainingImage, TrainingSlices, limited, planning_images, sparse_images
from models.training.volumes import TrainingDataError, TrainingVolume, of_split

Progress: TypeAlias = Callable[[float, str], None]
Method: TypeAlias = Literal["unpaired", "supervised"]

_BETAS = (0.5, 0.999)
_RAMP_UPDATES = 200
"""Over so many updates, of a short training over a tenth, the learning rate rises from 0: Adam's first steps are as
large as the rate, however small the gradient."""
_LOGGED = ("warm_up", *(term.name for term in fields(LossWeights)), "discriminators")
_SIMULATION_SHARE = 0.1
"""Part of the progress bar that the simulation of the data takes."""


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides what a training run makes, data aside."""

    # Read from YAML by pydantic: a misspelt setting must not be ignored.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    updates: int = 20_000
    seed: int = 0
    device: str = "cpu"
    slices: int | None = None
    """Number of training slices of each domain; None takes all."""
    batch: int = 4
    crop_pixels: int = 64
    window_hu: tuple[float, float] = (-800.0, 1200.0)
    scans: Scans = field(default_factory=Scans)
    """What is simulated where the data have no real images of the modality."""
    noise_sd_hu: tuple[float, float] = (20.0, 50.0)
    """Range of the noise, with the texture that the scanner has in a uniform phantom, that is given to planning CT
    before it is made into a sparse image."""
    learning_rate: float = 3e-4
    """Of the generators; rises over the first updates, falls to 0 along half a cosine. Discriminators have the same."""
    warm_up_updates: int = 2_000
    """First updates (part of `updates`), in which A -> B only learns to take the scanner's noise off planning CT: the
    backward cycle with an untrained B -> A, which is the identity. An eighth of the work, and a calmer start. Of a
    short training at most three quarters."""
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

    @classmethod
    def of_method(cls, method: Method, modality: Modality = "mvct", **others: Any) -> "TrainingSettings":
        """The settings that each method did best with so far; `others` replace single ones.

        Supervised training knows where the noise is and needs no warm-up; it sees five slices, as the noise of
        neighbours differs and the anatomy hardly.
        """
        preset = cls(scans=Scans(modality))
        if method == "supervised":
            preset = replace(
                preset,
                updates=12_000,
                batch=8,
                warm_up_updates=0,
                learning_rate=6e-4,
                ema_decay=0.998,
                bf16=True,
                architecture=Architecture(channels=32, slices=5),
                losses=SUPERVISED,
            )
        return replace(preset, **others)

    @property
    def method(self) -> Method:
        """Supervised where no loss needs a second generator or a discriminator."""
        return "supervised" if self.losses.is_supervised() else "unpaired"

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
    segmentation: Features | None = None,
) -> Path:
    """Train on the training patients, measure limits on the validation patients; returns the weights file.

    Sparse images are the real ones of the modality among the volumes; where there is none, they are simulated from
    every planning CT. Into `output` go NAME.safetensors, NAME.md, NAME.csv (log), NAME.png (learning curve), the last
    checkpoint and the simulated images. A run that was interrupted goes on from there; when it is done, the folder
    `simulated` may be deleted.

    Raises
    ------
    TrainingDataError
        If the data do not suffice: no training volume, one patient only, fewer slices than a batch, or a loss that
        needs what the data do not have.
    models.cone_beam.ConeBeamUnavailable
        If CBCT have to be simulated and the library for it is not installed.
    """
    used = _used(volumes, settings)
    check_training_data(used, settings.batch, settings.slices, settings.crop_pixels)
    if settings.losses.paired > 0.0 and _real(used, settings):
        raise TrainingDataError("real images have no known truth: supervised training needs planning CT alone")
    output.mkdir(parents=True, exist_ok=True)
    slices, origin = prepared(used, settings, output / SIMULATED, _part(progress, 0.0, _SIMULATION_SHARE))
    if len(slices) < settings.batch:
        raise TrainingDataError(f"{len(slices)} training slices are fewer than a batch of {settings.batch}")
    run = TrainingRun(settings, slices, output / f"{name}.checkpoint.json", output / f"{name}.csv", segmentation)
    run.to_the_end(_part(progress, _SIMULATION_SHARE, 0.95))
    draw_learning_curve(output / f"{name}.csv", output / f"{name}.png")
    return finished_weights(run.average, settings, origin, used, output / f"{name}.safetensors", progress)


def prepared(
    volumes: Sequence[TrainingVolume], settings: TrainingSettings, folder: Path, progress: Progress
) -> tuple[TrainingSlices, Origin]:
    """The two domains of the training patients, real or simulated, and what the sparse images have in common.

    What is simulated is kept in the folder.
    """
    training = of_split(volumes, "train")
    planning = [volume for volume in training if volume.domain == "planning_ct"]
    count = SimulationProgress(len(planning), progress)
    pairs = [read_pair(path) for path in kept_pairs(planning, settings.scans, settings.seed, folder, count)]
    real = _real(training, settings)
    found = [TrainingImage(v.patient_id, v.hu_zyx, body_mask(v.hu_zyx)) for v in real] or sparse_images(pairs)
    sparse, ct = (limited(images, settings.slices, settings.seed) for images in (found, planning_images(pairs)))
    drawn = TrainingSlices(sparse, ct, settings.window_hu, settings.crop_pixels, settings.architecture.slices)
    name = MODALITY_NAMES[settings.scans.modality]
    spacings = [volume.spacing_zyx_mm for volume in real or [pair.volume for pair in pairs]]
    return drawn, Origin(training_domain(name if real else f"simulated {name}", sparse, spacings), not real)


def _used(volumes: Sequence[TrainingVolume], settings: TrainingSettings) -> list[TrainingVolume]:
    """Planning CT and the real images of the modality; what another machine took is of no use here."""
    return [volume for volume in volumes if volume.domain in ("planning_ct", settings.scans.modality)]


def _real(volumes: Sequence[TrainingVolume], settings: TrainingSettings) -> list[TrainingVolume]:
    return [volume for volume in volumes if volume.domain == settings.scans.modality]


class TrainingRun:
    """One training: networks, optimisers, random numbers; everything that a checkpoint holds."""

    def __init__(
        self,
        settings: TrainingSettings,
        slices: TrainingSlices,
        checkpoint: Path,
        log: Path,
        segmentation: Features | None = None,
    ) -> None:
        if settings.losses.segmentation > 0.0 and segmentation is None:
            raise TrainingDataError("the loss segmentation has a weight, but no segmentation network is given")
        if settings.losses.perceptual > 0.0 and not settings.warm_up():
            raise TrainingDataError("the loss perceptual has a weight, but no warm-up makes its features")
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
        self._limits: dict[torch.optim.Optimizer, GradientLimit] = {
            optimiser: GradientLimit() for optimiser in (self._generators, self._discriminators)
        }
        self._rng = np.random.default_rng(settings.seed)
        self._pool = ImagePool(settings.pool_images)
        self._segmentation = segmentation
        self._perceptual: Encoder | None = None
        """Encoder as the warm-up left it; only where its loss has a weight."""
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
        batch = self._slices.batch(self._settings.batch, self._rng)
        if self._update < self._settings.warm_up():
            return self._denoising_update(batch)
        if self._perceptual is None and self._settings.losses.perceptual > 0.0:
            self._perceptual = copy.deepcopy(self._model.encoder_a).requires_grad_(False)
        if self._settings.method == "supervised":
            return self._supervised_update(batch)
        return self._adversarial_update(batch)

    def _noise(self, batch: Batch) -> Tensor:
        """Noise of a random strength within the settings, in units of the window."""
        span_hu = self._settings.window_hu[1] - self._settings.window_hu[0]
        return batch.noise.to(self._device) * (2.0 / span_hu * self._rng.uniform(*self._settings.noise_sd_hu))

    def _denoising_update(self, batch: Batch) -> Mapping[str, Tensor]:
        y = batch.y.to(self._device)
        with self._autocast():
            loss = cycle_loss(self._model.a_to_b(with_noise(y, self._noise(batch))), y)
        self._descend(self._generators, loss)
        self._follow()
        return {"warm_up": loss}

    def _supervised_update(self, batch: Batch) -> Mapping[str, Tensor]:
        with self._autocast():
            step = forward_conversion(self._model, batch.x.to(self._device), batch.y.to(self._device))
            losses = generator_losses(self._model, self._with_targets(step, batch), self._settings.losses)
        self._descend(self._generators, torch.stack(list(losses.values())).sum())
        self._follow()
        return losses

    def _adversarial_update(self, batch: Batch) -> Mapping[str, Tensor]:
        x, y = batch.x.to(self._device), batch.y.to(self._device)
        with self._autocast():
            step = conversions(self._model, x, y, self._noise(batch))
            losses = generator_losses(self._model, self._with_targets(step, batch), self._settings.losses)
        self._descend(self._generators, torch.stack(list(losses.values())).sum())
        fakes = self._pool.exchanged((step.x_fake.detach(), step.y_fake.detach()), self._rng)
        with self._autocast():
            loss = discriminator_losses(self._model, (x, y), fakes)
        self._descend(self._discriminators, loss)
        self._follow()
        return {**losses, "discriminators": loss}

    def _with_targets(self, step: Step, batch: Batch) -> Step:
        truth = None if batch.truth is None else batch.truth.to(self._device)
        return replace(step, truth=truth, perceptual=self._perceptual, segmentation=self._segmentation)

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        # The generators' loss also reaches the discriminators' parameters; their gradients are dropped here.
        self._model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._limits[optimiser].apply(optimiser.param_groups[0]["params"])
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
        rate *= min(1.0, (self._update + 1) / max(1, min(_RAMP_UPDATES, self._settings.updates // 10)))
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
            **({} if self._perceptual is None else module_tensors("perceptual", self._perceptual)),
        }
        write_checkpoint(self._checkpoint, tensors, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "settings_sha256": self._settings.sha256(),
            "update": self._update,
            "rng": self._rng.bit_generator.state,
            "sums": self._sums,
            "usual_gradients": [limit.usual for limit in self._limits.values()],
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
        if self._settings.losses.perceptual > 0.0 and state["update"] > self._settings.warm_up():
            self._perceptual = copy.deepcopy(self._model.encoder_a).requires_grad_(False)
            self._perceptual.load_state_dict(with_prefix("perceptual", tensors))
        for limit, usual in zip(self._limits.values(), state["usual_gradients"], strict=True):
            limit.usual = usual
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
