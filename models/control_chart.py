"""Control charts for single values: limits from a baseline, and the eight rules that tell a change from chance.

References
----------
W. A. Shewhart, Economic Control of Quality of Manufactured Product, 1931. L. S. Nelson, The Shewhart Control Chart:
Tests for Special Causes, J. Qual. Technol. 16 (1984) 237, DOI 10.1080/00224065.1984.11978921. Limits of single values
from the moving range: NIST/SEMATECH e-Handbook of Statistical Methods 6.3.2.2.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

LEAST_BASELINE = 2
"""Values that a baseline needs: one has no spread."""
_D2_OF_PAIRS = 1.128
"""Mean range of two values of a normal distribution, in its standard deviations."""


class Baseline(BaseModel):
    """The centre of a chart and one sigma, in the unit of the values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    sigma: float = Field(ge=0)

    def limits(self, sigmas: float) -> tuple[float, float]:
        """The lower and the upper limit at so many sigma."""
        return self.mean - sigmas * self.sigma, self.mean + sigmas * self.sigma


def baseline_of(values: Sequence[float]) -> Baseline:
    """Mean of the values, and sigma from the mean of their moving ranges, which a slow drift does not widen.

    Raises
    ------
    ValueError
        If there are fewer than two.
    """
    if len(values) < LEAST_BASELINE:
        raise ValueError(f"a baseline of {len(values)} values")
    ranges = [abs(after - before) for before, after in pairwise(values)]
    return Baseline(mean=float(np.mean(values)), sigma=float(np.mean(ranges)) / _D2_OF_PAIRS)


def broken_rules(values: Sequence[float], baseline: Baseline) -> tuple[int, ...]:
    """Numbers of Nelson's rules, 1 to 8, that the last value breaks together with those before it.

    Where the baseline has no spread, as of a count that was always 0, a value that differs breaks rule 1, and no other
    rule has a meaning.
    """
    if not values:
        return ()
    if baseline.sigma == 0.0:
        return (1,) if values[-1] != baseline.mean else ()
    sigmas = [(value - baseline.mean) / baseline.sigma for value in values]
    return tuple(number for number, is_broken in _RULES.items() if is_broken(sigmas))


def _beyond(z: Sequence[float]) -> bool:
    return abs(z[-1]) > 3.0


def _one_side(z: Sequence[float]) -> bool:
    last = z[-9:]
    return len(last) == 9 and (min(last) > 0.0 or max(last) < 0.0)


def _steady(z: Sequence[float]) -> bool:
    steps = [after - before for before, after in pairwise(z[-6:])]
    return len(steps) == 5 and (min(steps) > 0.0 or max(steps) < 0.0)


def _alternating(z: Sequence[float]) -> bool:
    steps = [after - before for before, after in pairwise(z[-14:])]
    return len(steps) == 13 and all(one * other < 0.0 for one, other in pairwise(steps))


def _of_last(z: Sequence[float], window: int, enough: int, sigmas: float) -> bool:
    """Whether so many of the last values, the very last among them, lie beyond on one side."""
    last = z[-window:]
    above, below = sum(one > sigmas for one in last), sum(one < -sigmas for one in last)
    is_full = len(last) == window
    return is_full and ((above >= enough and z[-1] > sigmas) or (below >= enough and z[-1] < -sigmas))


def _close(z: Sequence[float]) -> bool:
    last = z[-15:]
    return len(last) == 15 and max(map(abs, last)) < 1.0


def _apart(z: Sequence[float]) -> bool:
    last = z[-8:]
    return len(last) == 8 and min(map(abs, last)) > 1.0


_RULES: Mapping[int, Callable[[Sequence[float]], bool]] = MappingProxyType(
    {
        1: _beyond,
        2: _one_side,
        3: _steady,
        4: _alternating,
        5: lambda z: _of_last(z, 3, 2, 2.0),
        6: lambda z: _of_last(z, 5, 4, 1.0),
        7: _close,
        8: _apart,
    }
)
RULES: Mapping[int, str] = MappingProxyType(
    {
        1: "one value beyond 3 sigma",
        2: "nine values in a row on one side of the mean",
        3: "six values in a row that rise or fall",
        4: "fourteen values in a row that rise and fall in turn",
        5: "two of three values beyond 2 sigma on one side",
        6: "four of five values beyond 1 sigma on one side",
        7: "fifteen values in a row within 1 sigma",
        8: "eight values in a row beyond 1 sigma",
    }
)
"""What each of Nelson's rules says."""
