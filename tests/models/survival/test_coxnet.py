"""The elastic net of Cox's model: the optimum is known by its conditions, whoever found it."""

import numpy as np
import pytest

from models.survival.cohort import Cohort, Floats
from models.survival.coxnet import cox_path, penalty_path
from models.survival.group_comparison import cox_slope
from models.survival.risk_sets import RiskSets
from models.survival.simulated import SimulatedCohortSettings, simulated_cohort
from tests.models.survival.patients import cut_at, leukaemia


def made(patients: int = 120, features: int = 30) -> Cohort:
    settings = SimulatedCohortSettings(patients=patients, features=features, effects=(0.8, -0.6, 0.4)[:features])
    return simulated_cohort(settings, np.random.default_rng(7)).cohort


def scaled(cohort: Cohort) -> Floats:
    return np.asarray((cohort.features - cohort.features.mean(axis=0)) / cohort.features.std(axis=0))


def worst_condition(features: Floats, sets: RiskSets, beta: Floats, penalty: float, l1_ratio: float) -> float:
    """How far the subgradient of the objective is from holding 0; a convex objective has its minimum where it does."""
    gradient, _ = sets.derivatives(features @ beta)
    slope = features.T @ gradient / len(features) - penalty * (1.0 - l1_ratio) * beta
    l1 = penalty * l1_ratio
    return float(np.where(beta != 0.0, np.abs(slope - l1 * np.sign(beta)), np.maximum(np.abs(slope) - l1, 0.0)).max())


@pytest.mark.parametrize("l1_ratio", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("features", [30, 200])
def test_every_point_of_the_path_is_an_optimum(l1_ratio: float, features: int) -> None:
    cohort = made(features=features)
    x, sets = scaled(cohort), RiskSets.of(cohort)
    path = cox_path(x, sets, l1_ratio, penalty_path(x, sets, l1_ratio, 8, 0.05))
    for penalty, beta in zip(path.penalties, path.coefficients, strict=True):
        assert worst_condition(x, sets, beta, penalty, l1_ratio) < 1e-3 * penalty * l1_ratio + 1e-5


def test_the_path_begins_where_the_first_feature_comes_in() -> None:
    cohort = made()
    x, sets = scaled(cohort), RiskSets.of(cohort)
    largest = penalty_path(x, sets, 0.9, 2, 0.5)[0]
    found = cox_path(x, sets, 0.9, np.array([1.001 * largest, 0.99 * largest])).coefficients
    assert [int(np.count_nonzero(beta)) for beta in found] == [0, 1]


def test_without_a_penalty_it_is_the_model_of_the_textbooks() -> None:
    """With Breslow's ties the coefficient of the 6-mercaptopurine trial is 1.5092 (Cox 1972: about 1.51)."""
    patients, _ = leukaemia()
    found = cox_path(patients.features, RiskSets.of(patients), 1.0, np.array([1e-9])).coefficients
    assert found[0, 0] == pytest.approx(1.50919, abs=5e-4)


def test_patients_whose_rows_are_cut_have_the_same_likelihood() -> None:
    cohort = made()
    cut = cut_at(cohort, 100.0, 400.0, float(cohort.stop[cohort.event][3]))
    eta = scaled(cohort)[:, 0]
    assert RiskSets.of(cut).log_likelihood(eta[cut.patient]) == pytest.approx(RiskSets.of(cohort).log_likelihood(eta))


def test_the_derivatives_are_those_of_the_likelihood() -> None:
    cohort = cut_at(made(40, 3), 300.0)
    sets, eta = RiskSets.of(cohort), 0.3 * cohort.features[:, 0]
    gradient, weights = sets.derivatives(eta)
    step = 1e-4
    for row in range(0, cohort.rows, 7):
        shift = np.eye(cohort.rows)[row] * step
        low, middle, high = (sets.log_likelihood(eta + side * shift) for side in (-1.0, 0.0, 1.0))
        assert (high - low) / (2.0 * step) == pytest.approx(gradient[row], abs=1e-6)
        assert -(high - 2.0 * middle + low) / step**2 == pytest.approx(weights[row], abs=1e-4)


def test_one_feature_without_ties_agrees_with_another_library() -> None:
    cohort = made(features=1)
    x = scaled(cohort)
    found = cox_path(x, RiskSets.of(cohort), 1.0, np.array([1e-9])).coefficients[0, 0]
    assert found == pytest.approx(cox_slope(cohort, x[:, 0]).value, rel=1e-4)


def test_huge_values_do_not_overflow() -> None:
    cohort = made(features=2)
    sets = RiskSets.of(cohort)
    assert np.isfinite(sets.log_likelihood(1e6 * cohort.features[:, 0]))
    assert np.isfinite(sets.derivatives(1e6 * cohort.features[:, 0])).all()
