"""A cohort is checked once, and patients stay whole."""

from typing import Any

import numpy as np
import pytest

from models.survival.cohort import SurvivalError, cohort
from models.survival.folds import event_folds, one_each, splits
from tests.models.survival.patients import cut_at, leukaemia


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"time": [1, 2]}, "Times, events and features are not of the same rows"),
        ({"feature_names": ["a", "a"]}, "The features do not have one name each"),
        ({"features": [[1, 2], [3, np.nan], [5, 6]]}, "The feature b is missing for some patients"),
        ({"event": [0, 2, 1]}, "An event is neither 0 nor 1"),
        ({"event": [0, 0, 0]}, "No event came"),
        ({"time": [1, np.nan, 2]}, "A time is missing or before 0"),
        ({"start": [0, 2, 0]}, "A row ends before it starts"),
        ({"start": [0, 0.5, 0], "patient": [7, 7, 8]}, "The intervals of a patient overlap"),
        ({"start": [0, 1, 0], "patient": [7, 7, 8], "event": [1, 0, 1]}, "A patient is watched on after the event"),
    ],
)
def test_a_cohort_that_can_not_be_is_refused(changes: dict[str, Any], sentence: str) -> None:
    good: dict[str, Any] = {
        "features": [[1, 2], [3, 4], [5, 6]],
        "feature_names": ["a", "b"],
        "time": [1, 2, 3],
        "event": [0, 1, 1],
    }
    with pytest.raises(SurvivalError, match=f"^{sentence}$"):
        cohort(**(good | changes))


def test_patients_drawn_twice_bring_their_rows_twice() -> None:
    cut = cut_at(leukaemia()[0], 5.0, 10.0)
    rows = cut.rows_of(np.array([3, 3, 40]))
    assert cut.patient[rows].tolist() == [3, 3, 3, 3, 40, 40, 40]
    assert cut.start[rows].tolist() == [0, 5, 0, 5, 0, 5, 10]


def test_a_patient_is_never_on_both_sides_and_events_are_spread() -> None:
    cut = cut_at(leukaemia()[0], 5.0, 10.0)
    folds = event_folds(cut, 5, np.random.default_rng(1))
    for training, rows in splits(cut, folds):
        assert not set(training.patient) & set(cut.patient[rows])
        assert cut.event[rows].sum() in (6, 7)
    assert np.bincount(folds).sum() == cut.rows


def test_one_left_out_is_one_patient_with_all_his_rows() -> None:
    cut = cut_at(leukaemia()[0], 5.0, 10.0)
    held_out = [set(cut.patient[rows]) for _, rows in splits(cut, one_each(cut))]
    assert held_out == [{patient} for patient in range(42)]


@pytest.mark.parametrize(("folds", "sentence"), [(1, "at least two folds"), (31, "30 patients with the event for 31")])
def test_folds_that_can_not_be_are_refused(folds: int, sentence: str) -> None:
    with pytest.raises(SurvivalError, match=sentence):
        event_folds(leukaemia()[0], folds, np.random.default_rng(1))
