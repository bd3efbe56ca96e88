import numpy as np
import pytest

from models.intensity import Hu, body_mask
from models.unexpected import SIZES_MM, unexpected_measures
from models.witness import Expectation

SPACING = (3.0, 3.0, 3.0)
PATIENT = np.full((40, 60, 60), -1000.0, np.float32)
PATIENT[2:-2, 5:-5, 5:-5] = 0.0
BODY = body_mask(PATIENT)
SAID = Expectation(PATIENT, np.full(PATIENT.shape, 10.0, np.float32))
PLACE = (20, 30, 30)


NOISE = np.random.default_rng(1).normal(0.0, 10.0, PATIENT.shape).astype(np.float32)


def with_ball(diameter_mm: float, adds_hu: float, noise: float = 1.0) -> Hu:
    z, y, x = (np.arange(n) - at for n, at in zip(PATIENT.shape, PLACE, strict=True))
    squared_mm = 9.0 * (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    ball = np.where(squared_mm <= (diameter_mm / 2.0) ** 2, PATIENT + adds_hu, PATIENT)
    return np.where(BODY, ball + noise * NOISE, PATIENT).astype(np.float32)


def test_what_is_expected_measures_nothing_at_any_size() -> None:
    assert unexpected_measures(PATIENT, SAID, BODY, SPACING) == dict.fromkeys(SIZES_MM, 0.0)


def test_noise_alone_is_as_far_out_as_its_largest_of_many_voxels() -> None:
    found = unexpected_measures(with_ball(0.0, 0.0), SAID, BODY, SPACING)
    assert all(3.0 < value < 5.5 for value in found.values())


@pytest.mark.parametrize(
    ("diameter_mm", "name"),
    [(3.0, "unexpected_detail"), (10.0, "unexpected_structure"), (36.0, "unexpected_region")],
)
def test_a_ball_stands_out_most_at_its_own_size(diameter_mm: float, name: str) -> None:
    found = unexpected_measures(with_ball(diameter_mm, 80.0), SAID, BODY, SPACING)
    assert max(found, key=found.__getitem__) == name
    assert found[name] > 8.0


def test_a_ball_in_an_image_with_twice_the_noise_stands_out_half_as_far() -> None:
    quiet, noisy = (
        unexpected_measures(with_ball(10.0, 200.0, noise), SAID, BODY, SPACING)["unexpected_structure"]
        for noise in (1.0, 2.0)
    )
    assert noisy == pytest.approx(quiet / 2.0, rel=0.15)


def test_where_the_two_networks_often_differ_the_same_ball_counts_for_less() -> None:
    scale = SAID.scale_hu_zyx.copy()
    scale[:, 25:36, 25:36] = 40.0
    unsure = Expectation(PATIENT, scale)
    certain, uncertain = (
        unexpected_measures(with_ball(10.0, 200.0), said, BODY, SPACING)["unexpected_structure"]
        for said in (SAID, unsure)
    )
    assert uncertain == pytest.approx(certain * np.hypot(10.0, 7.0) / np.hypot(40.0, 7.0), rel=0.15)


def test_fine_pixels_are_averaged_to_two_millimetres() -> None:
    fine, expected, scale = (
        np.repeat(np.repeat(one, 3, axis=1), 3, axis=2) for one in (with_ball(12.0, 100.0), PATIENT, SAID.scale_hu_zyx)
    )
    coarse = unexpected_measures(with_ball(12.0, 100.0), SAID, BODY, SPACING)["unexpected_structure"]
    found = unexpected_measures(fine, Expectation(expected, scale), body_mask(expected), (3.0, 1.0, 1.0))
    assert found["unexpected_structure"] == pytest.approx(coarse, rel=0.15)


def test_an_image_of_air_has_no_measure() -> None:
    air = np.full((4, 8, 8), -1000.0, np.float32)
    nothing = unexpected_measures(air, Expectation(air, air), np.zeros(air.shape, np.bool_), SPACING)
    assert nothing == dict.fromkeys(SIZES_MM, 0.0)
