"""The curve of Kaplan and Meier with its band.

References
----------
Kaplan and Meier, J Am Stat Assoc 1958, doi 10.1080/01621459.1958.10501452; the band is Greenwood's on the scale of
log(-log), Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 1980, and stays between 0 and 1.
"""

from dataclasses import dataclass

import numpy as np

from models.survival.cohort import Cohort, Floats
from models.survival.interval import Z_95


@dataclass(frozen=True)
class SurvivalCurve:
    """Part of the patients without the event after each of m event times."""

    times: Floats
    """(m,) ascending."""
    survival: Floats
    """(m,) from this time to the next."""
    low: Floats
    """(m,) of the pointwise interval of 95 %."""
    high: Floats
    """(m,)."""
    at_risk: Floats
    """(m,) rows at risk just before."""

    def at(self, time: float) -> tuple[float, float, float]:
        """Survival at a time, and its interval; 1, 1, 1 before the first event."""
        index = int(np.searchsorted(self.times, time, side="right")) - 1
        if index < 0:
            return 1.0, 1.0, 1.0
        return float(self.survival[index]), float(self.low[index]), float(self.high[index])

    def median(self) -> float:
        """The first time at which half of the patients had the event; infinite where it is not reached."""
        reached = np.flatnonzero(self.survival <= 0.5)
        return float(self.times[reached[0]]) if len(reached) else float("inf")


def kaplan_meier(cohort: Cohort) -> SurvivalCurve:
    """The curve of a cohort; rows count from their start, so that late entries and counting processes are right."""
    from statsmodels.duration.survfunc import SurvfuncRight

    found = SurvfuncRight(cohort.stop, cohort.event.astype(np.float64), entry=_entry(cohort))
    # Times at which only censorings fell are no steps.
    steps = np.asarray(found.n_events) > 0
    survival = np.asarray(found.surv_prob, np.float64)[steps]
    low, high = _band(survival, np.asarray(found.surv_prob_se, np.float64)[steps])
    times, at_risk = (np.asarray(values, np.float64)[steps] for values in (found.surv_times, found.n_risk))
    return SurvivalCurve(times, survival, low, high, at_risk)


def _entry(cohort: Cohort) -> Floats | None:
    return cohort.start if cohort.start.any() else None


def _band(survival: Floats, standard_error: Floats) -> tuple[Floats, Floats]:
    inside = (survival > 0.0) & (survival < 1.0)
    safe = np.where(inside, survival, 0.5)
    log = np.log(safe)
    reach = np.exp(Z_95 * np.where(inside, standard_error, 0.0) / (safe * np.abs(log)))
    return np.where(inside, safe**reach, survival), np.where(inside, safe ** (1.0 / reach), survival)
