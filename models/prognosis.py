"""What a patient's features say about his outcome: a trained model with the cohort that it comes from.

The model is plain numbers (`models.stored_numbers`). The interval of a patient's probability is that of models trained
alike on patients drawn anew with replacement from the cohort: with few events it is wide, and it has to be seen.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.classification import LogisticModel
from models.limits import Limits
from models.outcomes import TrainingCohort
from models.stored_numbers import NumbersCard, load_numbers
from models.survival.cohort import Floats
from models.survival.cox_model import CoxModel
from models.survival.interval import Interval, percentile_interval
from models.weights import WeightsError

_ROOT = Path(__file__).parent
Group = Literal["low", "high"]
OutcomeModel = Annotated[CoxModel | LogisticModel, Field(discriminator="kind")]


class PrognosisError(Exception):
    """Nothing can be said of a patient; the message is one plain sentence."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GroupCurve(_Record):
    """Kaplan-Meier of the training patients whom a model that had not seen them put into one group."""

    group: Group
    patients: int = Field(ge=1)
    events: int = Field(ge=0)
    times: tuple[FiniteFloat, ...]
    """(m,) of events, ascending, in `PrognosisModel.time_unit`."""
    survival: tuple[FiniteFloat, ...]
    """(m,) from each time to the next."""
    low: tuple[FiniteFloat, ...]
    """(m,) of the pointwise interval of 95 %."""
    high: tuple[FiniteFloat, ...]
    """(m,)."""
    last_watched: FiniteFloat
    """Longest time that one of them was watched: the curve ends there."""


class FeatureDomain(_Record):
    """Where the features of the training patients lie: their mean, and the inverse of their shrunken covariance."""

    feature_names: tuple[str, ...] = Field(min_length=1)
    mean: tuple[FiniteFloat, ...]
    """(k,)."""
    precision: tuple[tuple[FiniteFloat, ...], ...]
    """(k, k)."""

    def distance(self, features: Mapping[str, float]) -> float:
        """Mahalanobis distance of a patient from the mean; about the root of k for one like the others."""
        away = np.array([features[name] for name in self.feature_names]) - self.mean
        return float(np.sqrt(max(away @ np.array(self.precision) @ away, 0.0)))


class PrognosisModel(_Record):
    """Everything that predicting takes, and what a reader has to know about it."""

    method: str
    """Name of the pipeline whose features it takes."""
    model: OutcomeModel
    resampled: tuple[OutcomeModel, ...]
    """Trained alike on patients drawn with replacement."""
    cohort: TrainingCohort
    feature_set: str
    """Which of the sets of the pipeline its features are of."""
    extraction: Mapping[str, Any]
    """How the features were computed; a pipeline that computes them otherwise must not use the model."""
    horizon: FiniteFloat | None = None
    """Of the probability, in `time_unit`; None where the outcome is yes or no."""
    time_unit: str = "d"
    high_above: FiniteFloat
    """The group is high above it: the linear predictor of a Cox model, the probability of a logistic one."""
    curves: tuple[GroupCurve, ...] = ()
    probabilities: tuple[tuple[FiniteFloat, bool], ...] = ()
    """Of the training patients by models that had not seen them, with their outcome; empty with times to an event."""
    held_out: Mapping[str, float] = Field(default_factory=dict)
    """Measured on training patients by models that had not seen them: `c_index`, `c_index_low`, `c_index_high`."""
    domain: FeatureDomain
    limits: Mapping[str, Limits] = Field(default_factory=dict)
    """Of the measures of one patient, by name; `feature_distance` is that from the domain."""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "PrognosisModel":
        if any(one.kind != self.model.kind for one in self.resampled):
            raise ValueError("the resampled models are of another kind than the model")
        if (self.horizon is None) is (self.model.kind == "cox_elastic_net"):
            raise ValueError("a horizon belongs to times to an event, and only to them")
        return self

    def probability_of(self, model: CoxModel | LogisticModel, features: Floats, names: tuple[str, ...]) -> Floats:
        """Of the event until the horizon, or of the outcome, by the model or one of the resampled; (n, p) to (n,)."""
        if isinstance(model, LogisticModel):
            return model.probability(features, names)
        # A resampled model may have seen its last event before the horizon; from there on it says no more.
        horizon = min(self.horizon or 0.0, model.baseline_times[-1])
        return model.event_probability(model.risk(features, names), horizon)


@dataclass(frozen=True)
class Prediction:
    """What a model says of one patient."""

    risk: float
    """The linear predictor: logarithm of the hazard ratio to an average training patient, or of the odds."""
    group: Group
    probability: Interval
    """Of the event until the horizon, or of the outcome; 95 % interval over models of resampled cohorts."""
    horizon: float | None
    time_unit: str
    distance: float
    """Of the features from those of the training patients (`FeatureDomain.distance`)."""


def predicted(model: PrognosisModel, features: Mapping[str, float]) -> Prediction:
    """What the model says of a patient with these features; more than it needs may be given.

    Raises
    ------
    PrognosisError
        If a feature that the model, or one of the resampled, needs is absent or is no number.
    """
    values, names = _row(model, features)
    score = float(model.model.score(values, names)[0])
    probability = float(model.probability_of(model.model, values, names)[0])
    draws = [float(model.probability_of(one, values, names)[0]) for one in model.resampled]
    compared = score if model.model.kind == "cox_elastic_net" else probability
    return Prediction(
        risk=score + (model.model.intercept if isinstance(model.model, LogisticModel) else 0.0),
        group="high" if compared > model.high_above else "low",
        probability=percentile_interval(probability, draws or [probability]),
        horizon=model.horizon,
        time_unit=model.time_unit,
        distance=model.domain.distance(features),
    )


def load_prognosis(weights: str) -> tuple[NumbersCard, PrognosisModel]:
    """A model with its card, verified: by the name of a shipped one, or a path of a `.json` with the card beside it.

    Raises
    ------
    models.weights.WeightsError
        If it is neither, or the file can not be used (`models.stored_numbers.load_numbers`).
    """
    path, card = prognosis_paths(weights)
    return load_numbers(path, PrognosisModel, card)


def prognosis_paths(weights: str) -> tuple[Path, Path]:
    """File and card of a model; a bare name is a shipped one.

    Raises
    ------
    models.weights.WeightsError
        If it is neither a name nor the path of a `.json` file.
    """
    path = Path(weights)
    if path.suffix == ".json":
        return path, path.with_suffix(".md")
    if path.name != weights:
        raise WeightsError(f"{weights} is neither the name of a shipped model nor a .json file")
    return _ROOT / "weights" / f"{weights}.json", _ROOT / "cards" / f"{weights}.md"


def shipped_prognoses() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in (_ROOT / "weights").glob("*.json"))


def extraction_sha256(extraction: Mapping[str, Any]) -> str:
    """Digest of how features are computed."""
    return hashlib.sha256(json.dumps(extraction, sort_keys=True).encode()).hexdigest()


def _row(model: PrognosisModel, features: Mapping[str, float]) -> tuple[Floats, tuple[str, ...]]:
    needed = {name for one in (model.model, *model.resampled) for name in one.feature_names}
    needed |= set(model.domain.feature_names)
    names = tuple(sorted(needed))
    for name in names:
        if not np.isfinite(features.get(name, np.nan)):
            raise PrognosisError(f"The model needs the feature {name}, and the patient has none")
    return np.array([[features[name] for name in names]]), names
