from typing import Any

import numpy as np
import pytest

from models.training.noninferiority import compared_with_largest, holm_adjusted

PATIENTS = 12
LARGEST: Any = np.linspace(50.0, 70.0, PATIENTS)
"""Mean 60, so the margin is 3."""
SCATTER: Any = np.linspace(-1.0, 1.0, PATIENTS)


def test_equal_sizes_are_not_worse_down_to_the_smallest() -> None:
    verdict = compared_with_largest({1024: LARGEST, 256: LARGEST + SCATTER, 16: LARGEST - SCATTER})
    assert verdict.can_tell and verdict.smallest == 16
    assert verdict.margin == pytest.approx(3.0)


def test_a_size_that_is_worse_by_twice_the_margin_is_not_enough() -> None:
    verdict = compared_with_largest({1024: LARGEST, 256: LARGEST + SCATTER, 16: LARGEST + SCATTER + 6.0})
    assert verdict.smallest == 256
    assert [found.mean_difference for found in verdict.comparisons] == pytest.approx([0.0, 6.0])
    assert verdict.comparisons[1].p > 0.99


def test_a_size_that_is_worse_by_the_margin_is_not_enough() -> None:
    # Half of the changes of sign give a mean as small or smaller.
    (found,) = compared_with_largest({1024: LARGEST, 16: LARGEST + SCATTER + 3.0}).comparisons
    assert found.p == pytest.approx(0.5, abs=0.05) and not found.not_worse


def test_a_size_that_is_better_is_not_worse() -> None:
    assert compared_with_largest({1024: LARGEST, 16: LARGEST - 20.0}).smallest == 16


def test_a_good_size_below_a_bad_one_does_not_count() -> None:
    verdict = compared_with_largest({1024: LARGEST, 256: LARGEST + 6.0, 16: LARGEST})
    assert verdict.smallest == 1024
    assert verdict.comparisons[1].p < 0.05 and not verdict.comparisons[1].not_worse


def test_p_is_the_part_of_all_changes_of_sign_that_are_as_extreme() -> None:
    # All differences lie below the margin: of 2^12 changes of sign only the one that was seen is as small.
    (found,) = compared_with_largest({1024: LARGEST, 16: LARGEST + SCATTER}).comparisons
    assert found.p == pytest.approx(1.0 / 2**PATIENTS)


def test_a_difference_that_hangs_on_one_patient_can_not_be_told() -> None:
    outlier: Any = np.where(np.arange(PATIENTS) == 0, 40.0, 0.0)
    assert not compared_with_largest({1024: LARGEST, 16: LARGEST + outlier}).comparisons[0].not_worse


@pytest.mark.parametrize(("patients", "sizes", "can_tell"), [(4, 2, False), (5, 2, True), (6, 4, True), (5, 4, False)])
def test_too_few_patients_can_not_tell(patients: int, sizes: int, can_tell: bool) -> None:
    verdict = compared_with_largest({16 * size: LARGEST[:patients] for size in range(1, sizes + 1)})
    assert verdict.can_tell is can_tell
    assert (verdict.smallest == 16) is can_tell


def test_one_patient_or_one_size_tells_nothing() -> None:
    assert not compared_with_largest({32: [60.0], 16: [60.0]}).can_tell
    assert not compared_with_largest({32: LARGEST}).can_tell


def test_many_patients_are_resampled_the_same_way_each_time() -> None:
    largest: Any = np.linspace(50.0, 70.0, 40)
    errors = {32: largest, 16: largest + np.tile([-2.0, 2.0, 4.0, 6.0], 10)}
    first, second = (compared_with_largest(errors) for _ in range(2))
    assert first == second and 0.05 < first.comparisons[0].p < 0.5


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    assert holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_adjusted([0.9, 0.8]) == [1.0, 1.0]
    assert holm_adjusted([]) == []


def test_every_size_needs_every_patient() -> None:
    with pytest.raises(ValueError, match="for every patient"):
        compared_with_largest({32: LARGEST, 16: LARGEST[1:]})
