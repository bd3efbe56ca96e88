"""Gradients kept near their usual size: one wild batch must not throw a training off its way."""

import math
from collections.abc import Sequence

from torch import nn

_LARGEST = 3.0
"""Times what is usual."""
_MEMORY = 0.98
"""Of the moving average that says what is usual."""


class GradientLimit:
    """Scales a gradient down to three times the moving average of the norms that came before it.

    A fixed limit would have to be known for every loss and would be too wide by the end: Adam measures its steps by
    past gradients, so one that is thirty times as large as those makes a step of many times the learning rate. In a
    network without normalisation such gradients occur, and one of them has ended a training.
    """

    def __init__(self, usual: float | None = None) -> None:
        self.usual = usual
        """Moving average of the norms as they were let through; None before the first gradient."""

    def apply(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Scale the gradients of the parameters in place; False if they are not finite, so that no step may follow."""
        limit = float("inf") if self.usual is None else _LARGEST * self.usual
        norm = float(nn.utils.clip_grad_norm_(parameters, limit))
        if not math.isfinite(norm):
            return False
        norm = min(norm, limit)
        self.usual = norm if self.usual is None else _MEMORY * self.usual + (1.0 - _MEMORY) * norm
        return True
