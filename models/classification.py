"""Yes or no from features: logistic regression with an elastic net penalty, and its honest validation.

Scaling and the choice of the penalty happen inside every training set; ROC and precision-recall are computed from
patients that the models had not seen. Where few patients have the outcome, the area under the precision-recall curve
says more: that of a guess is the part of patients with the outcome, not 1/2.

References
----------
Zou and Hastie, J R Stat Soc B 2005, doi 10.1111/j.1467-9868.2005.00503.x (elastic net); Saito and Rehmsmeier,
PLoS One 2015, doi 10.1371/journal.pone.0118432 (precision-recall)
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from models.linear_score import LinearScore
from models.survival.cohort import Flags, Floats, Numbers
from models.survival.interval import Interval, percentile_interval

_SWEEPS, _TOLERANCE = 3000, 1e-4


class ClassificationError(Exception):
    """Features or outcomes can not be used; the message is one plain sentence."""


@dataclass(frozen=True)
class LabelledPatients:
    """n patients with p features and their outcome."""

    features: Floats
    """(n, p)."""
    feature_names: tuple[str, ...]
    outcome: Flags
    """(n,)."""

    def take(self, rows: NDArray[Any]) -> "LabelledPatients":
        """These patients, by a mask or by indices."""
        return LabelledPatients(self.features[rows], self.feature_names, self.outcome[rows])


class LogisticSettings(BaseModel):
    """How a model is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    l1_ratio: float = Field(0.5, ge=0.0, le=1.0)
    """1 is the lasso, 0 ridge."""
    inverse_penalties: tuple[float, ...] = Field((0.01, 0.03, 0.1, 0.3, 1.0), min_length=1)
    """C of scikit-learn, of which one is chosen by the log-likelihood of inner folds."""
    inner_folds: int = Field(5, ge=2)
    """Fewer where a training set has fewer patients of one outcome."""


class LogisticModel(LinearScore):
    """A trained model; all its numbers, and the names of the features that it wants, in their order."""

    refusal: ClassVar[type[Exception]] = ClassificationError

    kind: Literal["logistic_elastic_net"] = "logistic_elastic_net"
    intercept: FiniteFloat
    inverse_penalty: FiniteFloat
    l1_ratio: FiniteFloat
    patients: int = Field(ge=2)
    with_outcome: int = Field(ge=1)

    def probability(self, features: Floats, feature_names: Sequence[str]) -> Floats:
        """Of the outcome, (n, p) to (n,).

        Raises
        ------
        ClassificationError
            If a feature of the model is absent or is no number.
        """
        return np.asarray(1.0 / (1.0 + np.exp(-self.score(features, feature_names) - self.intercept)))


def labelled(features: ArrayLike, feature_names: Sequence[str], outcome: ArrayLike) -> LabelledPatients:
    """Checked patients.

    Raises
    ------
    ClassificationError
        If the arrays do not fit together, a feature is missing, or all patients have the same outcome.
    """
    values, found = np.asarray(features, np.float64), np.asarray(outcome)
    if values.ndim != 2 or found.shape != (len(values),) or values.shape[1] != len(set(feature_names)):
        raise ClassificationError("Features, their names and outcomes do not fit together")
    if not np.isfinite(values).all():
        raise ClassificationError("A feature is missing for some patients")
    if not np.isin(found, (0, 1)).all() or len(np.unique(found)) < 2:
        raise ClassificationError("The outcomes are not 0 for some patients and 1 for others")
    return LabelledPatients(values, tuple(feature_names), found.astype(np.bool_))


