"""Cox's model with an elastic net penalty, along a path of penalties.

The objective is -(1/n) log-likelihood + penalty (l1_ratio |b|_1 + (1 - l1_ratio) / 2 |b|^2). Around the present
coefficients the likelihood is replaced by a weighted sum of squares with the diagonal of its second derivative; that
problem is solved by the coordinate descent of scikit-learn, and a step that does not lower the objective is halved.

References
----------
Simon et al., J Stat Softw 2011, doi 10.18637/jss.v039.i05
"""

import warnings
from dataclasses import dataclass

import numpy as np

from models.survival.cohort import Floats
from models.survival.risk_sets import RiskSets

_STEPS, _HALVINGS = 100, 12
_LOWERED = 1e-9
"""Part of the objective; less is no progress."""
_LEAST_WEIGHT = 1e-8


@dataclass(frozen=True)
class CoxPath:
    """Coefficients along a path."""

    penalties: Floats
    """(k,) descending."""
    coefficients: Floats
    """(k, p), of the features as they were given."""


def penalty_path(features: Floats, risk_sets: RiskSets, l1_ratio: float, count: int, smallest: float) -> Floats:
    """Penalties from the one that leaves no feature to `smallest` times it, even in their logarithm, (count,)."""
    gradient, _ = risk_sets.derivatives(np.zeros(len(features)))
    largest = float(np.abs(features.T @ gradient).max()) / len(features) / l1_ratio
    return largest * np.geomspace(1.0, smallest, count)


def cox_path(features: Floats, risk_sets: RiskSets, l1_ratio: float, penalties: Floats) -> CoxPath:
    """Coefficients for every penalty, each found from the one before.

    Parameters
    ----------
    features
        (n, p), standardised, as the penalty is the same for all.
    risk_sets
        Of the same rows.
    l1_ratio
        Above 0, at most 1 (lasso).
    penalties
        Descending.
    """
    ordered = np.asfortranarray(features)
    beta = np.zeros(features.shape[1])
    found = []
    for penalty in penalties:
        beta = _solved(ordered, risk_sets, l1_ratio, float(penalty), beta)
        found.append(beta)
    return CoxPath(penalties, np.array(found))


def _solved(features: Floats, risk_sets: RiskSets, l1_ratio: float, penalty: float, beta: Floats) -> Floats:
    def objective(candidate: Floats) -> float:
        size = l1_ratio * np.abs(candidate).sum() + (1.0 - l1_ratio) / 2.0 * (candidate @ candidate)
        return -risk_sets.log_likelihood(features @ candidate) / len(features) + penalty * float(size)

    value = objective(beta)
    for _ in range(_STEPS):
        step = _least_squares(features, risk_sets, l1_ratio, penalty, beta) - beta
        for _ in range(_HALVINGS):
            lower = objective(beta + step)
            if lower <= value:
                break
            step = step / 2.0
        else:
            return beta
        beta, lowered, value = beta + step, value - lower, lower
        if lowered <= _LOWERED * abs(value):
            break
    return beta


def _least_squares(features: Floats, risk_sets: RiskSets, l1_ratio: float, penalty: float, beta: Floats) -> Floats:
    """Minimum of the penalised weighted squares around `beta`."""
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import enet_path

    eta = features @ beta
    gradient, weights = risk_sets.derivatives(eta)
    root = np.sqrt(np.maximum(weights, _LEAST_WEIGHT))
    # A row of no weight, as one that ends before the first event, has no gradient either.
    wanted = root * eta + gradient / root
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True):
        # The next step goes on from here, and the objective is checked after each.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, coefficients, _ = enet_path(
            np.asfortranarray(features * root[:, None]),
            wanted,
            l1_ratio=l1_ratio,
            alphas=[penalty],
            # Given as it is, it would be changed in place.
            coef_init=beta.copy(),
            precompute=len(features) > features.shape[1],
            check_input=False,
            tol=1e-6,
        )
    return np.asarray(coefficients[:, 0])
