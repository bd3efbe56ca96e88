"""Which patients train, which set limits, which test: decided by patient, never by series."""

from collections.abc import Iterable, Mapping
from typing import get_args

from models.training.volumes import Split

HELD_OUT_EVERY = 10
"""Of so many patients one is kept for validation and one for the test; of three at least one each."""
STRICTEST_FIRST: tuple[Split, ...] = get_args(Split)
"""What was once trained on can not be held out again, and what limits were set on can not test them."""


def splits_of(patients: Iterable[str], known: Mapping[str, Split]) -> dict[str, Split]:
    """A split for each patient: the known ones keep theirs, the others fill validation and test, then training.

    Others are taken in the order of their names, which have to say nothing about the patients: digests do.
    """
    wanted = set(patients)
    splits = {patient: split for patient, split in known.items() if patient in wanted}
    share = max(1, len(wanted) // HELD_OUT_EVERY) if len(wanted) >= 3 else 0
    free = sorted(wanted - set(splits))
    held_out: tuple[Split, ...] = ("validation", "test")
    for split in held_out:
        lacking = max(share - sum(one == split for one in splits.values()), 0)
        splits.update(dict.fromkeys(free[:lacking], split))
        free = free[lacking:]
    return {**splits, **dict.fromkeys(free, "train")}


def strictest(splits: Iterable[Split]) -> Split:
    """The split of a patient whom several data sets put into different ones."""
    return min(splits, key=STRICTEST_FIRST.index)
