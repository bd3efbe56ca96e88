"""Validation that does not lie: noise stays noise, whatever is selected, and null effects have even p values."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from models.survival.bootstrap632 import bootstrap_632_plus
from models.survival.calibration import calibration
from models.survival.cohort import Cohort, SurvivalError
from models.survival.concordance import c_index, c_index_interval, pair_scores
from models.survival.cox_model import CoxModel, CoxSettings, fit_cox
from models.survival.group_comparison import log_rank_p
from models.survival.multiplicity import holm
from models.survival.permutation import permutation_p
from models.survival.preparation import preparation
from models.survival.simulated import SimulatedCohort, SimulatedCohortSettings, simulated_cohort
from models.survival.validation import (
    Procedure,
    held_out,
    held_out_c_index,
    held_out_scores,
    leave_one_out,
    repeated_nested,
)
from tests.models.survival.patients import cut_at


def made(seed: int = 5, **settings: object) -> SimulatedCohort:
    return simulated_cohort(SimulatedCohortSettings.model_validate(settings), np.random.default_rng(seed))


def cox(**settings: object) -> Procedure:
    chosen = CoxSettings.model_validate({"penalties": 10, "inner_folds": 3} | settings)
    return lambda training, random: fit_cox(training, chosen, random)


SELECTING = cox(penalty=0.02, most_features=5, most_correlated=1.0)
"""As picks of the five best of many features do it."""


def test_selection_inside_the_folds_finds_nothing_in_noise_and_outside_finds_much() -> None:
    noise = made(3, patients=60, features=300, effects=()).cohort
    inside = repeated_nested(noise, SELECTING, 5, 3)
    kept = preparation(noise, most_features=5).kept
    chosen = noise.with_features(noise.features[:, kept], [noise.feature_names[k] for k in kept])
    outside = repeated_nested(chosen, SELECTING, 5, 3)
    assert held_out_c_index(noise, inside, 200).holds(0.5)
    assert held_out_scores(chosen, outside).c_index() > 0.65


def test_no_procedure_sees_a_patient_that_it_is_judged_by() -> None:
    cohort = cut_at(made(patients=40, features=3).cohort, 200.0, 500.0)
    seen: list[set[int]] = []

    def watching(training: Cohort, random: np.random.Generator) -> CoxModel:
        seen.append(set(training.patient.tolist()))
        return fit_cox(training, CoxSettings(penalty=0.05), random)

    found = leave_one_out(cohort, watching)
    everyone = set(range(40))
    assert [everyone - training for training in seen] == [{patient} for patient in range(40)]
    assert np.isfinite(found.risk).all()


def test_outcomes_of_the_held_out_do_not_reach_their_own_predictions() -> None:
    cohort = made(patients=60, features=5).cohort
    fold = np.arange(60) % 3
    spoilt = replace(cohort, stop=np.where(fold == 0, 9999.0, cohort.stop), event=cohort.event & (fold != 0))
    before, after = (held_out(one, cox(), fold, seed=1) for one in (cohort, spoilt))
    assert before.risk[fold == 0].tolist() == after.risk[fold == 0].tolist()
    assert before.high_risk[fold == 0].tolist() == after.high_risk[fold == 0].tolist()
    assert before.risk[fold == 1].tolist() != after.risk[fold == 1].tolist()


def test_a_real_effect_is_found_by_every_kind_of_validation() -> None:
    patients = made(patients=150, features=8)
    oracle = c_index_interval(patients.cohort, pair_scores(patients.cohort, patients.risk))
    nested = repeated_nested(patients.cohort, cox(), 5, 2)
    single = leave_one_out(patients.cohort, cox(penalty=0.05))
    for found in (held_out_c_index(patients.cohort, nested, 200), held_out_c_index(patients.cohort, [single], 200)):
        assert found.low > 0.5
        assert oracle.holds(found.value)
    assert log_rank_p(patients.cohort, single.high_risk) < 1e-3


def test_repeats_differ_and_seeds_repeat() -> None:
    cohort = made(patients=60, features=5).cohort
    first, second = repeated_nested(cohort, cox(), 3, 2, seed=4)
    again = repeated_nested(cohort, cox(), 3, 2, seed=4)[1]
    assert first.fold.tolist() != second.fold.tolist()
    assert second.risk.tolist() == again.risk.tolist()


def test_nothing_validated_is_refused() -> None:
    with pytest.raises(SurvivalError, match="Nothing was validated"):
        held_out_scores(made(patients=20).cohort, [])


def test_the_632_bootstrap_lies_between_optimism_and_the_patients_left_out() -> None:
    noise = made(2, patients=60, features=40, effects=()).cohort
    found = bootstrap_632_plus(noise, cox(penalty=0.02), 20)
    assert found.apparent > 0.75
    assert found.out_of_bag == pytest.approx(0.5, abs=0.06)
    # Its weight goes to 1 as the model overfits: on noise nearly all the optimism has to go.
    assert found.plus == pytest.approx(0.5, abs=0.08)
    assert found.draws == 20


def test_the_632_bootstrap_of_a_good_model_is_near_the_truth() -> None:
    patients = made(patients=150, features=4)
    found = bootstrap_632_plus(patients.cohort, cox(penalty=0.02), 20)
    assert found.plus == pytest.approx(c_index(patients.cohort, patients.risk), abs=0.03)


def cross_validated(cohort: Cohort) -> float:
    procedure = cox(penalty=0.02, most_correlated=1.0)
    return held_out_scores(cohort, repeated_nested(cohort, procedure, 3, 1)).c_index()


def test_without_an_effect_p_values_are_even() -> None:
    settings: dict[str, object] = {"patients": 40, "features": 3, "effects": ()}
    p_values = [permutation_p(made(seed, **settings).cohort, cross_validated, 19, seed) for seed in range(20)]
    assert kstest(p_values, "uniform").pvalue > 0.05
    assert min(p_values) >= 1.0 / 20.0


def test_with_an_effect_no_permutation_does_as_well() -> None:
    assert permutation_p(made(patients=100, features=3).cohort, cross_validated, 19) == 1.0 / 20.0


def test_a_score_that_never_changes_is_reached_by_every_permutation() -> None:
    assert permutation_p(made(patients=20).cohort, lambda cohort: 0.5, 9) == 1.0


def test_outcomes_of_several_rows_are_not_dealt_out() -> None:
    with pytest.raises(SurvivalError, match="several rows"):
        permutation_p(cut_at(made(patients=20).cohort, 300.0), cross_validated)


def test_p_values_of_several_feature_sets_are_corrected_as_holm_did() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_held_out_probabilities_are_calibrated_and_boasting_ones_are_not() -> None:
    cohort = made(patients=300, features=5).cohort
    (found,) = repeated_nested(cohort, cox(), 5, 1, horizon=700.0)
    assert found.event_probability is not None
    good = calibration(cohort, found.event_probability, found.risk, 700.0)
    assert good.observed_over_expected == pytest.approx(1.0, abs=0.1)
    assert good.slope.holds(1.0)
    assert [group.patients for group in good.groups] == [75] * 4
    assert all(group.observed.low - 0.05 <= group.predicted <= group.observed.high + 0.05 for group in good.groups)
    boasting = calibration(cohort, found.event_probability**0.5, 2.5 * found.risk, 700.0)
    assert boasting.observed_over_expected < 0.9
    assert boasting.slope.high < 0.7


@pytest.mark.parametrize(
    ("horizon", "same_risk", "cut", "sentence"),
    [
        (1e6, False, False, "Nobody was watched until the horizon"),
        (300.0, True, False, "All patients have the same predicted risk"),
        (300.0, False, True, "Only patients who were watched from the start"),
    ],
)
def test_what_can_not_be_calibrated_is_refused(horizon: float, same_risk: bool, cut: bool, sentence: str) -> None:
    cohort = made(patients=20).cohort
    cohort = cut_at(cohort, 200.0) if cut else cohort
    risk = np.zeros(cohort.rows) if same_risk else np.arange(cohort.rows, dtype=np.float64)
    with pytest.raises(SurvivalError, match=sentence):
        calibration(cohort, np.full(cohort.rows, 0.5), risk, horizon)
