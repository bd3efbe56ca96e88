"""Trained models: they find what was put into the patients, know nothing else, and are plain numbers."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.survival.cohort import Cohort, SurvivalError
from models.survival.concordance import c_index, c_index_interval, pair_scores
from models.survival.cox_model import CoxModel, CoxSettings, fit_cox
from models.survival.preparation import preparation
from models.survival.simulated import SimulatedCohortSettings, simulated_cohort
from tests.models.survival.patients import cut_at, of_times

SETTINGS = CoxSettings(penalties=12, inner_folds=4)


def made(patients: int = 250, seed: int = 5, **changes: Any) -> Cohort:
    return simulated_cohort(SimulatedCohortSettings(patients=patients, **changes), np.random.default_rng(seed)).cohort


def trained(cohort: Cohort, settings: CoxSettings = SETTINGS) -> CoxModel:
    return fit_cox(cohort, settings, np.random.default_rng(0))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_model_orders_new_patients_about_as_well_as_the_truth(seed: int) -> None:
    test = simulated_cohort(SimulatedCohortSettings(patients=400), np.random.default_rng(100 + seed))
    model = trained(made(seed=seed))
    oracle = c_index_interval(test.cohort, pair_scores(test.cohort, test.risk))
    found = c_index(test.cohort, model.risk(test.cohort.features, test.cohort.feature_names))
    assert oracle.low > 0.6
    assert oracle.holds(found)
    assert found < oracle.value + 0.01


def test_the_features_with_an_effect_are_found_with_their_signs() -> None:
    model = trained(made(400))
    by_size = sorted(range(len(model.coefficients)), key=lambda k: -abs(model.coefficients[k]))[:3]
    found = {model.feature_names[k]: np.sign(model.coefficients[k]) for k in by_size}
    assert found == {"feature_0": 1.0, "feature_1": -1.0, "feature_2": 1.0}


def test_probabilities_are_those_of_the_hazard() -> None:
    """Without censoring to speak of, the share of events until a time is the mean probability of it."""
    cohort = made(600, watched_d=(5000.0, 6000.0))
    model = trained(cohort)
    risk = model.risk(cohort.features, cohort.feature_names)
    for time in (200.0, 600.0, 1500.0):
        assert model.event_probability(risk, time).mean() == pytest.approx((cohort.stop <= time).mean(), abs=0.02)
    assert model.event_probability(risk, 0.0).tolist() == [0.0] * 600


def test_the_cut_between_risk_groups_is_a_percentile_of_the_training_patients() -> None:
    cohort = made()
    model = trained(cohort, CoxSettings(penalty=0.05, high_risk_percentile=75.0))
    assert (model.risk(cohort.features, cohort.feature_names) > model.high_risk_above).mean() == pytest.approx(
        0.25, abs=0.01
    )


def test_patients_whose_rows_are_cut_make_the_same_model() -> None:
    """At the same penalty by likelihood: rows count in its mean, and standardisation weighs rows."""
    cohort = made(80, features=4)
    cut = cut_at(cohort, *np.sort(cohort.stop)[:0:-20])
    whole, rows = (trained(one, CoxSettings(penalty=1e-6, most_correlated=1.0)) for one in (cohort, cut))
    slopes = [np.array(m.coefficients) / np.array(m.sd) for m in (whole, rows)]
    assert slopes[1] == pytest.approx(slopes[0], rel=2e-3)


def test_scale_and_order_of_features_do_not_matter() -> None:
    cohort = made(100, features=6)
    other = cohort.with_features(1000.0 * cohort.features[:, ::-1] + 5.0, cohort.feature_names[::-1])
    settings = CoxSettings(penalty=0.05)
    risks = [trained(one, settings).risk(one.features, one.feature_names) for one in (cohort, other)]
    assert risks[0] == pytest.approx(risks[1], abs=1e-3)


def test_nothing_to_find_may_give_a_model_without_features() -> None:
    model = trained(made(60, effects=()), CoxSettings(penalty=10.0))
    assert model.non_zero == 0
    assert set(model.risk(np.ones((3, 1)), model.feature_names).tolist()) == {0.0}


def test_of_features_that_say_the_same_the_better_one_stays() -> None:
    cohort = made(100, features=3, correlation=0.0)
    noisy = cohort.features[:, :1] + 0.1 * np.random.default_rng(1).standard_normal((100, 1))
    constant = np.full((100, 1), 7.0)
    wide = cohort.with_features(np.hstack([noisy, constant, cohort.features]), ("noisy", "constant", "a", "b", "c"))
    kept = preparation(wide, most_correlated=0.9).kept
    assert len(kept) == 3
    assert 1 not in kept
    assert (0 in kept) != (2 in kept)
    assert preparation(wide, most_correlated=1.0).kept.tolist() == [0, 2, 3, 4]
    assert len(preparation(wide, most_features=2).kept) == 2


def test_a_model_says_what_it_can_not_do() -> None:
    cohort = made(60, features=3)
    model = trained(cohort, CoxSettings(penalty=0.01))
    with pytest.raises(SurvivalError, match="is absent"):
        model.risk(cohort.features, ("a", "b", "c"))
    with pytest.raises(SurvivalError, match="no number"):
        model.risk(np.full((1, 3), np.nan), cohort.feature_names)
    with pytest.raises(SurvivalError, match="has seen no event after"):
        model.event_probability(np.zeros(1), 1e6)
    with pytest.raises(SurvivalError, match="same value"):
        trained(of_times([1, 2, 3], [1, 1, 1]))


def test_a_model_comes_back_from_json_to_the_last_digit() -> None:
    model = trained(made(60, features=3), CoxSettings(penalty=0.01))
    assert CoxModel.model_validate_json(model.model_dump_json()) == model


@pytest.mark.parametrize(
    "changes",
    [
        {"coefficients": (1.0,)},
        {"coefficients": (1.0, float("nan"))},
        {"sd": (1.0, 0.0)},
        {"feature_names": ("a", "a")},
        {"baseline_times": (2.0, 1.0)},
        {"baseline_times": (1.0,)},
        {"baseline_cumulative_hazard": (0.2, 0.1)},
        {"kind": "another"},
        {"program": "import os"},
    ],
)
def test_numbers_that_are_no_model_are_refused(changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "feature_names": ("a", "b"), "mean": (0.0, 0.0), "sd": (1.0, 2.0), "coefficients": (0.5, 0.0),
        "baseline_times": (1.0, 2.0), "baseline_cumulative_hazard": (0.1, 0.2), "time_unit": "d",
        "high_risk_above": 0.0, "penalty": 0.1, "l1_ratio": 0.5, "patients": 10, "events": 5,
    }  # fmt: skip
    CoxModel.model_validate(good)
    with pytest.raises(ValidationError):
        CoxModel.model_validate(good | changes)
