"""How far repeated measurements of the same subjects agree: intraclass and concordance correlation, variation.

Each takes values as (subjects, measurements). A value is nan where it is not defined, as without a second subject.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]


def icc_3_1(values: Values) -> float:
    """Intraclass correlation of single measurements, two-way mixed effects, consistency; 1 is perfect.

    What shifts the measurements of all subjects alike does not count against it.

    References
    ----------
    Shrout and Fleiss, Psychol Bull 1979, doi 10.1037/0033-2909.86.2.420, ICC(3,1)
    """
    subjects, measurements = values.shape
    if subjects < 2 or measurements < 2:
        return float("nan")
    of_subjects = values.mean(axis=1, keepdims=True) - values.mean()
    residuals = values - values.mean() - of_subjects - (values.mean(axis=0) - values.mean())
    between = measurements * float((of_subjects**2).sum()) / (subjects - 1)
    error = float((residuals**2).sum()) / (subjects - 1) / (measurements - 1)
    return _ratio(between - error, between + (measurements - 1) * error)


def concordance(first: Values, second: Values) -> float:
    """Lin's concordance correlation of two measurements, (subjects,) each; 1 where they are equal.

    A shift between the two counts against it.

    References
    ----------
    Lin, Biometrics 1989, doi 10.2307/2532051
    """
    if len(first) < 2:
        return float("nan")
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    return _ratio(2.0 * covariance, float(first.var() + second.var() + (first.mean() - second.mean()) ** 2))


def coefficient_of_variation(values: Values) -> float:
    """Within-subject standard deviation over the size of the subject's mean, median over the subjects."""
    if values.shape[1] < 2:
        return float("nan")
    deviations, means = values.std(axis=1, ddof=1), np.abs(values.mean(axis=1))
    return float(np.median([_ratio(float(sd), float(mean)) for sd, mean in zip(deviations, means, strict=True)]))


def _ratio(upper: float, lower: float) -> float:
    return upper / lower if lower > 0 else float("nan")
