"""Limits of a measure from its values in the images of validation patients."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.limits import Limits

FLAGGED_BEYOND = 0.99
HELD_BEYOND, CONFIDENCE = 0.995, 0.95
_SPACING_LIMITS = Limits(flag_above=0.0, hold_above=0.5)
"""Policy, not measured: images just outside the trained spacing are labelled, others wait for a person."""


def measured_limits(by_patient: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, Limits]:
    """Limits of every measure, from its values in the images of each validation patient; empty without patients.

    Flagged is what lies above the normal prediction bound of 99 % of new patients: of some twenty measures, each one of
    a hundred may flag a sound result. Held is what lies above a bound that holds 99.5 % of all patients with a
    confidence of 95 %, and above the largest value seen. Both take the largest value of a patient, normally distributed
    over patients; however many images a patient has, it is one patient.

    A measure that some images do not allow has the limits of the others. Without a limit the gate holds every result,
    as nobody knows what is normal.
    """
    if not by_patient:
        return {}
    names = dict.fromkeys(name for images in by_patient for image in images for name in image)
    values = {name: [[image[name] for image in images if name in image] for images in by_patient] for name in names}
    limits = {name: _limits([found for found in several if found]) for name, several in values.items()}
    return {**limits, "pixel_spacing_outside_mm": _SPACING_LIMITS, "slice_spacing_outside_mm": _SPACING_LIMITS}


def _limits(by_patient: Sequence[Sequence[float]]) -> Limits:
    """Of one measure."""
    largest = np.array([max(values) for values in by_patient])
    hold = max(tolerance_bound(largest), float(largest.max()))
    return Limits(flag_above=_rounded_up(min(prediction_bound(largest), hold)), hold_above=_rounded_up(hold))


def prediction_bound(values: NDArray[np.float64], part: float = FLAGGED_BEYOND) -> float:
    """The one-sided upper prediction bound of a normal sample: one new case lies below it with this chance.

    References
    ----------
    Hahn and Meeker, Statistical Intervals, Wiley 1991, section 4.8
    """
    n = len(values)
    if n < 2:
        return float(values.max())
    return float(values.mean() + stats.t.ppf(part, n - 1) * values.std(ddof=1) * np.sqrt(1.0 + 1.0 / n))


def tolerance_bound(values: NDArray[np.float64], part: float = HELD_BEYOND, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper tolerance bound of a normal sample: above `part` of all cases, with this confidence.

    A percentile of a dozen patients is the largest that was seen, and every twelfth new patient would pass it.

    References
    ----------
    NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.6.3: k from the non-central t distribution
    """
    n = len(values)
    if n < 2:
        return float(values.max())
    k = stats.nct.ppf(confidence, n - 1, stats.norm.ppf(part) * np.sqrt(n)) / np.sqrt(n)
    return float(values.mean() + k * values.std(ddof=1))


def _rounded_up(value: float) -> float:
    """To four digits, never below the value: a case that was measured stays within."""
    if value <= 0.0:
        return 0.0
    unit = 10.0 ** (np.floor(np.log10(value)) - 3)
    return float(f"{np.ceil(value / unit) * unit:.6g}")
