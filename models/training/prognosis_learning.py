"""One way to train and validate models of outcomes, be they times to an event or yes and no."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.classification import (
    LabelledPatients,
    LogisticModel,
    fit_logistic,
    labelled,
    pr_auc,
    repeated_nested_probability,
    roc_auc,
)
from models.outcomes import Outcomes
from models.prognosis import Group, GroupCurve
from models.survival.cohort import Cohort, Flags, Floats, SurvivalError, cohort
from models.survival.concordance import c_index_interval, pair_scores
from models.survival.cox_model import CoxModel, CoxSettings, fit_cox
from models.survival.group_comparison import hazard_ratio, log_rank_p
from models.survival.interval import Interval
from models.survival.kaplan_meier import kaplan_meier
from models.survival.permutation import permutation_p
from models.survival.validation import HeldOut, held_out_c_index, leave_one_out, repeated_nested
from models.training.prognosis_sets import FeatureTable
from models.training.prognosis_settings import PrognosisTraining

_EVENTS_BEFORE_HORIZON = 75.0
"""Percent."""


@dataclass(frozen=True)
class SetValidation:
    """How a set of features fares with patients whom the models had not seen."""

    score: Interval
    """C-index, or area under the ROC curve."""
    log_rank_p: float = float("nan")
    """Of the two groups, each patient put into one by a model that had not seen him."""
    hazard_ratio: Interval | None = None
    pr_auc: Interval | None = None


class Learning(ABC):
    """Training and validation for one kind of outcome."""

    score_name: str

    def __init__(self, outcomes: Outcomes, settings: PrognosisTraining) -> None:
        self.outcomes = outcomes
        self.settings = settings

    @abstractmethod
    def fitted(self, table: FeatureTable, seed: int) -> CoxModel | LogisticModel:
        """A model of all patients of the table."""

    @abstractmethod
    def resampled(self, table: FeatureTable, model: CoxModel | LogisticModel) -> tuple[CoxModel | LogisticModel, ...]:
        """Models with the penalty of `model`, of patients drawn with replacement."""

    @abstractmethod
    def validated(self, table: FeatureTable) -> SetValidation:
        """By repeated nested cross-validation."""

    @abstractmethod
    def permutation_p(self, table: FeatureTable) -> float:
        """How often a nested cross-validation finds as much in outcomes dealt out at random; nan without any."""

    @abstractmethod
    def scored(self, table: FeatureTable, model: CoxModel | LogisticModel) -> SetValidation:
        """How a model fares with these patients, who had no part in it."""

    @abstractmethod
    def score_of_risk(self, table: FeatureTable, risk: Mapping[str, float]) -> Interval:
        """How a risk that is known from elsewhere orders these patients."""


class OfTimes(Learning):
    """Times to an event: a Cox model with elastic net penalty."""

    score_name = "c_index"

    def cohort(self, table: FeatureTable) -> Cohort:
        """The patients of the table; errors as of `models.survival.cohort.cohort`."""
        times, events = self.outcomes.times_d(table.patients), self.outcomes.events(table.patients)
        return cohort(table.values, table.names, times, events)

    def fitted(self, table: FeatureTable, seed: int) -> CoxModel:
        """A model of all patients of the table."""
        return fit_cox(self.cohort(table), self._cox(), np.random.default_rng(seed))

    def resampled(self, table: FeatureTable, model: CoxModel | LogisticModel) -> tuple[CoxModel, ...]:
        """Models with the penalty of `model`, of patients drawn with replacement."""
        everyone, random = self.cohort(table), np.random.default_rng(self.settings.seed + 1)
        fixed = self._cox().model_copy(update={"penalty": getattr(model, "penalty", None)})
        found: list[CoxModel] = []
        while len(found) < self.settings.resamples:
            drawn = everyone.take(random.integers(everyone.rows, size=everyone.rows))
            if drawn.events >= 2:
                found.append(fit_cox(drawn, fixed, random))
        return tuple(found)

    def validated(self, table: FeatureTable) -> SetValidation:
        """By repeated nested cross-validation; groups from its first repeat."""
        everyone, settings = self.cohort(table), self.settings
        found = repeated_nested(everyone, self._procedure, settings.folds, settings.repeats, settings.seed)
        return _grouped(everyone, held_out_c_index(everyone, found), found[0].high_risk)

    def permutation_p(self, table: FeatureTable) -> float:
        """Of one nested cross-validation."""
        if not self.settings.permutations:
            return float("nan")

        def score(permuted: Cohort) -> float:
            found = repeated_nested(permuted, self._procedure, self.settings.folds, 1, self.settings.seed)
            scores = pair_scores(permuted, found[0].risk, found[0].fold)
            return scores.c_index()

        return permutation_p(self.cohort(table), score, self.settings.permutations, self.settings.seed)

    def scored(self, table: FeatureTable, model: CoxModel | LogisticModel) -> SetValidation:
        """How a model fares with these patients, who had no part in it."""
        if not isinstance(model, CoxModel):
            raise SurvivalError("The model is not one of times to an event")
        everyone = self.cohort(table)
        risk = model.risk(everyone.features, everyone.feature_names)
        return _grouped(everyone, _c_index(everyone, risk), risk > model.high_risk_above)

    def score_of_risk(self, table: FeatureTable, risk: Mapping[str, float]) -> Interval:
        """C-index of a risk that is known from elsewhere."""
        return _c_index(self.cohort(table), np.array([risk[patient] for patient in table.patients]))

    def left_out_one(self, table: FeatureTable) -> HeldOut:
        """Every patient by a model of all the others."""
        return leave_one_out(self.cohort(table), self._procedure, self.settings.seed)

    def horizon(self, table: FeatureTable) -> float:
        """As the settings say, or the time by which three quarters of the events had come, in days."""
        everyone = self.cohort(table)
        events = everyone.stop[everyone.event]
        chosen = self.settings.horizon_d or float(np.percentile(events, _EVENTS_BEFORE_HORIZON, method="lower"))
        if chosen > events.max():
            raise SurvivalError(f"No patient had the event as late as the horizon of {chosen:g} d")
        return chosen

    def curves(self, table: FeatureTable, high_risk: Flags) -> tuple[GroupCurve, ...]:
        """Kaplan-Meier of both groups (n,), those without patients left out."""
        everyone = self.cohort(table)
        return tuple(_curve(everyone.take(rows), group) for group, rows in _groups(high_risk) if rows.any())

    def _cox(self) -> CoxSettings:
        return self.settings.cox.model_copy(update={"high_risk_percentile": self.settings.high_risk_percentile})

    def _procedure(self, training: Cohort, random: np.random.Generator) -> CoxModel:
        return fit_cox(training, self._cox(), random)


class OfYesAndNo(Learning):
    """Yes or no: logistic regression with elastic net penalty."""

    score_name = "roc_auc"

    def patients(self, table: FeatureTable) -> LabelledPatients:
        """Those of the table; errors as of `models.classification.labelled`."""
        return labelled(table.values, table.names, self.outcomes.events(table.patients))

    def fitted(self, table: FeatureTable, seed: int) -> LogisticModel:
        """A model of all patients of the table."""
        return fit_logistic(self.patients(table), self.settings.logistic, np.random.default_rng(seed))

    def resampled(self, table: FeatureTable, model: CoxModel | LogisticModel) -> tuple[LogisticModel, ...]:
        """Models with the penalty of `model`, of patients drawn with replacement within each outcome."""
        everyone, random = self.patients(table), np.random.default_rng(self.settings.seed + 1)
        chosen = (getattr(model, "inverse_penalty", 1.0),)
        fixed = self.settings.logistic.model_copy(update={"inverse_penalties": chosen})
        groups = [np.flatnonzero(everyone.outcome), np.flatnonzero(~everyone.outcome)]
        draws = (np.concatenate([random.choice(g, len(g)) for g in groups]) for _ in range(self.settings.resamples))
        return tuple(fit_logistic(everyone.take(rows), fixed, random) for rows in draws)

    def held_out(self, table: FeatureTable) -> Floats:
        """Probability of each patient by models that had not seen him, mean over the repeats, (n,)."""
        return np.asarray(self._repeats(table).mean(axis=0))

    def validated(self, table: FeatureTable) -> SetValidation:
        """By repeated nested cross-validation."""
        outcome, found = self.patients(table).outcome, self._repeats(table)
        return SetValidation(roc_auc(outcome, found), pr_auc=pr_auc(outcome, found))

    def permutation_p(self, table: FeatureTable) -> float:
        """Of one nested cross-validation."""
        from sklearn.metrics import roc_auc_score

        if not self.settings.permutations:
            return float("nan")
        everyone, random = self.patients(table), np.random.default_rng(self.settings.seed)

        def score(patients: LabelledPatients) -> float:
            found = repeated_nested_probability(
                patients, self.settings.logistic, self.settings.folds, 1, self.settings.seed
            )
            return float(roc_auc_score(patients.outcome, found[0]))

        observed = score(everyone)
        count = self.settings.permutations
        dealt = (replace(everyone, outcome=random.permutation(everyone.outcome)) for _ in range(count))
        return (1.0 + sum(score(one) >= observed for one in dealt)) / (1.0 + count)

    def scored(self, table: FeatureTable, model: CoxModel | LogisticModel) -> SetValidation:
        """How a model fares with these patients, who had no part in it."""
        if not isinstance(model, LogisticModel):
            raise SurvivalError("The model is not one of yes and no")
        everyone = self.patients(table)
        probability = model.probability(everyone.features, everyone.feature_names)
        return SetValidation(roc_auc(everyone.outcome, probability), pr_auc=pr_auc(everyone.outcome, probability))

    def score_of_risk(self, table: FeatureTable, risk: Mapping[str, float]) -> Interval:
        """Area under the ROC curve of a risk that is known from elsewhere."""
        return roc_auc(self.patients(table).outcome, np.array([risk[patient] for patient in table.patients]))

    def _repeats(self, table: FeatureTable) -> Floats:
        settings = self.settings
        patients = self.patients(table)
        return repeated_nested_probability(patients, settings.logistic, settings.folds, settings.repeats, settings.seed)


def learning(outcomes: Outcomes, settings: PrognosisTraining) -> OfTimes | OfYesAndNo:
    """The way that fits the outcomes."""
    return OfTimes(outcomes, settings) if outcomes.kind == "survival" else OfYesAndNo(outcomes, settings)


def _c_index(everyone: Cohort, risk: Floats) -> Interval:
    return c_index_interval(everyone, pair_scores(everyone, risk))


def _grouped(everyone: Cohort, score: Interval, high_risk: Flags) -> SetValidation:
    if high_risk.all() or not high_risk.any():
        return SetValidation(score)
    p = log_rank_p(everyone, high_risk)
    if not everyone.event[high_risk].any() or not everyone.event[~high_risk].any():
        return SetValidation(score, p)
    return SetValidation(score, p, hazard_ratio(everyone, high_risk))


def _groups(high_risk: Flags) -> tuple[tuple[Group, Flags], ...]:
    return ("low", ~high_risk), ("high", high_risk)


def _curve(patients: Cohort, group: Group) -> GroupCurve:
    found = kaplan_meier(patients) if patients.event.any() else None
    return GroupCurve(
        group=group,
        patients=patients.rows,
        events=patients.events,
        times=tuple(found.times.tolist()) if found else (),
        survival=tuple(found.survival.tolist()) if found else (),
        low=tuple(found.low.tolist()) if found else (),
        high=tuple(found.high.tolist()) if found else (),
        last_watched=float(patients.stop.max()),
    )
