"""Which smaller training set does as well as the largest: a paired test over patients, with a margin stated before.

A difference that is not significant says nothing about equality, so the question is turned round: the null hypothesis
is that the smaller set is worse by at least the margin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RELATIVE_MARGIN = 0.05
"""Of the mean error of the largest size: what counts as worse."""
SIGNIFICANCE = 0.05
"""Probability of calling any size not worse that is, over all sizes together."""
_RESAMPLES = 2**16
"""All changes of sign up to 16 patients; beyond, so many at random."""
_SEED = 0


@dataclass(frozen=True)
class SizeAgainstLargest:
    """One size against the largest."""

    size: int
    mean_difference: float
    """Error of this size minus that of the largest, mean over patients; in the unit of the error."""
    p: float
    """That the size is worse by the margin or more; adjusted for the number of sizes."""
    not_worse: bool
    """Shown for this size and for every larger one."""


@dataclass(frozen=True)
class Verdict:
    """What the test says about all sizes."""

    largest: int
    margin: float
    """In the unit of the error."""
    patients: int
    patients_needed: int
    """With fewer, no outcome could be significant."""
    comparisons: tuple[SizeAgainstLargest, ...]
    """From the largest to the smallest; the largest itself is left out."""

    @property
    def can_tell(self) -> bool:
        """Whether there is something to compare, and patients enough to do it."""
        return bool(self.comparisons) and self.patients >= self.patients_needed

    @property
    def smallest(self) -> int:
        """The smallest size that is not worse than the largest; the largest where none was shown to be."""
        return min([self.largest, *(found.size for found in self.comparisons if found.not_worse)])


def compared_with_largest(error_by_size: Mapping[int, Sequence[float]]) -> Verdict:
    """Compare the error of every size, one value for each patient in one order, with that of the largest size.

    One-sided permutation test of the paired differences minus the margin, by changes of sign (exact up to 16 patients),
    adjusted after Holm; then, from the largest size down, a size counts as not worse as long as all above it do. It
    supposes that differences spread evenly about their mean. Patients are the sample: what other seeds would have
    given is not tested, so errors should be means over several seeds.

    Raises
    ------
    ValueError
        If there is no size, or sizes differ in their number of patients.

    References
    ----------
    Holm, Scand J Stat 1979: A simple sequentially rejective multiple test procedure
    """
    errors = {size: np.asarray(values, np.float64) for size, values in error_by_size.items()}
    if len({len(values) for values in errors.values()}) != 1:
        raise ValueError("every size needs an error for every patient")
    sizes = sorted(errors, reverse=True)
    reference = errors[sizes[0]]
    margin = RELATIVE_MARGIN * float(reference.mean())
    differences = {size: errors[size] - reference for size in sizes[1:]}
    adjusted = holm_adjusted([_p_worse(difference, margin) for difference in differences.values()])
    return Verdict(
        largest=sizes[0],
        margin=margin,
        patients=len(reference),
        patients_needed=int(np.ceil(np.log2(max(len(differences), 1) / SIGNIFICANCE))),
        comparisons=tuple(_stepped_down(differences, adjusted)),
    )


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """P values that may be held against the significance level as if there were only one; in the given order."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.minimum(np.asarray(p_values, float)[order] * factors, 1.0))
    return [float(value) for value in stepped[np.argsort(order)]]


def _p_worse(difference: NDArray[np.float64], margin: float) -> float:
    """Of one patient there is only one way to change the sign, and scipy wants two."""
    if len(difference) < 2:
        return 1.0
    found = stats.permutation_test(
        (difference - margin,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        alternative="less",
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def _stepped_down(
    differences: Mapping[int, NDArray[np.float64]], adjusted: Sequence[float]
) -> list[SizeAgainstLargest]:
    found: list[SizeAgainstLargest] = []
    for (size, difference), p in zip(differences.items(), adjusted, strict=True):
        not_worse = p <= SIGNIFICANCE and all(larger.not_worse for larger in found)
        found.append(SizeAgainstLargest(size, float(difference.mean()), p, not_worse))
    return found
