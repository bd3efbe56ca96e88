"""A Cox model with elastic net: trained with a penalty chosen by inner cross-validation, and kept as plain numbers."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.linear_score import LinearScore
from models.survival.cohort import Cohort, Floats, Numbers, SurvivalError
from models.survival.coxnet import cox_path, penalty_path
from models.survival.folds import event_folds
from models.survival.preparation import Preparation, preparation
from models.survival.risk_sets import RiskSets


class CoxSettings(BaseModel):
    """How a model is trained; nothing of it is learned from the patients that it is tested on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    l1_ratio: float = Field(0.5, gt=0.0, le=1.0)
    """1 is the lasso; near 0, ridge."""
    penalty: float | None = Field(None, gt=0.0)
    """Fixed; None chooses one by inner cross-validation."""
    inner_folds: int = Field(5, ge=2)
    """Fewer where a training set has fewer events."""
    penalties: int = Field(30, ge=2)
    """In the path from which one is chosen."""
    smallest_penalty: float = Field(0.02, gt=0.0, lt=1.0)
    """Part of the penalty that leaves no feature."""
    most_correlated: float = Field(0.95, gt=0.0, le=1.0)
    """Of two features that correlate by more, the one less related to the event is left out."""
    most_features: int | None = Field(None, ge=1)
    high_risk_percentile: float = Field(50.0, gt=0.0, lt=100.0)
    """Training patients above this percentile of the risk make the high-risk group."""


class CoxModel(LinearScore):
    """A trained model; all its numbers, and the names of the features that it wants, in their order."""

    refusal: ClassVar[type[Exception]] = SurvivalError

    kind: Literal["cox_elastic_net"] = "cox_elastic_net"
    baseline_times: tuple[FiniteFloat, ...]
    """(m,) times of events, ascending, in `time_unit`."""
    baseline_cumulative_hazard: tuple[FiniteFloat, ...]
    """(m,) of a patient with risk 0."""
    time_unit: str
    high_risk_above: FiniteFloat
    """The cut of the risk, from training patients."""
    penalty: FiniteFloat
    l1_ratio: FiniteFloat
    patients: int = Field(ge=1)
    events: int = Field(ge=1)

    @model_validator(mode="after")
    def _has_a_baseline(self) -> "CoxModel":
        if len(self.baseline_times) != len(self.baseline_cumulative_hazard):
            raise ValueError("the baseline has times and hazards of different number")
        if (np.diff(self.baseline_times) <= 0.0).any() or (
            np.diff((0.0, *self.baseline_cumulative_hazard)) < 0.0
        ).any():
            raise ValueError("the baseline does not ascend")
        return self

    def risk(self, features: Floats, feature_names: tuple[str, ...]) -> Floats:
        """Logarithm of the hazard relative to an average training patient: (n, p) to (n,).

        Raises
        ------
        SurvivalError
            If a feature of the model is absent or is no number.
        """
        return self.score(features, feature_names)

    def event_probability(self, risk: Floats, time: float) -> Floats:
        """Probability of the event until a time after the start, (n,) to (n,).

        Raises
        ------
        SurvivalError
            If no training patient had an event so late: beyond, the model knows nothing.
        """
        if time > self.baseline_times[-1]:
            raise SurvivalError(f"The model has seen no event after {self.baseline_times[-1]:g} {self.time_unit}")
        index = int(np.searchsorted(self.baseline_times, time, side="right"))
        hazard = (0.0, *self.baseline_cumulative_hazard)[index]
        return np.asarray(1.0 - np.exp(-hazard * np.exp(risk)))

    @property
    def non_zero(self) -> int:
        """Features that count."""
        return sum(coefficient != 0.0 for coefficient in self.coefficients)


def fit_cox(training: Cohort, settings: CoxSettings, random: np.random.Generator) -> CoxModel:
    """Prepare the features, choose the penalty, fit: all of it on these patients alone.

    Raises
    ------
    SurvivalError
        If the features are constant, or there are too few events to choose a penalty.
    """
    prepared = preparation(training, settings.most_correlated, settings.most_features)
    risk_sets = RiskSets.of(training)
    features = prepared.standardised(training.features)
    penalties = _penalties(features, risk_sets, settings)
    index = 0 if settings.penalty is not None else _best(training, penalties, settings, random)
    beta = cox_path(features, risk_sets, settings.l1_ratio, penalties[: index + 1]).coefficients[index]
    return _model(training, prepared, beta, float(penalties[index]), settings)


def _penalties(features: Floats, risk_sets: RiskSets, settings: CoxSettings) -> Floats:
    if settings.penalty is not None:
        return np.array([settings.penalty])
    return penalty_path(features, risk_sets, settings.l1_ratio, settings.penalties, settings.smallest_penalty)


def _best(training: Cohort, penalties: Floats, settings: CoxSettings, random: np.random.Generator) -> int:
    """Index of the penalty with the greatest cross-validated partial likelihood.

    What a fold adds is the log-likelihood of all patients less that of its training patients, so that a fold of few
    events still has risk sets (Verweij and van Houwelingen, Stat Med 1993, doi 10.1002/sim.4780122407).
    """
    folds = min(settings.inner_folds, int(training.has_event().sum()))
    fold_of_row = event_folds(training, folds, random)
    everyone = RiskSets.of(training)
    likelihood = np.zeros(len(penalties))
    for fold in range(folds):
        rest = training.take(fold_of_row != fold)
        prepared = preparation(rest, settings.most_correlated, settings.most_features)
        of_rest = RiskSets.of(rest)
        path = cox_path(prepared.standardised(rest.features), of_rest, settings.l1_ratio, penalties)
        eta = prepared.standardised(training.features) @ path.coefficients.T
        for index, column in enumerate(eta.T):
            own = of_rest.log_likelihood(column[fold_of_row != fold])
            likelihood[index] += everyone.log_likelihood(column) - own
    return int(likelihood.argmax())


def _model(training: Cohort, prepared: Preparation, beta: Floats, penalty: float, settings: CoxSettings) -> CoxModel:
    # A model without any feature keeps the first, with the coefficient 0.
    used: Numbers = np.flatnonzero(beta) if beta.any() else np.array([0])
    risk = prepared.standardised(training.features) @ beta
    sets = RiskSets.of(training)
    return CoxModel(
        feature_names=tuple(training.feature_names[index] for index in prepared.kept[used]),
        mean=tuple(prepared.mean[used].tolist()),
        sd=tuple(prepared.sd[used].tolist()),
        coefficients=tuple(beta[used].tolist()),
        baseline_times=tuple(sets.times.tolist()),
        baseline_cumulative_hazard=tuple(sets.cumulative_hazard(risk).tolist()),
        time_unit=training.time_unit,
        high_risk_above=float(np.percentile(risk, settings.high_risk_percentile)),
        penalty=penalty,
        l1_ratio=settings.l1_ratio,
        patients=len(training.patients),
        events=training.events,
    )
