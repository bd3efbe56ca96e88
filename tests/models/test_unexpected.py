import numpy as np
import pytest

from models.intensity import body_mask
from models.unexpected import SIZES_MM, unexpected_measures
from models.witness import Expectation

SPACING = (3.0, 3.0, 3.0)
PATIENT = np.full((40, 60, 60), -1000.0, np.float32)
PATIENT[2:-2, 5:-5, 5:-5] = 0.0
BODY = body_mask(PATIENT)
SAID = Expectation(PATIENT, np.full(PATIENT.shape, 10.0, np.float32))
PLACE = (20, 30, 30)


def with_ball(diameter_mm: float, adds_hu: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    z, y, x = (np.arange(n) - at for n, at in zip(PATIENT.shape, PLACE, strict=True))
    squared_mm = 9.0 * (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    return np.where(squared_mm <= (diameter_mm / 2.0) ** 2, PATIENT + adds_hu, PATIENT).astype(np.float32)


def test_what_is_expected_measures_nothing_at_any_size() -> None:
    assert unexpected_measures(PATIENT, SAID, BODY, SPACING) == dict.fromkeys(SIZES_MM, 0.0)


def test_a_ball_stands_out_most_at_its_own_size_and_in_proportion_to_its_contrast() -> None:
    small = unexpected_measures(with_ball(3.0, 100.0), SAID, BODY, SPACING)
    large = unexpected_measures(with_ball(24.0, 100.0), SAID, BODY, SPACING)
    assert small["unexpected_detail"] > 5.0 * small["unexpected_region"]
    # 100 HU are 8.2 times the root of 10 squared and 7 squared; a ball of 24 mm fills what is averaged in part.
    assert 0.3 * 8.2 < large["unexpected_region"] < large["unexpected_structure"] < large["unexpected_detail"] < 8.3
    twice = unexpected_measures(with_ball(24.0, 200.0), SAID, BODY, SPACING)
    assert twice["unexpected_structure"] == pytest.approx(2.0 * large["unexpected_structure"], rel=0.05)


def test_where_the_usual_distance_is_large_the_same_ball_counts_for_less() -> None:
    unsure = Expectation(PATIENT, np.full(PATIENT.shape, 40.0, np.float32))
    sure = unexpected_measures(with_ball(9.0, 100.0), SAID, BODY, SPACING)
    assert unexpected_measures(with_ball(9.0, 100.0), unsure, BODY, SPACING)["unexpected_structure"] == pytest.approx(
        sure["unexpected_structure"] * np.hypot(10.0, 7.0) / np.hypot(40.0, 7.0), rel=0.05
    )


def test_fine_pixels_are_averaged_and_air_has_no_measure() -> None:
    fine = np.repeat(np.repeat(with_ball(12.0, 100.0), 3, axis=1), 3, axis=2)
    said = Expectation(*(np.repeat(np.repeat(one, 3, axis=1), 3, axis=2) for one in (PATIENT, SAID.scale_hu_zyx)))
    coarse = unexpected_measures(with_ball(12.0, 100.0), SAID, BODY, SPACING)["unexpected_structure"]
    found = unexpected_measures(fine, said, body_mask(said.expected_hu_zyx), (3.0, 1.0, 1.0))
    assert found["unexpected_structure"] == pytest.approx(coarse, rel=0.1)
    air = np.full((4, 8, 8), -1000.0, np.float32)
    nothing = unexpected_measures(air, Expectation(air, air), np.zeros(air.shape, np.bool_), SPACING)
    assert nothing == dict.fromkeys(SIZES_MM, 0.0)
