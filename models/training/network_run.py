"""A training of one network: its optimiser, its moving average, its log and its checkpoints.

What is learnt is up to the training that builds on it: it says what the loss of an update is.
"""

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from models.inference import nobody
from models.training.checkpoint import RunFiles, module_tensors, optimiser_tensors, restore_optimiser, with_prefix
from models.training.gradients import GradientLimit
from models.training.log import TrainingLog
from models.training.progress import Progress

log = logging.getLogger(__name__)

_RAMP_UPDATES = 200
"""Over so many updates, of a short training over a tenth, the learning rate rises from 0."""

Network = TypeVar("Network", bound=nn.Module)


class RunSettings(Protocol):
    """What every training of one network has to know."""

    @property
    def updates(self) -> int: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def ema_decay(self) -> float: ...  # noqa: D102
    @property
    def log_every(self) -> int: ...  # noqa: D102
    @property
    def checkpoint_every(self) -> int: ...  # noqa: D102
    def sha256(self) -> str: ...  # noqa: D102


class NetworkRun(ABC, Generic[Network]):
    """One training; everything that a checkpoint holds. The same seed gives the same result, interrupted or not."""

    def __init__(self, network: Network, settings: RunSettings, files: RunFiles, columns: Sequence[str]) -> None:
        """Begin anew, or go on from the checkpoint among `files`; `columns` are those of the log."""
        self._run, self._files = settings, files
        self.network = network
        self.average: Network = copy.deepcopy(network).requires_grad_(False)
        """Moving average of the network: what is shipped."""
        self.update = 0
        """Number of updates that are done."""
        self.rng = np.random.default_rng(settings.seed)
        self._adam = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        self._limit = GradientLimit()
        self._log = TrainingLog(files.log, columns)
        self._restore()

    @abstractmethod
    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """The loss of the next update, to descend along, and what of it is logged."""

    def validated(self) -> Mapping[str, float]:
        """What is measured before each row of the log."""
        return {}

    def to_the_end(self, progress: Progress = nobody) -> None:
        """Train what is left of the updates; a row of the log and a checkpoint now and then and at the end."""
        while self.update < self._run.updates:
            self._log.add(self._one_update())
            self.update += 1
            if self.update % self._run.log_every == 0 or self.update == self._run.updates:
                self._log.add(self.validated())
                self._log.write_row(self.update)
            if self.update % self._run.checkpoint_every == 0 or self.update == self._run.updates:
                self._save()
            progress(self.update / self._run.updates, "training")

    def _one_update(self) -> Mapping[str, float]:
        loss, logged = self.loss()
        self._adam.param_groups[0]["lr"] = self._learning_rate()
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._limit.apply(list(self.network.parameters())):
            self._adam.step()
        else:
            log.warning("update left out: its gradient is not finite", extra={"update": self.update})
        self._follow()
        return logged

    def _follow(self) -> None:
        """Set average to decay * average + (1 - decay) * trained; the decay starts low so that early weights fade."""
        decay = min(self._run.ema_decay, (1.0 + self.update) / (10.0 + self.update))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1.0 - decay)

    def _learning_rate(self) -> float:
        """Rises over the first updates, then falls to 0 along half a cosine."""
        done = self.update / max(self._run.updates, 1)
        ramp = max(1, min(_RAMP_UPDATES, self._run.updates // 10))
        return float(self._run.learning_rate * 0.5 * (1.0 + np.cos(np.pi * done))) * min(1.0, (self.update + 1) / ramp)

    def _save(self) -> None:
        tensors = {
            **module_tensors("network", self.network),
            **module_tensors("average", self.average),
            **optimiser_tensors("adam", self._adam),
        }
        state: dict[str, Any] = {
            "update": self.update,
            "rng": self.rng.bit_generator.state,
            "sums": self._log.sums,
            "counts": self._log.counts,
            "usual_gradient": self._limit.usual,
        }
        self._files.write(tensors, self._run.sha256(), state)

    def _restore(self) -> None:
        """Go on from the checkpoint; without one of these settings and images, begin anew with an empty log."""
        found = self._files.read(self._run.sha256())
        if found is None:
            self._log.begin_anew()
            return
        tensors, state = found
        self.network.load_state_dict(with_prefix("network", tensors))
        self.average.load_state_dict(with_prefix("average", tensors))
        restore_optimiser("adam", self._adam, tensors)
        self._limit.usual = state["usual_gradient"]
        self.rng.bit_generator.state = state["rng"]
        self.update = state["update"]
        self._log.go_on(self.update, state["sums"], state["counts"])
