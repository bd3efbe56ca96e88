"""A value and how sure it is: intervals of 95 %, from a standard error or from a bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.survival.cohort import Floats

Z_95 = 1.959963984540054
"""Standard errors on both sides."""
_TAILS_PERCENT = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A measured value with its interval of 95 %."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies inside."""
        return self.low <= value <= self.high


def wald_interval(value: float, standard_error: float) -> Interval:
    """Of an estimate that is about normal."""
    return Interval(value, value - Z_95 * standard_error, value + Z_95 * standard_error)


def percentile_interval(value: float, draws: Floats | Sequence[float]) -> Interval:
    """Of a value, by what a bootstrap made of it."""
    low, high = np.percentile(draws, _TAILS_PERCENT)
    return Interval(value, float(low), float(high))
