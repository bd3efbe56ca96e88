"""Dose of seeds against the dose rates that AAPM TG-43U1 tabulates, and against sums by hand."""

import numpy as np
import pytest

from models.seed_dose import HALF_LIFE_H, LEAST_CM, dose_rate, implant_dose_gy

TABULATED = {0.5: 3.937, 1.0: 0.911, 1.5: 0.368, 2.0: 0.186, 3.0: 0.0643, 4.0: 0.0284, 5.0: 0.0134, 6.0: 0.00688}
"""cGy per hour and U of the model 6711 at distances in cm, one-dimensional formalism (doi 10.1118/1.1646040)."""
ONE_U_AT_1_CM_GY = 0.965 * 0.944 * 59.4 * 24.0 / np.log(2.0) / 100.0


def test_dose_rates_are_the_tabulated_ones() -> None:
    found = dose_rate(np.array(list(TABULATED)))
    np.testing.assert_allclose(found, list(TABULATED.values()), rtol=0.004)


def test_a_seed_of_one_unit_gives_its_lifetime_dose_at_one_centimetre() -> None:
    points = np.array([[10.0, 0.0, 0.0], [0.0, -6.0, 8.0]])
    found = implant_dose_gy(points, np.zeros((1, 3)), 1.0)
    np.testing.assert_allclose(found, ONE_U_AT_1_CM_GY, rtol=1e-4)
    assert pytest.approx(18.74, abs=0.01) == ONE_U_AT_1_CM_GY
    assert pytest.approx(1425.6) == HALF_LIFE_H


def test_the_doses_of_seeds_add_up_and_grow_with_their_strength() -> None:
    random = np.random.default_rng(0)
    points, seeds = random.uniform(-30.0, 30.0, (50, 3)), random.uniform(-20.0, 20.0, (4, 3))
    apart = sum(implant_dose_gy(points, seed[None], 0.5) for seed in seeds)
    np.testing.assert_allclose(implant_dose_gy(points, seeds, 0.5), apart)
    np.testing.assert_allclose(implant_dose_gy(points, seeds, 1.0), 2.0 * apart)


def test_inside_a_seed_the_dose_is_that_of_the_nearest_tabulated_place() -> None:
    inside = implant_dose_gy(np.array([[0.0, 0.0, 0.0], [10.0 * LEAST_CM, 0.0, 0.0]]), np.zeros((1, 3)), 1.0)
    assert inside[0] == pytest.approx(inside[1])
    assert np.isfinite(inside).all()


def test_far_away_the_dose_falls_on_and_never_rises() -> None:
    rates = dose_rate(np.linspace(LEAST_CM, 20.0, 400))
    assert (np.diff(rates) < 0.0).all()
