"""Made-up implants: doses as published, a hazard that is known, and one seed one cohort."""

import numpy as np
import pytest

from models.prostate_implant import ImplantSettings, made_up_implant, sample_points_mm
from models.simulated_implant import (
    ImplantCohort,
    ImplantCohortSettings,
    outcomes_of,
    simulated_implants,
    true_measures,
)
from models.survival.cohort import Cohort, cohort
from models.survival.concordance import c_index

PATIENTS = 40


@pytest.fixture(scope="module")
def made() -> ImplantCohort:
    return simulated_implants(ImplantCohortSettings(patients=PATIENTS), seed=3)


def test_doses_are_about_those_of_published_cohorts(made: ImplantCohort) -> None:
    # Kitasato, 305 patients: mean D90 173.4 Gy, V100 95.8 % (papers of the pipeline).
    d90 = np.array([one.d90_gy for one in made.measures])
    assert 160.0 < d90.mean() < 180.0
    assert 10.0 < d90.std() < 25.0
    assert 93.0 < np.mean([one.v100_percent for one in made.measures]) < 98.0
    assert 55.0 < np.mean([one.v150_percent for one in made.measures]) < 75.0


def test_the_coldest_millilitre_says_what_the_d90_does_not(made: ImplantCohort) -> None:
    d90, coldest = (np.array([getattr(one, name) for one in made.measures]) for name in ("d90_gy", "coldest"))
    assert 0.4 < np.corrcoef(d90, coldest)[0, 1] < 0.9


def test_an_implant_as_planned_has_the_planned_d90_and_no_seed_in_the_urethra() -> None:
    exact = ImplantSettings(planned_d90=(1.3, 1.3))
    implant = made_up_implant(exact, np.random.default_rng(0))
    points, inside = sample_points_mm(implant.prostate)
    planned = type(implant)(implant.prostate, 145.0, implant.strength_u, implant.planned_mm, implant.planned_mm)
    assert np.percentile(planned.dose_gy(points)[inside], 10.0) == pytest.approx(1.3 * 145.0)
    assert not implant.prostate.in_urethra(implant.planned_mm).any()


def test_measures_are_those_of_samples_taken_anew() -> None:
    implant = made_up_implant(ImplantSettings(), np.random.default_rng(8))
    points = np.random.default_rng(9).uniform(-35.0, 35.0, (60_000, 3))
    gy = implant.dose_gy(points[implant.prostate.inside(points)])
    found = true_measures(implant)
    assert found.d90_gy == pytest.approx(np.percentile(gy, 10.0), rel=0.02)
    assert found.v100_percent == pytest.approx(100.0 * (gy >= 145.0).mean(), abs=1.0)
    assert found.volume_ml == pytest.approx(343.0 * len(gy) / 60_000, rel=0.04)


def test_the_risk_orders_failures_as_its_size_promises(made: ImplantCohort) -> None:
    # The chance of an order by a risk of such a spread, averaged over all pairs: 1 / (1 + exp(-difference)).
    difference = np.abs(made.risk[:, None] - made.risk[None])[~np.eye(PATIENTS, dtype=np.bool_)]
    expected = float((1.0 / (1.0 + np.exp(-difference))).mean())
    many = ImplantCohortSettings(patients=PATIENTS, event_part=0.8)
    found = c_index(_of(outcomes_of(made.implants, made.measures, many, seed=3)), made.risk)
    assert found == pytest.approx(expected, abs=0.07)


def _of(one: ImplantCohort) -> Cohort:
    return cohort(one.risk[:, None], ["risk"], one.time_d, one.event)


def test_without_effect_no_patient_differs_and_as_many_fail(made: ImplantCohort) -> None:
    off = ImplantCohortSettings(patients=PATIENTS, effect=0.0)
    none = outcomes_of(made.implants, made.measures, off, seed=3)
    assert not none.risk.any()
    assert 0.05 < none.event.mean() < 0.4


def test_the_expected_part_of_patients_fails(made: ImplantCohort) -> None:
    assert made.event.mean() == pytest.approx(0.2, abs=0.12)
    assert made.time_d.max() <= 3600.0


def test_a_patient_is_the_same_in_a_smaller_cohort_of_the_seed(made: ImplantCohort) -> None:
    few = simulated_implants(ImplantCohortSettings(patients=2), seed=3)
    np.testing.assert_array_equal(few.implants[1].seeds_mm, made.implants[1].seeds_mm)
    other = simulated_implants(ImplantCohortSettings(patients=2), seed=4)
    assert few.implants[0].strength_u != other.implants[0].strength_u
