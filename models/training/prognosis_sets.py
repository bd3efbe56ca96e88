"""Features of the patients of a cohort, as tables: one for each set of features that a pipeline computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.survival.cohort import Floats


@dataclass(frozen=True)
class PatientFeatures:
    """What was computed of one patient."""

    patient: str
    sets: Mapping[str, Mapping[str, float]]
    """Features by name, by the name of the set; a set is absent where the patient lacks what it takes."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """What speaks for and against the features, as the registration's error; the limits are made of it."""


@dataclass(frozen=True)
class FeatureTable:
    """One set of features, of the patients who have it."""

    patients: tuple[str, ...]
    names: tuple[str, ...]
    values: Floats
    """(patients, names), all finite."""
    patients_without: tuple[str, ...] = ()
    """Who lack the set."""
    names_without: tuple[str, ...] = ()
    """Features left out because they are not defined for every patient, or were not wanted."""

    def of(self, patients: Sequence[str]) -> "FeatureTable":
        """The rows of these patients, as far as they have the set, in this order."""
        rows = {patient: row for row, patient in enumerate(self.patients)}
        there = [patient for patient in patients if patient in rows]
        values = self.values[[rows[patient] for patient in there]]
        missing = tuple(patient for patient in patients if patient not in rows)
        return FeatureTable(tuple(there), self.names, values, missing, self.names_without)


def feature_tables(
    patients: Sequence[PatientFeatures], left_out: frozenset[str] = frozenset()
) -> dict[str, FeatureTable]:
    """A table for every set that at least one patient has, without the features of these names."""
    names = sorted({name for one in patients for name in one.sets})
    return {name: _table(name, patients, left_out) for name in names}


def _table(name: str, patients: Sequence[PatientFeatures], left_out: frozenset[str]) -> FeatureTable:
    having = [one for one in patients if name in one.sets]
    features = sorted({feature for one in having for feature in one.sets[name]})
    values = np.array([[one.sets[name].get(feature, np.nan) for feature in features] for one in having], np.float64)
    usable = np.isfinite(values).all(axis=0) & np.array([feature not in left_out for feature in features], np.bool_)
    return FeatureTable(
        patients=tuple(one.patient for one in having),
        names=tuple(feature for feature, is_usable in zip(features, usable, strict=True) if is_usable),
        values=values[:, usable],
        patients_without=tuple(one.patient for one in patients if name not in one.sets),
        names_without=tuple(feature for feature, is_usable in zip(features, usable, strict=True) if not is_usable),
    )
