"""Two groups of patients compared: log-rank test and hazard ratio.

References
----------
Mantel, Cancer Chemother Rep 1966;50:163 (log-rank); Efron, J Am Stat Assoc 1977, doi 10.1080/01621459.1977.10480613
(ties of Cox's model)
"""

import numpy as np
from scipy.stats import chi2

from models.survival.cohort import Cohort, Flags, Floats, SurvivalError
from models.survival.interval import Interval, wald_interval


def log_rank_p(cohort: Cohort, high_risk: Flags) -> float:
    """Chance of groups that differ as much if both have the same hazard: p of the log-rank test.

    Raises
    ------
    SurvivalError
        If a group has no row.
    """
    from statsmodels.duration.survfunc import survdiff

    _check_two(high_risk)
    entry = cohort.start if cohort.start.any() else None
    chi_square, _ = survdiff(cohort.stop, cohort.event.astype(np.int64), high_risk.astype(np.int64), entry=entry)
    # The p of the library is 1 less a distribution function, which is 0 from about 1e-16 on.
    return float(chi2.sf(chi_square, 1))


def hazard_ratio(cohort: Cohort, high_risk: Flags) -> Interval:
    """Hazard of the first group over that of the other, with Wald's interval of 95 %.

    Raises
    ------
    SurvivalError
        If a group has no row, or no event: then the ratio is 0 or infinite.
    """
    _check_two(high_risk)
    if not cohort.event[high_risk].any() or not cohort.event[~high_risk].any():
        raise SurvivalError("One of the two groups has no event, so there is no hazard ratio")
    slope = cox_slope(cohort, high_risk.astype(np.float64))
    # Where one group outlives the other wholly, the ratio has no bound.
    with np.errstate(over="ignore"):
        value, low, high = np.exp([slope.value, slope.low, slope.high])
    return Interval(float(value), float(low), float(high))


def cox_slope(cohort: Cohort, value: Floats) -> Interval:
    """Coefficient of one value (n,) in Cox's model without penalty, with Wald's interval of 95 %."""
    from statsmodels.duration.hazard_regression import PHReg

    # The library counts a row at the very time at which it starts; at risk it is only after.
    entry = np.nextafter(cohort.start, np.inf) if cohort.start.any() else None
    model = PHReg(cohort.stop, value[:, None], status=cohort.event.astype(np.float64), entry=entry, ties="efron")
    found = model.fit(disp=0)
    return wald_interval(float(found.params[0]), float(found.bse[0]))


def _check_two(high_risk: Flags) -> None:
    if high_risk.all() or not high_risk.any():
        raise SurvivalError("There are not two groups to compare")
