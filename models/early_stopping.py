"""When to stop an iteration that first learns the image and then the noise: two rules, slice by slice.

With the noise level known, stop as soon as the residual is what noise alone would leave (Morozov's discrepancy
principle). Without it, the variance of the last few iterates tells: it falls while the image forms and rises when the
noise comes in.

References
----------
Wang et al., Early Stopping for Deep Image Prior, arXiv 2112.06074 (windowed moving variance)
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

StopReason: TypeAlias = Literal["noise level", "variance", "iterations"]
"""The residual is down to the noise; the iterates moved least some time ago; or neither happened in the time given."""


@dataclass(frozen=True)
class StopRules:
    """When a slice is finished."""

    noise_level: float | None = None
    """Mean weighted squared residual that noise alone leaves: 1 with weights of 1 / variance. None: not known."""
    window: int = 10
    """Iterates that the variance is taken over; at least 2."""
    patience: int | None = 20
    """Iterations without a new smallest variance after which it stops. None: this rule is off."""


class EarlyStopping:
    """Watches the iterates of a batch of slices and keeps, of each slice, the one to give back."""

    def __init__(self, rules: StopRules, slices: int) -> None:
        self._rules = rules
        self._window: deque[Tensor] = deque(maxlen=rules.window)
        self._iteration = 0
        self._least = [float("inf")] * slices
        self._least_at = [0] * slices
        self._kept: Tensor | None = None
        self.reasons: list[StopReason] = ["iterations"] * slices
        self.iterations = [0] * slices
        """Number of the iterate that is given back, from 1."""
        self._running = [True] * slices

    def is_over(self) -> bool:
        """Whether every slice has stopped."""
        return not any(self._running)

    def image(self) -> Tensor:
        """What is given back: (B, 1, H, W), of each slice the iterate that the rule chose."""
        if self._kept is None:
            raise ValueError("no iterate has been seen yet")
        return self._kept

    def see(self, image: Tensor, residuals: Tensor) -> Tensor:
        """Take the next iterate (B, 1, H, W) and its mean weighted squared residuals (B,); its variances (B,).

        The variance of a window is the mean over its iterates of ||x - mean of the window||^2 per pixel; NaN until
        the window is full.
        """
        self._iteration += 1
        self._window.append(image)
        variances = self._variances()
        kept = image.clone() if self._kept is None else self._kept
        measured = zip(residuals.tolist(), variances.tolist(), strict=True)
        for number, (residual, variance) in enumerate(measured):
            if self._running[number] and self._is_better(number, residual, variance):
                kept[number] = image[number]
                self.iterations[number] = self._iteration
        self._kept = kept
        return variances

    def _is_better(self, number: int, residual: float, variance: float) -> bool:
        """Judge one slice; whether this iterate is the one to give back so far."""
        level, patience = self._rules.noise_level, self._rules.patience
        if level is not None and residual <= level:
            self._stop(number, "noise level")
            return True
        if patience is None or len(self._window) < self._rules.window:
            return True
        if variance < self._least[number]:
            self._least[number], self._least_at[number] = variance, self._iteration
            return True
        if self._iteration - self._least_at[number] >= patience:
            self._stop(number, "variance")
        return False

    def _stop(self, number: int, reason: StopReason) -> None:
        self.reasons[number] = reason
        self._running[number] = False

    def _variances(self) -> Tensor:
        if len(self._window) < self._rules.window:
            return torch.full((len(self._window[-1]),), torch.nan)
        iterates = torch.stack(list(self._window))  # (W, B, 1, H, W)
        return iterates.var(dim=0, correction=0).mean(dim=(1, 2, 3)).cpu()
