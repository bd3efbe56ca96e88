"""Whether as many patients have the event until a time as the model said.

References
----------
Crowson et al., Stat Methods Med Res 2016, doi 10.1177/0962280213497434; van Houwelingen, Stat Med 2000,
doi 10.1002/1097-0258(20001230)19:24<3401::AID-SIM554>3.0.CO;2-2 (calibration slope)
"""

from dataclasses import dataclass

import numpy as np

from models.survival.cohort import Cohort, Floats, SurvivalError
from models.survival.group_comparison import cox_slope
from models.survival.interval import Interval
from models.survival.kaplan_meier import kaplan_meier


@dataclass(frozen=True)
class CalibrationGroup:
    """Patients of similar predicted probability."""

    patients: int
    predicted: float
    """Mean probability of the event until the horizon."""
    observed: Interval
    """1 - Kaplan-Meier at the horizon."""


@dataclass(frozen=True)
class Calibration:
    """Agreement at one horizon."""

    horizon: float
    groups: tuple[CalibrationGroup, ...]
    """By ascending prediction."""
    observed_over_expected: float
    """Of all patients; 1 is right, above 1 the model promises too much."""
    slope: Interval
    """Coefficient of the predicted risk in a new Cox model; 1 is right, below 1 the model is overfitted."""


def calibration(
    cohort: Cohort, event_probability: Floats, risk: Floats, horizon: float, groups: int = 4
) -> Calibration:
    """Compare predictions (n,) that were made without these patients with what happened.

    Raises
    ------
    SurvivalError
        If patients have several rows or start late, so that a prediction from the start on is none for them; if nobody
        was watched until the horizon; or all have the same risk.
    """
    if len(cohort.patients) < cohort.rows or cohort.start.any():
        raise SurvivalError("Only patients who were watched from the start can be compared with a prediction")
    if horizon > cohort.stop.max():
        raise SurvivalError("Nobody was watched until the horizon")
    if np.ptp(risk) == 0.0:
        raise SurvivalError("All patients have the same predicted risk")
    parts = [part for part in np.array_split(np.argsort(event_probability, kind="stable"), groups) if len(part)]
    return Calibration(
        horizon,
        tuple(_group(cohort.take(part), event_probability[part], horizon) for part in parts),
        _observed(cohort, horizon).value / float(event_probability.mean()),
        cox_slope(cohort, risk),
    )


def _group(part: Cohort, probability: Floats, horizon: float) -> CalibrationGroup:
    return CalibrationGroup(part.rows, float(probability.mean()), _observed(part, horizon))


def _observed(part: Cohort, horizon: float) -> Interval:
    if not part.event.any():
        return Interval(0.0, 0.0, 0.0)
    survival, low, high = kaplan_meier(part).at(horizon)
    return Interval(1.0 - survival, 1.0 - high, 1.0 - low)
