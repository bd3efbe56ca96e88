"""Harrell's C by hand, pair by pair, and under a bootstrap."""

from itertools import permutations

import numpy as np
import pytest

from models.survival.cohort import Cohort, Floats, SurvivalError
from models.survival.concordance import c_index, c_index_interval, mean_scores, pair_scores
from models.survival.simulated import SimulatedCohortSettings, simulated_cohort
from tests.models.survival.patients import cut_at, of_times


def pair_by_pair(cohort: Cohort, risk: Floats) -> float:
    """The definition, for cohorts with one row for a patient."""
    concordant = comparable = 0.0
    for i, j in permutations(range(cohort.rows), 2):
        outlasts = cohort.stop[j] > cohort.stop[i] or (cohort.stop[j] == cohort.stop[i] and not cohort.event[j])
        if cohort.event[i] and outlasts:
            comparable += 1.0
            concordant += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return concordant / comparable


def test_c_by_hand() -> None:
    # Comparable: (1, 2), (1, 3), (1, 4) and (3, 4); the second was censored. Concordant: the first three.
    assert c_index(of_times([1, 2, 3, 4], [1, 0, 1, 0]), np.array([4.0, 3.0, 1.0, 2.0])) == 0.75


def test_equal_risks_count_half_and_the_reverse_is_the_rest() -> None:
    patients = of_times([1, 2, 3], [1, 1, 1])
    assert c_index(patients, np.zeros(3)) == 0.5
    assert c_index(patients, np.array([3.0, 2.0, 1.0])) == 1.0
    assert c_index(patients, np.array([1.0, 2.0, 3.0])) == 0.0


def test_a_censoring_at_the_time_of_an_event_outlasts_it_and_an_event_does_not() -> None:
    assert c_index(of_times([2, 2, 3], [1, 0, 1]), np.array([1.0, 0.0, 0.0])) == 1.0
    with pytest.raises(SurvivalError, match="No two patients"):
        c_index(of_times([2, 2], [1, 1]), np.array([1.0, 0.0]))


def test_c_is_that_of_the_definition() -> None:
    random = np.random.default_rng(4)
    patients = of_times(random.integers(1, 20, 60).tolist(), random.integers(0, 2, 60).tolist())
    risk = random.integers(0, 10, 60).astype(np.float64)
    assert c_index(patients, risk) == pytest.approx(pair_by_pair(patients, risk))


def test_rows_that_are_cut_compare_the_same_patients() -> None:
    made = simulated_cohort(SimulatedCohortSettings(patients=60), np.random.default_rng(2))
    cut = cut_at(made.cohort, 100.0, 700.0)
    assert c_index(cut, made.risk[cut.patient]) == pytest.approx(c_index(made.cohort, made.risk))


def test_pairs_across_folds_do_not_count() -> None:
    patients = of_times([1, 2, 3, 4], [1, 1, 1, 1])
    risk = np.array([2.0, 1.0, 9.0, 8.0])
    assert c_index(patients, risk) == pytest.approx(2.0 / 6.0)
    assert pair_scores(patients, risk, np.array([0, 0, 1, 1])).c_index() == 1.0


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Risks that say nothing have C = 1/2; of 60 intervals of 95 %, 57 +- 1.7 should hold it."""
    held = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        patients = of_times(random.exponential(size=80).tolist(), [1] * 80)
        held += c_index_interval(patients, pair_scores(patients, random.standard_normal(80)), 300, seed).holds(0.5)
    assert 52 <= held <= 60


def test_more_repeats_average() -> None:
    patients = of_times([1, 2, 3], [1, 1, 1])
    scores = [pair_scores(patients, np.array(risk, np.float64)) for risk in ([3, 2, 1], [1, 2, 3])]
    assert mean_scores(scores).c_index() == 0.5


def test_too_few_patients_have_no_interval() -> None:
    patients = of_times([1, 2], [1, 0])
    with pytest.raises(SurvivalError, match="too few"):
        c_index_interval(patients, pair_scores(patients, np.array([1.0, 0.0])), 50)
