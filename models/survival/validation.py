"""Honest validation: whatever is learned from patients is learned anew without those that are held out.

A procedure takes training patients and gives a model; scaling, selection of features, choice of the penalty and the cut
between risk groups are inside it. So a patient has no part in anything that judges him.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from models.survival.cohort import Cohort, Flags, Floats, Numbers, SurvivalError
from models.survival.concordance import PairScores, c_index_interval, mean_scores, pair_scores
from models.survival.folds import event_folds, one_each, splits
from models.survival.interval import Interval


class RiskModel(Protocol):
    """What a procedure makes."""

    @property
    def high_risk_above(self) -> float:
        """The cut of the risk, from training patients."""

    def risk(self, features: Floats, feature_names: tuple[str, ...]) -> Floats:
        """(n, p) to (n,)."""

    def event_probability(self, risk: Floats, time: float) -> Floats:
        """(n,) to (n,)."""


Procedure: TypeAlias = Callable[[Cohort, np.random.Generator], RiskModel]


@dataclass(frozen=True)
class HeldOut:
    """What models said of rows that they had not seen, (n,) each."""

    risk: Floats
    high_risk: Flags
    """Above the cut of the model of this fold."""
    fold: Numbers
    event_probability: Floats | None = None
    """Until the horizon, where one was asked for."""


def held_out(
    cohort: Cohort, procedure: Procedure, fold_of_row: Numbers, seed: int, horizon: float | None = None
) -> HeldOut:  # fmt: skip
    """Train without each fold in turn, and say what the model makes of it; errors as in the procedure."""
    risk, probability = np.empty(cohort.rows), np.empty(cohort.rows)
    high_risk = np.empty(cohort.rows, np.bool_)
    random = np.random.default_rng(seed)
    for training, rows in splits(cohort, fold_of_row):
        model = procedure(training, random)
        risk[rows] = model.risk(cohort.features[rows], cohort.feature_names)
        high_risk[rows] = risk[rows] > model.high_risk_above
        if horizon is not None:
            probability[rows] = model.event_probability(risk[rows], horizon)
    return HeldOut(risk, high_risk, fold_of_row, None if horizon is None else probability)


def leave_one_out(cohort: Cohort, procedure: Procedure, seed: int = 0, horizon: float | None = None) -> HeldOut:
    """Every patient by a model of all the others."""
    return held_out(cohort, procedure, one_each(cohort), seed, horizon)


def repeated_nested(
    cohort: Cohort, procedure: Procedure, folds: int = 5, repeats: int = 10, seed: int = 0, horizon: float | None = None
) -> list[HeldOut]:
    """Cross-validation with other folds each time; what is chosen inside is chosen by the procedure's own folds."""
    random = np.random.default_rng(seed)
    return [
        held_out(cohort, procedure, event_folds(cohort, folds, random), seed + repeat, horizon)
        for repeat in range(repeats)
    ]


def held_out_scores(cohort: Cohort, found: Sequence[HeldOut]) -> PairScores:
    """Pairs of rows that one model judged; over several repeats their means.

    Two models have no common scale, so patients of different folds are not compared, but after leave-one-out, where
    each model knows one patient and there is no other way.

    Raises
    ------
    SurvivalError
        If nothing was validated.
    """
    if not found:
        raise SurvivalError("Nothing was validated")
    single = all(len(np.unique(one.fold)) == len(cohort.patients) for one in found)
    return mean_scores([pair_scores(cohort, one.risk, None if single else one.fold) for one in found])


def held_out_c_index(cohort: Cohort, found: Sequence[HeldOut], draws: int = 1000, seed: int = 0) -> Interval:
    """C of patients that the models had not seen; interval as in `c_index_interval`, pairs as in `held_out_scores`."""
    return c_index_interval(cohort, held_out_scores(cohort, found), draws, seed)
