"""Made-up courses: what the images show is what the response says, and the hazard is the one that was asked for."""

import numpy as np
import pytest

from models.simulated_response import (
    ResponseSettings,
    SimulatedCourse,
    remaining,
    simulated_course,
    simulated_courses,
    simulated_outcomes,
)
from models.survival.concordance import c_index

SMALL = ResponseSettings(shape_zyx=(14, 44, 44), spacing_zyx_mm=(7.0, 7.0, 7.0), fractions=3, noise_sd_hu=5.0,
                         drift_sd_hu=0.0, setup_sd_mm=0.0)  # fmt: skip


def course(response: float, settings: ResponseSettings = SMALL) -> SimulatedCourse:
    return simulated_course(response, settings, np.random.default_rng(0))


def tumour_hu(found: SimulatedCourse) -> list[float]:
    return [float(image[found.gtv_zyx].mean()) for image in found.fractions_hu_zyx]


def test_half_of_the_tumour_of_an_average_patient_is_left_at_the_end() -> None:
    assert remaining(0.0, 0.0) == 1.0
    assert remaining(0.0, 1.0) == pytest.approx(np.exp(-0.7))
    assert remaining(2.0, 1.0) < remaining(0.0, 1.0) < remaining(-2.0, 1.0)


def test_the_tumour_of_who_responds_gets_less_dense_than_that_of_who_does_not() -> None:
    good, bad = tumour_hu(course(2.0)), tumour_hu(course(-2.0))
    assert good[0] == pytest.approx(bad[0], abs=1.0)
    assert good[1] - good[0] < -25.0 and good[2] < good[1]
    assert -20.0 < bad[2] - bad[0] < 0.0


def test_the_patient_lies_where_the_setup_says() -> None:
    moved = course(-2.0, SMALL.model_copy(update={"setup_sd_mm": 8.0}))
    still = course(-2.0)
    body = [np.argwhere(image > -300.0).mean(axis=0) for image in (*moved.fractions_hu_zyx, still.fractions_hu_zyx[0])]
    for place, setup in zip(body[:-1], moved.setups, strict=True):
        assert (place - body[-1])[1:] * 7.0 == pytest.approx(setup[:2, 3][::-1], abs=1.5)


def test_a_patient_is_the_same_whoever_else_is_drawn() -> None:
    first = next(simulated_courses(np.array([0.5, 1.0]), SMALL, 3))
    again = next(simulated_courses(np.array([0.5]), SMALL, 3))
    assert np.array_equal(first.fractions_hu_zyx[2], again.fractions_hu_zyx[2])


def test_the_hazard_is_the_one_that_was_asked_for() -> None:
    found = simulated_outcomes(800, ResponseSettings(effect=1.0), np.random.default_rng(0))
    assert np.array_equal(found.risk, -found.responses)
    assert 0.70 < c_index(found.cohort(), found.risk) < 0.80


def test_without_effect_the_response_says_nothing() -> None:
    found = simulated_outcomes(800, ResponseSettings(effect=0.0), np.random.default_rng(0))
    assert not found.risk.any()
    assert c_index(found.cohort(), -found.responses) == pytest.approx(0.5, abs=0.03)
