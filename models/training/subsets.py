"""Nested training sets for the question how many slices a training needs: split by patient, each within the next.

Only then is the number of slices the one thing in which two trainings of a study differ.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import TypeVar

import numpy as np

from models.training.volumes import TrainingDataError

SLICES_PER_VISIT = 8
"""Slices that a patient gives before it is the next one's turn: 16 slices are 2 patients, as in Ozaki et al., Med Phys
2022, doi 10.1002/mp.15626."""
LEAST_PATIENTS = 2
"""Unpaired training takes its two images from two patients."""

_Slice = TypeVar("_Slice")


def nested_slices(
    slices_by_patient: Mapping[str, Sequence[_Slice]], sizes: Sequence[int], seed: int
) -> Mapping[int, list[_Slice]]:
    """Slices of every size; a set holds all smaller ones, and all come from the same patients' slices.

    Patients follow each other in an order that the seed decides, and each gives 8 slices, evenly spread over the
    patient; when all have given, the first gives again. The first two take turns slice by slice, so the smallest set
    has two patients. The set of size n does not depend on the other sizes.

    Raises
    ------
    TrainingDataError
        If a size is larger than the pool or below 2, or fewer than two patients have slices.
    """
    check_sizes(slices_by_patient, sizes)
    order = list(_order(slices_by_patient, np.random.default_rng(seed)))
    return {size: order[:size] for size in sizes}


def check_sizes(slices_by_patient: Mapping[str, Sequence[_Slice]], sizes: Sequence[int]) -> None:
    """Refuse what `nested_slices` refuses, with the same errors, without choosing."""
    patients = sum(1 for slices in slices_by_patient.values() if slices)
    if patients < LEAST_PATIENTS:
        raise TrainingDataError("unpaired training needs slices of at least two patients")
    if min(sizes) < LEAST_PATIENTS:
        raise TrainingDataError(f"a set of {min(sizes)} slices can not come from two patients")
    pool = sum(len(slices) for slices in slices_by_patient.values())
    if max(sizes) > pool:
        raise TrainingDataError(
            f"{max(sizes)} slices were asked for, but the {patients} training patients have {pool}; `all` names these"
        )


def _order(slices_by_patient: Mapping[str, Sequence[_Slice]], rng: np.random.Generator) -> Iterator[_Slice]:
    """All slices in the order in which they are taken."""
    patients = sorted(patient for patient, slices in slices_by_patient.items() if slices)
    first, second, *others = (
        list(_visits(slices_by_patient[patients[int(n)]])) for n in rng.permutation(len(patients))
    )
    yield from _by_turns(first.pop(0), second.pop(0))
    rounds = zip_longest(([], *first), ([], *second), *others, fillvalue=[])
    yield from chain.from_iterable(chain.from_iterable(rounds))


def _visits(slices: Sequence[_Slice]) -> Iterator[list[_Slice]]:
    """What a patient gives each time: evenly spread over what is left."""
    left = list(slices)
    while left:
        count = min(SLICES_PER_VISIT, len(left))
        chosen = {int(index) for index in (np.arange(count) + 0.5) * len(left) / count}
        yield [item for index, item in enumerate(left) if index in chosen]
        left = [item for index, item in enumerate(left) if index not in chosen]


def _by_turns(first: Sequence[_Slice], second: Sequence[_Slice]) -> Iterator[_Slice]:
    missing = object()
    for item in chain.from_iterable(zip_longest(first, second, fillvalue=missing)):
        if item is not missing:
            yield item  # type: ignore[misc]
