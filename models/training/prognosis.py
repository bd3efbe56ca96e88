"""Training of a model of outcomes: every set of features validated, the chosen one fitted, all of it written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.classification import ClassificationError, LogisticModel
from models.limits import Limits
from models.outcomes import Outcomes, OutcomesError, TrainingCohort
from models.prognosis import FeatureDomain, PrognosisModel
from models.stored_numbers import NumbersCard, save_numbers
from models.survival.cohort import Flags, SurvivalError
from models.survival.cox_model import CoxModel
from models.survival.multiplicity import holm
from models.training.measured_limits import measured_limits
from models.training.prognosis_learning import Learning, OfTimes, OfYesAndNo, SetValidation, learning
from models.training.prognosis_report import TrainedSets, write_training_report
from models.training.prognosis_sets import FeatureTable, PatientFeatures, feature_tables
from models.training.prognosis_settings import PrognosisTraining
from models.training.progress import Progress, part

DISTANCE = "feature_distance"
_DOMAIN_FEATURES = 12
"""At most so many of the model's features, the weightiest, make the distance: a covariance takes patients."""


class PrognosisTrainingError(Exception):
    """A model of outcomes can not be trained or measured; the message is one plain sentence."""


@dataclass(frozen=True)
class PrognosisTask:
    """What is trained, and how its features are made."""

    method: str
    """Name of the pipeline."""
    extraction: Mapping[str, Any]
    """How the features are computed."""
    text: str
    """Sections of the card for people, from `## Intended use` on; figures are added."""
    left_out: frozenset[str] = frozenset()
    """Features that do not repeat well enough to be learned from."""


def train_prognosis(
    patients: Sequence[PatientFeatures],
    outcomes: Outcomes,
    task: PrognosisTask,
    settings: PrognosisTraining,
    path: Path,
    progress: Progress,
) -> NumbersCard:
    """Write the model as `path` (.json), its card, the table of all sets (.csv) and a figure (.png) beside it.

    Raises
    ------
    PrognosisTrainingError
        If the chosen set is no set, or patients, outcomes or features do not suffice.
    """
    tables = feature_tables([one for one in patients if one.patient in outcomes.of_patient], task.left_out)
    try:
        way = learning(outcomes, settings)
        table = chosen_table(tables, settings.feature_set)
        validated = _validated(way, tables, part(progress, 0.0, 0.7))
        p = way.permutation_p(table)
        progress(0.9, "permuted")
        model = _model(way, table, outcomes, task, settings, _measures(patients, table))
    except (SurvivalError, ClassificationError, OutcomesError) as error:
        raise PrognosisTrainingError(str(error)) from error
    held_out = {**_figures(way, validated[settings.feature_set]), "permutation_p": p}
    model = model.model_copy(update={"held_out": {name: value for name, value in held_out.items() if value == value}})
    found = TrainedSets(tables, validated, _corrected(validated), settings, way.score_name)
    metrics = {name: float(f"{value:.4g}") for name, value in model.held_out.items()}
    text = write_training_report(path, model, found, task.text)
    progress(1.0, "written")
    return save_numbers(path, model, task.method, metrics, text)


def chosen_table(tables: Mapping[str, FeatureTable], name: str) -> FeatureTable:
    """The table of the set.

    Raises
    ------
    PrognosisTrainingError
        If no patient has it, or it has no feature.
    """
    if name not in tables:
        raise PrognosisTrainingError(f"No patient has the features {name}; there are {', '.join(tables) or 'none'}")
    if not tables[name].names:
        raise PrognosisTrainingError(f"No feature of {name} is defined for every patient and stable enough")
    return tables[name]


def _validated(way: Learning, tables: Mapping[str, FeatureTable], progress: Progress) -> dict[str, SetValidation]:
    found = {}
    for number, (name, table) in enumerate(tables.items(), start=1):
        if table.names:
            found[name] = way.validated(table)
        progress(number / len(tables), f"validated {name}")
    return found


def _corrected(validated: Mapping[str, SetValidation]) -> dict[str, float]:
    """Log-rank p of the sets, corrected for their number."""
    return holm({name: one.log_rank_p for name, one in validated.items() if one.log_rank_p == one.log_rank_p})