def fit_logistic(training: LabelledPatients, settings: LogisticSettings, random: np.random.Generator) -> LogisticModel:
    """Scale, choose the penalty, fit: all of it on these patients alone.

    Raises
    ------
    ClassificationError
        If fewer than two patients have one of the outcomes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    seed = int(random.integers(2**31))
    regression = LogisticRegression(
        solver="saga", l1_ratio=settings.l1_ratio, max_iter=_SWEEPS, tol=_TOLERANCE, random_state=seed
    )
    folds = StratifiedKFold(_inner_folds(training, settings), shuffle=True, random_state=seed)
    search = GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("regression", regression)]),
        {"regression__C": list(settings.inverse_penalties)},
        scoring="neg_log_loss",
        cv=folds,
    )
    with warnings.catch_warnings():
        # A weak penalty that does not converge in time predicts worse, and the inner folds do not choose it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = search.fit(training.features, training.outcome).best_estimator_
    scale, fitted = best["scale"], best["regression"]
    return LogisticModel(
        feature_names=training.feature_names,
        mean=tuple(scale.mean_.tolist()),
        sd=tuple(scale.scale_.tolist()),
        coefficients=tuple(fitted.coef_[0].tolist()),
        intercept=float(fitted.intercept_[0]),
        inverse_penalty=float(search.best_params_["regression__C"]),
        l1_ratio=settings.l1_ratio,
        patients=len(training.outcome),
        with_outcome=int(training.outcome.sum()),
    )


def repeated_nested_probability(
    patients: LabelledPatients, settings: LogisticSettings, folds: int = 5, repeats: int = 10, seed: int = 0
) -> Floats:
    """Probability of every patient by models that had not seen him, (repeats, n).

    Raises
    ------
    ClassificationError
        If there are fewer patients of one outcome than folds, or too few for the inner ones.
    """
    rarer = int(min(patients.outcome.sum(), (~patients.outcome).sum()))
    if rarer < folds:
        raise ClassificationError(f"There are {rarer} patients of one outcome for {folds} folds")
    random = np.random.default_rng(seed)
    found = np.empty((repeats, len(patients.outcome)))
    for probability in found:
        for rows in _dealt(patients.outcome, folds, random):
            model = fit_logistic(patients.take(~rows), settings, random)
            probability[rows] = model.probability(patients.features[rows], patients.feature_names)
    return found


def roc_auc(outcome: Flags, probability: Floats, draws: int = 500, seed: int = 0) -> Interval:
    """Area under the ROC curve, mean over the repeats of `probability` (repeats, n); interval by bootstrap."""
    from sklearn.metrics import roc_auc_score

    return _bootstrapped(roc_auc_score, outcome, np.atleast_2d(probability), draws, seed)


def pr_auc(outcome: Flags, probability: Floats, draws: int = 500, seed: int = 0) -> Interval:
    """Area under the precision-recall curve as average precision; as `roc_auc`."""
    from sklearn.metrics import average_precision_score

    return _bootstrapped(average_precision_score, outcome, np.atleast_2d(probability), draws, seed)


def _inner_folds(training: LabelledPatients, settings: LogisticSettings) -> int:
    rarer = int(min(training.outcome.sum(), (~training.outcome).sum()))
    if rarer < 2:
        raise ClassificationError("Fewer than two training patients have one of the outcomes")
    return min(settings.inner_folds, rarer)


def _dealt(outcome: Flags, folds: int, random: np.random.Generator) -> Iterator[Flags]:
    """The patients of each fold, outcomes dealt out evenly."""
    shuffled = random.permutation(len(outcome))
    order: Numbers = np.concatenate([shuffled[outcome[shuffled]], shuffled[~outcome[shuffled]]])
    for fold in range(folds):
        rows = np.zeros(len(outcome), np.bool_)
        rows[order[fold::folds]] = True
        yield rows


def _bootstrapped(
    area: Callable[[Any, Any], float], outcome: Flags, probability: Floats, draws: int, seed: int
) -> Interval:  # fmt: skip
    """The area with the percentile interval of a bootstrap within each outcome."""
    from sklearn import config_context

    def mean_area(rows: Numbers) -> float:
        return float(np.mean([area(outcome[rows], one[rows]) for one in probability]))

    random = np.random.default_rng(seed)
    groups = [np.flatnonzero(outcome), np.flatnonzero(~outcome)]
    with config_context(skip_parameter_validation=True):
        found = [mean_area(np.concatenate([random.choice(g, len(g)) for g in groups])) for _ in range(draws)]
        value = mean_area(np.arange(len(outcome)))
    return percentile_interval(value, found)
