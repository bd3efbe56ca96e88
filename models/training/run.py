"""One training of the enhancement, update by update: networks, optimisers, random numbers, and their checkpoint."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from models.cyclegan import (
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
from models.training.checkpoint import RunFiles, module_tensors, optimiser_tensors, restore_optimiser, with_prefix
from models.training.gradients import GradientLimit
from models.training.log import TrainingLog
from models.training.pool import ImagePool
from models.training.progress import Progress
from models.training.settings import TrainingSettings
from models.training.slices import Batch, TrainingSlices

log = logging.getLogger(__name__)

_BETAS = (0.5, 0.999)
_RAMP_UPDATES = 200
"""Over so many updates, of a short training over a tenth, the learning rate rises from 0: Adam's first steps are as
large as the rate, however small the gradient."""
_LOGGED = ("warm_up", *(term.name for term in fields(LossWeights)), "discriminators")


class TrainingRun:
    """One training: networks, optimisers, random numbers; everything that a checkpoint holds."""

    def __init__(
        self,
        settings: TrainingSettings,
        slices: TrainingSlices,
        files: RunFiles,
        segmentation: Features | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._slices = slices
        self._files = files
        self._device = torch.device(settings.device)
        networks = CycleGAN(settings.architecture, window_hu=settings.window_hu)
        self._model = networks.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
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
        self._log = TrainingLog(files.log, _LOGGED)
        self._restore()

    def to_the_end(self, progress: Progress) -> None:
        """All updates that are left."""
        while self._update < self._settings.updates:
            losses = self._one_update()
            self._update += 1
            self._log.add({term: float(loss.detach()) for term, loss in losses.items()})
            if self._update % self._settings.log_every == 0:
                self._log.write_row(self._update)
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
        if self._limits[optimiser].apply(optimiser.param_groups[0]["params"]):
            optimiser.step()
        else:
            log.warning("update left out: its gradient is not finite", extra={"update": self._update})

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

    def _save(self) -> None:
        tensors = {
            **module_tensors("model", self._model),
            **module_tensors("average", self.average),
            **optimiser_tensors("generators", self._generators),
            **optimiser_tensors("discriminators", self._discriminators),
            **self._pool.tensors("pool"),
            **({} if self._perceptual is None else module_tensors("perceptual", self._perceptual)),
        }
        state = {
            "update": self._update,
            "rng": self._rng.bit_generator.state,
            "sums": self._log.sums,
            "counts": self._log.counts,
            "usual_gradients": [limit.usual for limit in self._limits.values()],
        }
        self._files.write(tensors, self._settings.sha256(), state)

    def _restore(self) -> None:
        """Go on from the checkpoint; without one of these settings and images, begin anew with an empty log."""
        found = self._files.read(self._settings.sha256())
        if found is None:
            self._log.begin_anew()
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
        self._update = state["update"]
        self._log.go_on(self._update, state["sums"], state["counts"])
