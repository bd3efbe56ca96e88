"""Dose of permanently implanted I-125 seeds by the one-dimensional formalism of AAPM TG-43U1.

In one dimension the dose of a seed is that averaged over its directions, as planning systems take it where nobody knows
how each seed lies. The numbers are the consensus ones of the seed model 6711.

References
----------
Rivard et al., Med Phys 2004, doi 10.1118/1.1646040: equations 4 and 11, tables I, II and V
"""

import numpy as np
from numpy.typing import NDArray

from models.survival.cohort import Floats

DOSE_RATE_CONSTANT = 0.965
"""cGy per hour and U, at 1 cm."""
ACTIVE_LENGTH_CM = 0.3
HALF_LIFE_H = 59.40 * 24.0
LEAST_CM = 0.1
"""Nearer than this nothing is tabulated, and is mostly seed; the dose stays what it is there."""
RADIAL_CM = (0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
RADIAL_DOSE = (
    1.055, 1.078, 1.082, 1.071, 1.042, 1.0, 0.908, 0.814, 0.632, 0.496, 0.364, 0.270, 0.199, 0.148, 0.109, 0.0803
)  # fmt: skip
"""Radial dose function of a line source at `RADIAL_CM`."""
ANISOTROPY_CM = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
ANISOTROPY = (0.973, 0.944, 0.941, 0.942, 0.943, 0.944)
"""One-dimensional anisotropy function at `ANISOTROPY_CM`."""

_STEP_CM = 0.005
_LONGEST_CM = 10.0


def dose_rate(distance_cm: NDArray[np.float64]) -> Floats:
    """Dose rate at a distance from a seed of 1 U, cGy per hour.

    The radial dose function is interpolated in its logarithm, the anisotropy linearly; outside of their tables both
    are those of the nearest entry.
    """
    r = np.maximum(np.asarray(distance_cm, np.float64), LEAST_CM)
    radial = np.exp(np.interp(r, RADIAL_CM, np.log(RADIAL_DOSE)))
    anisotropy = np.interp(r, ANISOTROPY_CM, ANISOTROPY)
    return np.asarray(DOSE_RATE_CONSTANT * _geometry(r) / _geometry(np.ones(1)) * radial * anisotropy)


def implant_dose_gy(points_mm: Floats, seeds_mm: Floats, strength_u: float) -> Floats:
    """Dose of seeds that stay for good, until they have decayed, in Gy.

    Parameters
    ----------
    points_mm
        (n, 3), where the dose is wanted.
    seeds_mm
        (m, 3), centres of the seeds in the same frame.
    strength_u
        Air-kerma strength of each seed when it was implanted, in U (cGy cm2 per hour).
    """
    rates = dose_rate(np.arange(0.0, _LONGEST_CM + _STEP_CM, _STEP_CM))
    total = np.zeros(len(points_mm))
    for seed in seeds_mm:
        steps = np.sqrt(((points_mm - seed) ** 2).sum(axis=1)) / (10.0 * _STEP_CM)
        below = np.minimum(steps.astype(np.int64), len(rates) - 2)
        share = np.minimum(steps - below, 1.0)
        total += rates[below] * (1.0 - share) + rates[below + 1] * share
    return np.asarray(total * strength_u * HALF_LIFE_H / np.log(2.0) / 100.0)


def _geometry(r_cm: Floats) -> Floats:
    """Geometry function of a line source at right angles to it, per square cm."""
    half = ACTIVE_LENGTH_CM / 2.0
    return np.asarray(2.0 * np.arctan(half / r_cm) / (ACTIVE_LENGTH_CM * r_cm))
