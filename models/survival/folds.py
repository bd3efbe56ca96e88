"""Splits of patients; all rows of a patient go to one side, and events are spread evenly."""

from collections.abc import Iterator

import numpy as np

from models.survival.cohort import Cohort, Numbers, SurvivalError


def event_folds(cohort: Cohort, folds: int, random: np.random.Generator) -> Numbers:
    """A fold, 0 to folds - 1, for every row; patients with the event and without are dealt out in turn.

    Raises
    ------
    SurvivalError
        If there are fewer than two folds, or fewer patients with the event than folds.
    """
    patients, has_event = cohort.patients, cohort.has_event()
    if folds < 2:
        raise SurvivalError("A cross-validation needs at least two folds")
    if int(has_event.sum()) < folds:
        raise SurvivalError(f"There are {int(has_event.sum())} patients with the event for {folds} folds")
    shuffled = random.permutation(len(patients))
    dealt = np.concatenate([shuffled[has_event[shuffled]], shuffled[~has_event[shuffled]]])
    fold_of_patient = np.empty(len(patients), np.int64)
    fold_of_patient[dealt] = np.arange(len(patients)) % folds
    return np.asarray(fold_of_patient[np.searchsorted(patients, cohort.patient)])


def one_each(cohort: Cohort) -> Numbers:
    """A fold for every patient: leave one out."""
    return np.searchsorted(cohort.patients, cohort.patient)


def splits(cohort: Cohort, fold_of_row: Numbers) -> Iterator[tuple[Cohort, Numbers]]:
    """For each fold the training rows, and the indices of the rows that are held out."""
    for fold in np.unique(fold_of_row):
        yield cohort.take(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)
