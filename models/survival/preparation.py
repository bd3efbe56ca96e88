"""What is learned about features before a model: which to keep, their means and standard deviations.

It is learned from training patients alone, as much a part of the model as its coefficients.
"""

from dataclasses import dataclass

import numpy as np

from models.survival.cohort import Cohort, Floats, Numbers, SurvivalError
from models.survival.risk_sets import RiskSets

_CONSTANT = 1e-9
"""A standard deviation below this part of the largest value is rounding."""


@dataclass(frozen=True)
class Preparation:
    """Standardisation of the features that were kept; k of them."""

    kept: Numbers
    """(k,) indices of the features, ascending."""
    mean: Floats
    """(k,)."""
    sd: Floats
    """(k,)."""

    def standardised(self, features: Floats) -> Floats:
        """(n, p) to (n, k)."""
        return np.asarray((features[:, self.kept] - self.mean) / self.sd)


def preparation(cohort: Cohort, most_correlated: float = 1.0, most_features: int | None = None) -> Preparation:
    """Learn which features to keep, and their scale.

    Features are taken in the order of their own relation to the event (score test of Cox's model); one that correlates
    with an earlier one by more than `most_correlated` is left out, and so are all after the first `most_features`.

    Raises
    ------
    SurvivalError
        If every feature has one value only.
    """
    features = cohort.features
    sd = features.std(axis=0)
    varied = np.flatnonzero(sd > _CONSTANT * np.maximum(np.abs(features).max(axis=0), 1e-300))
    if not len(varied):
        raise SurvivalError("Every feature has the same value for all patients")
    scaled = (features[:, varied] - features[:, varied].mean(axis=0)) / sd[varied]
    chosen = varied
    if most_correlated < 1.0 or most_features is not None:
        order = np.argsort(-np.abs(_score_z(scaled, RiskSets.of(cohort))), kind="stable")
        chosen = np.sort(varied[_uncorrelated(scaled, order, most_correlated, most_features or len(varied))])
    return Preparation(chosen, features[:, chosen].mean(axis=0), sd[chosen])


def _score_z(scaled: Floats, risk_sets: RiskSets) -> Floats:
    """Standard normal statistic of each feature (p,); its variance takes the risk sets as independent of time."""
    gradient, _ = risk_sets.derivatives(np.zeros(len(scaled)))
    variance = np.sum(gradient**2) * np.maximum(scaled.var(axis=0), 1e-12)
    return np.asarray(scaled.T @ gradient / np.sqrt(variance))


def _uncorrelated(scaled: Floats, order: Numbers, limit: float, most: int) -> list[int]:
    correlation = np.abs(scaled.T @ scaled) / len(scaled)
    kept: list[int] = []
    for index in order.tolist():
        if len(kept) == most:
            break
        if not kept or correlation[index, kept].max() <= limit:
            kept.append(index)
    return kept