def _figures(way: Learning, found: SetValidation) -> dict[str, float]:
    name = way.score_name
    figures = {name: found.score.value, f"{name}_low": found.score.low, f"{name}_high": found.score.high}
    if found.pr_auc is not None:
        figures |= {"pr_auc": found.pr_auc.value, "pr_auc_low": found.pr_auc.low, "pr_auc_high": found.pr_auc.high}
    if found.hazard_ratio is not None and np.isfinite(found.hazard_ratio.value):
        figures |= {"hazard_ratio": found.hazard_ratio.value, "log_rank_p": found.log_rank_p}
    return figures


def _model(
    way: OfTimes | OfYesAndNo,
    table: FeatureTable,
    outcomes: Outcomes,
    task: PrognosisTask,
    settings: PrognosisTraining,
    measures: Sequence[Mapping[str, float]],
) -> PrognosisModel:
    model = way.fitted(table, settings.seed)
    domain, distances = _domain(table, model)
    by_patient = [[{**measured, DISTANCE: d}] for measured, d in zip(measures, distances, strict=True)]
    facts: dict[str, Any] = {
        "method": task.method,
        "model": model,
        "resampled": way.resampled(table, model),
        "cohort": TrainingCohort(
            **outcomes.statement.model_dump(),
            patients=len(table.patients),
            events=int(outcomes.events(table.patients).sum()),
        ),
        "feature_set": settings.feature_set,
        "extraction": task.extraction,
        "domain": domain,
        "limits": _limits(by_patient),
    }
    return PrognosisModel(**facts, **_of_kind(way, table, model, settings))


def _of_kind(
    way: OfTimes | OfYesAndNo, table: FeatureTable, model: CoxModel | LogisticModel, settings: PrognosisTraining
) -> dict[str, Any]:
    if isinstance(way, OfTimes) and isinstance(model, CoxModel):
        held_out: Flags = way.left_out_one(table).high_risk
        curves = way.curves(table, held_out)
        return {"horizon": way.horizon(table), "high_above": model.high_risk_above, "curves": curves}
    probability, outcome = way.held_out(table), way.outcomes.events(table.patients)  # type: ignore[union-attr]
    return {
        "high_above": float(np.percentile(probability, settings.high_risk_percentile)),
        "probabilities": tuple(zip(probability.tolist(), outcome.tolist(), strict=True)),
    }


def _measures(patients: Sequence[PatientFeatures], table: FeatureTable) -> list[Mapping[str, float]]:
    of_patient = {one.patient: one.measures for one in patients}
    return [of_patient[patient] for patient in table.patients]


def _limits(by_patient: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, Limits]:
    """Of the measures that every patient has: what one lacks has no limit, so that it is held."""
    common = set.intersection(*(set(image) for images in by_patient for image in images))
    found = measured_limits(
        [[{name: image[name] for name in sorted(common)} for image in images] for images in by_patient]
    )
    return {name: limits for name, limits in found.items() if name in common}


def _domain(table: FeatureTable, model: CoxModel | LogisticModel) -> tuple[FeatureDomain, list[float]]:
    """Where the model's features lie, and how far each training patient is from that of the others."""
    weight = dict(zip(model.feature_names, np.abs(model.coefficients).tolist(), strict=True))
    names = sorted(sorted(weight, key=weight.__getitem__, reverse=True)[:_DOMAIN_FEATURES])
    values = table.values[:, [table.names.index(name) for name in names]]
    rows = [dict(zip(names, row.tolist(), strict=True)) for row in values]
    # A patient who had a part in mean and covariance lies nearer to them than the next one will.
    others = [_fitted_domain(names, np.delete(values, index, axis=0)) for index in range(len(values))]
    return _fitted_domain(names, values), [one.distance(row) for one, row in zip(others, rows, strict=True)]


def _fitted_domain(names: Sequence[str], values: np.ndarray[Any, np.dtype[np.float64]]) -> FeatureDomain:
    from sklearn.covariance import LedoitWolf

    scale = np.maximum(values.std(axis=0), 1e-12)
    # Shrinking goes towards equal variances, so that features of other units have to be scaled before.
    precision = LedoitWolf().fit(values / scale).precision_ / np.outer(scale, scale)
    return FeatureDomain(
        feature_names=tuple(names),
        mean=tuple(values.mean(axis=0).tolist()),
        precision=tuple(tuple(row) for row in precision.tolist()),
    )
