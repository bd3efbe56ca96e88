"""Logistic regression: finds what is there, nothing in noise, and is plain numbers."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.classification import (
    ClassificationError,
    LabelledPatients,
    LogisticModel,
    LogisticSettings,
    fit_logistic,
    labelled,
    pr_auc,
    repeated_nested_probability,
    roc_auc,
)

QUICK = LogisticSettings(inverse_penalties=(0.03, 0.3), inner_folds=3)


def made(patients: int = 150, features: int = 6, effect: float = 1.5, seed: int = 3) -> LabelledPatients:
    random = np.random.default_rng(seed)
    values = random.standard_normal((patients, features))
    outcome = random.uniform(size=patients) < 1.0 / (1.0 + np.exp(1.0 - effect * values[:, 0]))
    return labelled(10.0 * values + 3.0, [f"f{index}" for index in range(features)], outcome)


def test_new_patients_are_told_apart_about_as_well_as_by_the_truth() -> None:
    model = fit_logistic(made(), QUICK, np.random.default_rng(1))
    new = made(400, seed=9)
    truth = roc_auc(new.outcome, new.features[:, 0], 200)
    found = roc_auc(new.outcome, model.probability(new.features, new.feature_names), 200)
    assert truth.holds(found.value)
    assert truth.low > 0.7


def test_probabilities_are_probabilities() -> None:
    new = made(1000, seed=11)
    model = fit_logistic(made(1000), QUICK, np.random.default_rng(1))
    probability = model.probability(new.features, new.feature_names)
    assert probability.mean() == pytest.approx(new.outcome.mean(), abs=0.04)


def test_nested_validation_finds_an_effect_and_none_in_noise() -> None:
    patients, noise = made(90), made(90, 40, effect=0.0)
    found = repeated_nested_probability(patients, QUICK, 3, 2)
    assert found.shape == (2, 90)
    assert roc_auc(patients.outcome, found, 200).low > 0.5
    assert pr_auc(patients.outcome, found, 200).low > patients.outcome.mean()
    assert roc_auc(noise.outcome, repeated_nested_probability(noise, QUICK, 3, 1), 200).holds(0.5)


def test_areas_by_hand() -> None:
    outcome = np.array([True, False, True, False])
    probability = np.array([0.9, 0.8, 0.7, 0.1])
    # ROC: 3 of 4 pairs. Average precision: 1/2 * 1 + 1/2 * 2/3.
    assert roc_auc(outcome, probability, 10).value == 0.75
    assert pr_auc(outcome, probability, 10).value == pytest.approx(5.0 / 6.0)


def test_no_model_sees_a_patient_that_it_is_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every patient has a feature of his own: the mean that a model learned tells who was in its training set."""
    patients = labelled(2.0 ** np.arange(12.0)[:, None], ["bit"], np.arange(12) % 2)
    seen: list[set[int]] = []

    def watching(training: LabelledPatients, settings: LogisticSettings, random: np.random.Generator) -> LogisticModel:
        model = fit_logistic(training, settings, random)
        total = round(model.mean[0] * model.patients)
        seen.append({patient for patient in range(12) if total >> patient & 1})
        return model

    monkeypatch.setattr("models.classification.fit_logistic", watching)
    repeated_nested_probability(patients, QUICK, 3, 1)
    held_out = [set(range(12)) - training for training in seen]
    assert [len(patients) for patients in held_out] == [4, 4, 4]
    assert set.union(*held_out) == set(range(12))


@pytest.mark.parametrize(
    ("features", "names", "outcome", "sentence"),
    [
        ([[1.0], [2.0]], ["a"], [1], "do not fit together"),
        ([[1.0], [2.0]], ["a", "b"], [0, 1], "do not fit together"),
        ([[1.0], [np.nan]], ["a"], [0, 1], "missing for some patients"),
        ([[1.0], [2.0]], ["a"], [1, 1], "not 0 for some patients and 1 for others"),
        ([[1.0], [2.0]], ["a"], [1, 2], "not 0 for some patients and 1 for others"),
    ],
)
def test_patients_that_can_not_be_used_are_refused(
    features: Any, names: list[str], outcome: Any, sentence: str
) -> None:
    with pytest.raises(ClassificationError, match=sentence):
        labelled(features, names, outcome)


def test_too_few_patients_of_one_outcome_are_refused() -> None:
    few = labelled(np.arange(6.0)[:, None], ["a"], [1, 0, 0, 0, 0, 0])
    with pytest.raises(ClassificationError, match="Fewer than two"):
        fit_logistic(few, QUICK, np.random.default_rng(1))
    with pytest.raises(ClassificationError, match="1 patients of one outcome for 3 folds"):
        repeated_nested_probability(few, QUICK, 3)


def test_a_model_says_what_it_can_not_do_and_comes_back_from_json() -> None:
    model = fit_logistic(made(60, 2), QUICK, np.random.default_rng(1))
    assert LogisticModel.model_validate_json(model.model_dump_json()) == model
    with pytest.raises(ClassificationError, match="The feature f0 is absent"):
        model.probability(np.ones((1, 1)), ["f1"])
    with pytest.raises(ClassificationError, match="no number"):
        model.probability(np.full((1, 2), np.inf), ["f0", "f1"])
    with pytest.raises(ValidationError):
        LogisticModel.model_validate(model.model_dump() | {"sd": (1.0, 0.0)})
    with pytest.raises(ValidationError):
        LogisticModel.model_validate(model.model_dump() | {"sd": (1.0,)})
