"""A cohort: what was measured of every patient, how long it was watched, and whether the event came.

A row is an interval of one patient, (start, stop], with the features that held in it. Most cohorts have one row for a
patient, from 0; where features are measured again and again a patient has several (counting process).

References
----------
Andersen and Gill, Ann Stat 1982, doi 10.1214/aos/1176345976
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.int64]


class SurvivalError(Exception):
    """Times, events or features can not be used; the message is one plain sentence."""


@dataclass(frozen=True)
class Cohort:
    """Rows of patients; n rows, p features."""

    features: Floats
    """(n, p)."""
    feature_names: tuple[str, ...]
    start: Floats
    """(n,) when a row begins to count; a patient is at risk after it."""
    stop: Floats
    """(n,) when the event came or watching ended."""
    event: Flags
    """(n,) whether the event came at `stop`."""
    patient: Numbers
    """(n,) which patient a row is of; a patient never stands on both sides of a split."""
    time_unit: str = "d"
    """UCUM: d, wk, mo, a."""

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.stop)

    @property
    def patients(self) -> Numbers:
        """Numbers of the patients, each once, ascending."""
        return np.unique(self.patient)

    @property
    def events(self) -> int:
        """How many."""
        return int(self.event.sum())

    def take(self, rows: NDArray[Any]) -> "Cohort":
        """These rows, by a mask or by indices; an index may come twice, as in a bootstrap."""
        return replace(
            self,
            features=self.features[rows],
            start=self.start[rows],
            stop=self.stop[rows],
            event=self.event[rows],
            patient=self.patient[rows],
        )

    def with_features(self, features: Floats, names: Sequence[str]) -> "Cohort":
        """Other features of the same rows."""
        return replace(self, features=features, feature_names=tuple(names))

    def rows_of(self, patients: Numbers) -> Numbers:
        """Indices of the rows of these patients, as often as a patient is named."""
        order = np.argsort(self.patient, kind="stable")
        sorted_ = self.patient[order]
        first, end = (np.searchsorted(sorted_, patients, side=side) for side in ("left", "right"))
        return np.concatenate([order[a:b] for a, b in zip(first, end, strict=True)] or [np.empty(0, np.int64)])

    def has_event(self) -> Flags:
        """For each of `patients`, whether the event came."""
        return np.isin(self.patients, self.patient[self.event])


def cohort(
    features: ArrayLike,
    feature_names: Sequence[str],
    time: ArrayLike,
    event: ArrayLike,
    *,
    start: ArrayLike | None = None,
    patient: ArrayLike | None = None,
    time_unit: str = "d",
) -> Cohort:
    """A checked cohort; without `start` every row counts from 0, without `patient` every row is another one.

    Raises
    ------
    SurvivalError
        If the arrays do not fit together, hold something that is no number, a row ends before it starts, no event
        came, or the intervals of a patient overlap or go on after the event.
    """
    found = Cohort(
        np.asarray(features, np.float64),
        tuple(feature_names),
        np.zeros(np.shape(time)) if start is None else np.asarray(start, np.float64),
        np.asarray(time, np.float64),
        _flags(event),
        np.arange(len(np.asarray(time))) if patient is None else np.asarray(patient, np.int64),
        time_unit,
    )
    _check_shapes(found)
    _check_times(found)
    return found


def _flags(event: ArrayLike) -> Flags:
    found = np.asarray(event)
    if not np.isin(found, (0, 1)).all():
        raise SurvivalError("An event is neither 0 nor 1")
    return found.astype(np.bool_)


def _check_shapes(found: Cohort) -> None:
    columns = (found.start, found.stop, found.event, found.patient)
    if found.features.ndim != 2 or any(column.shape != (len(found.features),) for column in columns):
        raise SurvivalError("Times, events and features are not of the same rows")
    if found.features.shape[1] != len(set(found.feature_names)) or len(found.feature_names) != found.features.shape[1]:
        raise SurvivalError("The features do not have one name each")
    if not np.isfinite(found.features).all():
        names = [
            n for n, column in zip(found.feature_names, found.features.T, strict=True) if not np.isfinite(column).all()
        ]
        raise SurvivalError(f"The feature {names[0]} is missing for some patients")


def _check_times(found: Cohort) -> None:
    if not (np.isfinite(found.start) & np.isfinite(found.stop)).all() or (found.start < 0.0).any():
        raise SurvivalError("A time is missing or before 0")
    if (found.stop <= found.start).any():
        raise SurvivalError("A row ends before it starts")
    if not found.event.any():
        raise SurvivalError("No event came")
    order = np.lexsort((found.start, found.patient))
    same = found.patient[order][1:] == found.patient[order][:-1]
    if (same & (found.start[order][1:] < found.stop[order][:-1])).any():
        raise SurvivalError("The intervals of a patient overlap")
    if (same & found.event[order][:-1]).any():
        raise SurvivalError("A patient is watched on after the event")
