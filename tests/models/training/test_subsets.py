from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.subsets import nested_slices
from models.training.volumes import TrainingDataError

Pool = Mapping[str, Sequence[tuple[str, int]]]

POOLS = st.lists(st.integers(1, 40), min_size=2, max_size=12)
SEEDS = st.integers(0, 2**32)


def pool(counts: Sequence[int]) -> Pool:
    """Patients with so many slices; a slice is (patient, index)."""
    return {f"P{n}": [(f"P{n}", index) for index in range(count)] for n, count in enumerate(counts)}


def patients(slices: Sequence[tuple[str, int]]) -> set[str]:
    return {patient for patient, _ in slices}


@given(POOLS, SEEDS, st.data())
@settings(deadline=None)
def test_every_set_holds_all_smaller_ones(counts: list[int], seed: int, data: st.DataObject) -> None:
    sizes = sorted(data.draw(st.sets(st.integers(2, sum(counts)), min_size=1)))
    chosen = nested_slices(pool(counts), sizes, seed)
    assert all(len(set(chosen[size])) == size for size in sizes)
    assert all(set(chosen[small]) <= set(chosen[large]) for small, large in pairwise(sizes))
    assert all(len(patients(chosen[size])) >= 2 for size in sizes)


@given(POOLS, SEEDS)
@settings(deadline=None)
def test_the_largest_set_is_the_pool(counts: list[int], seed: int) -> None:
    everything = [item for slices in pool(counts).values() for item in slices]
    assert sorted(nested_slices(pool(counts), [len(everything)], seed)[len(everything)]) == sorted(everything)


@given(st.integers(2, 12), SEEDS, st.data())
@settings(deadline=None)
def test_a_patient_is_begun_only_after_the_one_before_gave_eight(count: int, seed: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(16, 8 * count)) if count > 2 else 16
    slices = nested_slices(pool([30] * count), [size], seed)[size]
    shares = sorted(sum(patient == name for patient, _ in slices) for name in patients(slices))
    assert shares[1:] == [8] * (len(shares) - 1) and len(shares) == -(-size // 8)


def test_sixteen_slices_are_two_patients_as_in_the_published_study() -> None:
    chosen = nested_slices(pool([20] * 137), [16, 1024, 2740], 0)
    assert [len(patients(chosen[size])) for size in (16, 1024, 2740)] == [2, 128, 137]


def test_the_slices_of_a_patient_are_spread_over_the_patient() -> None:
    indices = sorted(index for patient, index in nested_slices(pool([80, 80]), [16], 0)[16] if patient == "P0")
    assert indices == [5, 15, 25, 35, 45, 55, 65, 75]


def test_the_set_of_a_size_does_not_depend_on_the_other_sizes() -> None:
    alone, beside = (nested_slices(pool([30] * 9), sizes, 7)[32] for sizes in ([32], [2, 32, 200]))
    assert alone == beside


def test_other_seeds_take_other_patients() -> None:
    assert len({frozenset(patients(nested_slices(pool([30] * 40), [16], seed)[16])) for seed in range(5)}) > 1


def test_patients_without_slices_are_left_out() -> None:
    assert patients(nested_slices(pool([0, 3, 0, 3]), [6], 0)[6]) == {"P1", "P3"}


@pytest.mark.parametrize(
    ("counts", "sizes", "reason"),
    [
        ([5, 5], [4, 11], "11 slices were asked for, but the 2 training patients have 10"),
        ([5, 5], [1, 4], "a set of 1 slices can not come from two patients"),
        ([5, 0], [4], "at least two patients"),
        ([], [4], "at least two patients"),
    ],
)
def test_what_can_not_be_chosen_is_refused(counts: list[int], sizes: list[int], reason: str) -> None:
    with pytest.raises(TrainingDataError, match=reason):
        nested_slices(pool(counts), sizes, 0)
