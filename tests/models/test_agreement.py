import numpy as np
import pytest

from models.agreement import coefficient_of_variation, concordance, icc_3_1

# Shrout and Fleiss 1979, table 2: four judges of six subjects.
RATINGS = np.array(
    [
        [9.0, 2.0, 5.0, 8.0],
        [6.0, 1.0, 3.0, 2.0],
        [8.0, 4.0, 6.0, 8.0],
        [7.0, 1.0, 2.0, 6.0],
        [10.0, 5.0, 6.0, 9.0],
        [6.0, 2.0, 4.0, 7.0],
    ]
)


def test_intraclass_correlation_is_that_of_the_published_example() -> None:
    assert icc_3_1(RATINGS) == pytest.approx(0.71, abs=0.005)


def test_a_judge_who_is_always_stricter_is_consistent_but_not_concordant() -> None:
    strict = np.column_stack([RATINGS[:, 0], RATINGS[:, 0] - 2.0])
    assert icc_3_1(strict) == pytest.approx(1.0)
    # By hand: variance of 9 6 8 7 10 6 is 20/9, so 2 v / (2 v + 4).
    assert concordance(strict[:, 0], strict[:, 1]) == pytest.approx(10.0 / 19.0)


def test_concordance_is_one_of_equal_minus_one_of_mirrored_measurements() -> None:
    values = np.array([-1.0, 0.0, 1.0])
    assert concordance(values, values) == 1.0
    assert concordance(values, -values) == -1.0


def test_variation_is_relative_and_the_middle_subject_counts() -> None:
    values = np.array([[1.0, 1.0], [9.0, 11.0], [-5.0, 5.0]])
    # 0, sqrt(2) / 10 and nothing that is defined; without the last the median lies between the first two.
    assert coefficient_of_variation(values[:2]) == pytest.approx(np.sqrt(2.0) / 20.0)
    assert np.isnan(coefficient_of_variation(values))


def test_without_a_second_subject_or_measurement_nothing_is_claimed() -> None:
    assert np.isnan(icc_3_1(np.ones((1, 3))))
    assert np.isnan(icc_3_1(np.ones((3, 1))))
    assert np.isnan(icc_3_1(np.ones((3, 3))))
    assert np.isnan(concordance(np.ones(1), np.ones(1)))
    assert np.isnan(coefficient_of_variation(np.ones((3, 1))))
