"""Harrell's concordance: how often, of two patients, the one with the higher risk has the event first.

A pair is comparable if one row has its event while the other is at risk and outlasts it; a censoring at the time of
the event outlasts it. Equal risks count half. Rows of one patient are never compared.

References
----------
Harrell et al., Stat Med 1996, doi 10.1002/(SICI)1097-0258(19960229)15:4<361::AID-SIM168>3.0.CO;2-4
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.survival.cohort import Cohort, Flags, Floats, SurvivalError
from models.survival.interval import Interval, percentile_interval

_USABLE = 0.6
"""Part of the draws in which patients can be compared; of two patients it is half, of one with the event 0.63."""


@dataclass(frozen=True)
class PairScores:
    """Concordance of every pair of rows; sums over rows or bootstrap draws of them are then products of matrices."""

    comparable: NDArray[np.float64]
    """(n, n) 1 where row i has its event while row j is at risk; means over repeats."""
    concordant: NDArray[np.float64]
    """(n, n) 1 where row i also has the higher risk, 1/2 where the risks are equal."""

    def c_index(self, weights: Floats | None = None) -> float:
        """Concordant part of the comparable pairs; rows may count several times.

        Raises
        ------
        SurvivalError
            If no pair can be compared.
        """
        w = np.ones(len(self.comparable)) if weights is None else weights
        pairs = float(w @ self.comparable @ w)
        if pairs == 0.0:
            raise SurvivalError("No two patients can be compared")
        return float(w @ self.concordant @ w) / pairs


def pair_scores(cohort: Cohort, risk: Floats, within: NDArray[Any] | None = None) -> PairScores:
    """Scores of all pairs; with `within` (n,) only of rows that have the same value of it, as the same fold."""
    comparable = _comparable(cohort)
    if within is not None:
        comparable &= within[:, None] == within[None, :]
    difference = risk[:, None] - risk[None, :]
    return PairScores(comparable.astype(np.float64), comparable * (np.sign(difference) + 1.0) / 2.0)


def mean_scores(scores: Sequence[PairScores]) -> PairScores:
    """Of several validations of the same rows."""
    return PairScores(
        np.mean([one.comparable for one in scores], axis=0), np.mean([one.concordant for one in scores], axis=0)
    )


def c_index(cohort: Cohort, risk: Floats) -> float:
    """Harrell's C of a risk (n,); error as in `PairScores.c_index`."""
    return pair_scores(cohort, risk).c_index()


def c_index_interval(cohort: Cohort, scores: PairScores, draws: int = 1000, seed: int = 0) -> Interval:
    """C with the percentile interval of a bootstrap of patients, all rows of a patient together.

    A patient drawn twice is not compared with himself. The risks are taken as they are: the interval says how far C
    would vary with other patients, not with other training.

    Raises
    ------
    SurvivalError
        If no two patients can be compared, also where many draws have no such pair.
    """
    patients, patient_of_row = np.unique(cohort.patient, return_inverse=True)
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(patients), np.full(len(patients), 1.0 / len(patients)), size=draws)
    weights = counts[:, patient_of_row].astype(np.float64)
    concordant, pairs = (((weights @ m) * weights).sum(axis=1) for m in (scores.concordant, scores.comparable))
    usable = pairs > 0.0
    if usable.mean() < _USABLE:
        raise SurvivalError("There are too few patients that can be compared for an interval")
    return percentile_interval(scores.c_index(), concordant[usable] / pairs[usable])


def _comparable(cohort: Cohort) -> Flags:
    stop = cohort.stop
    outlasts = (stop[None, :] > stop[:, None]) | ((stop[None, :] == stop[:, None]) & ~cohort.event[None, :])
    at_risk = cohort.start[None, :] < stop[:, None]
    others = cohort.patient[None, :] != cohort.patient[:, None]
    return np.asarray(cohort.event[:, None] & outlasts & at_risk & others)
