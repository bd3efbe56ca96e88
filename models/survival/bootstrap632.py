"""The .632+ bootstrap of the concordance.

References
----------
Efron and Tibshirani, J Am Stat Assoc 1997, doi 10.1080/01621459.1997.10474007
"""

from dataclasses import dataclass

import numpy as np

from models.survival.cohort import Cohort, SurvivalError
from models.survival.concordance import c_index, pair_scores
from models.survival.validation import Procedure

NO_INFORMATION = 0.5
"""C of a risk that says nothing."""


@dataclass(frozen=True)
class Bootstrap632:
    """C of the model on the patients that trained it, on those left out, and the estimate between the two."""

    apparent: float
    out_of_bag: float
    plus: float
    draws: int
    """In which patients were left out that can be compared."""


def bootstrap_632_plus(cohort: Cohort, procedure: Procedure, draws: int = 100, seed: int = 0) -> Bootstrap632:
    """Train on patients drawn with replacement, test on those not drawn, and weigh that against the apparent C.

    Copies of a patient keep his number, so that inner folds do not test on a copy of whom they train on.

    Raises
    ------
    SurvivalError
        If no draw leaves out patients that can be compared; others as in the procedure.
    """
    random = np.random.default_rng(seed)
    model = procedure(cohort, random)
    apparent = c_index(cohort, model.risk(cohort.features, cohort.feature_names))
    concordant, pairs, used = 0.0, 0.0, 0
    for _ in range(draws):
        drawn = random.choice(cohort.patients, len(cohort.patients))
        left_out = cohort.take(~np.isin(cohort.patient, drawn))
        training = cohort.take(cohort.rows_of(drawn))
        if len(np.unique(training.patient[training.event])) < 2:
            continue
        fitted = procedure(training, random)
        scores = pair_scores(left_out, fitted.risk(left_out.features, cohort.feature_names))
        concordant += float(scores.concordant.sum())
        pairs += float(scores.comparable.sum())
        used += bool(scores.comparable.any())
    if not used:
        raise SurvivalError("No draw left out patients that can be compared")
    return _weighed(apparent, concordant / pairs, used)


def _weighed(apparent: float, out_of_bag: float, draws: int) -> Bootstrap632:
    """In terms of errors, 1 - C: (1 - w) apparent + w out of bag, with w from .632 to 1 as the model overfits."""
    worst = max(out_of_bag, NO_INFORMATION)
    overfit = 0.0
    if apparent > worst and apparent > NO_INFORMATION:
        overfit = (apparent - worst) / (apparent - NO_INFORMATION)
    weight = 0.632 / (1.0 - 0.368 * overfit)
    return Bootstrap632(apparent, out_of_bag, (1.0 - weight) * apparent + weight * worst, draws)
