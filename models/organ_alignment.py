"""Whether organs that were found lie on what they were found in, by the HU of the image around and below them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.intensity import Mask
from models.organ_surroundings import FEWEST_VOXELS, Surface, Surroundings, misfit_hu2

_RANGE_HU = (-300.0, 600.0)
_LEAST_SD_HU = 10.0
_STEP_MM, _FURTHEST_MM = 2.0, 7.0
_NEAR_MM = 3.1
"""Around the least misfit a paraboloid is laid through the neighbours along edges and diagonals."""
_LEAST_SHIFT_SD_MM = 0.35
_LEAST_MISFIT_SD_HU = 5.0
"""However much alike a few patients were: no contour is known better."""
_MEAN_VARIANCE_COUNTS = 4
_AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Alignment:
    """How organs lie in an image."""

    shift_zyx_mm: NDArray[np.float64]
    """The one displacement of all organs after which the image around them departs least from the usual, mm."""
    misfit_hu: Mapping[str, float]
    """By organ: root mean square departure of the image around it, as it lies, from the usual, HU."""


def alignment(surfaces: Mapping[str, Surface], usual: Mapping[str, Surroundings]) -> Alignment | None:
    """How the organs lie; None where the surroundings of no organ that was found are known."""
    known = {organ: surface for organ, surface in surfaces.items() if organ in usual}
    if not known:
        return None
    ticks = np.arange(-6.0, 6.1, _STEP_MM)
    shifts = np.array([shift for shift in product(ticks, repeat=3) if np.linalg.norm(shift) <= _FURTHEST_MM])
    misfits = np.array(
        [[misfit_hu2(surface, usual[organ], shift) for organ, surface in known.items()] for shift in shifts]
    )
    at_rest = misfits[np.flatnonzero(~shifts.any(axis=1))[0]]
    by_organ = {organ: float(np.sqrt(misfit)) for organ, misfit in zip(known, at_rest, strict=True)}
    return Alignment(_lowest(shifts, misfits.mean(axis=1)), by_organ)


def usual_alignment(several: Sequence[Alignment]) -> dict[str, float]:
    """Mean and SD over patients, by name: of the displacement along each axis, and of the misfit of each organ.

    `organ_shift_AXIS_mm`, `organ_shift_AXIS_mm_sd`, `ORGAN_misfit_hu` and `ORGAN_misfit_hu_sd`, the organ in small
    letters; of what two patients or more have. As some organs are found in few patients, the variance of a misfit is
    drawn towards the mean variance over organs, which counts as much as four patients.
    """
    shifts = {f"organ_shift_{axis}_mm": [float(one.shift_zyx_mm[n]) for one in several] for n, axis in enumerate(_AXES)}
    organs = dict.fromkeys(organ for one in several for organ in one.misfit_hu)
    misfits = {
        f"{organ.lower()}_misfit_hu": [one.misfit_hu[organ] for one in several if organ in one.misfit_hu]
        for organ in organs
    }
    return {**_means_and_sds(shifts, 0), **_means_and_sds(misfits, _MEAN_VARIANCE_COUNTS)}


def _means_and_sds(values: Mapping[str, Sequence[float]], mean_counts: int) -> dict[str, float]:
    """By name and `NAME_sd`, of what has two values or more; `mean_counts` is the weight of the mean variance."""
    enough = {name: of for name, of in values.items() if len(of) > 1}
    variances = {name: float(np.var(of, ddof=1)) for name, of in enough.items()}
    mean = float(np.mean(list(variances.values()))) if variances else 0.0
    drawn = {
        name: ((len(of) - 1) * variances[name] + mean_counts * mean) / (len(of) - 1 + mean_counts)
        for name, of in enough.items()
    }
    means = {name: round(float(np.mean(of)), 3) for name, of in enough.items()}
    return {**means, **{f"{name}_sd": round(float(np.sqrt(variance)), 3) for name, variance in drawn.items()}}


def organ_shift_sd(lie: Alignment, usual: Mapping[str, float]) -> float | None:
    """Length of the displacement less the usual one, in SD between patients along each axis; None without the usual.

    People, and networks that learnt from them, draw some organs a little off the edges that the image shows, always to
    the same side, and along the patient the image says less than across: so mm alone are no measure.
    """
    names = [f"organ_shift_{axis}_mm" for axis in _AXES]
    if not all(name in usual for name in names):
        return None
    sd = np.array([max(usual[f"{name}_sd"], _LEAST_SHIFT_SD_MM) for name in names])
    return float(np.linalg.norm((lie.shift_zyx_mm - [usual[name] for name in names]) / sd))


def organ_misfit_sd(lie: Alignment, usual: Mapping[str, float]) -> float | None:
    """By how many SD between patients the misfit of an organ is above its mean: of the worst organ, 0 or more.

    None where the usual misfit of no organ that was found is known.
    """
    named = {f"{organ.lower()}_misfit_hu": misfit for organ, misfit in lie.misfit_hu.items()}
    above = [
        (misfit - usual[name]) / max(usual[f"{name}_sd"], _LEAST_MISFIT_SD_HU)
        for name, misfit in named.items()
        if name in usual
    ]
    return max(0.0, *above) if above else None


def organ_hu_departure_sd(hu_zyx: NDArray[Any], masks: Mapping[str, Mask], usual: Mapping[str, float]) -> float | None:
    """Mean HU of an organ against the usual, in SD between patients: of the organ that departs most.

    None where the usual of no organ that was found is known.
    """
    found = organ_hu(hu_zyx, masks)
    departures = [
        abs(value - usual[name]) / max(usual[f"{name}_sd"], _LEAST_SD_HU)
        for name, value in found.items()
        if name in usual
    ]
    return max(departures, default=None)


def organ_hu(hu_zyx: NDArray[Any], masks: Mapping[str, Mask]) -> dict[str, float]:
    """Mean HU of each organ that was found, by `ORGAN_hu` in small letters; clipped, so that metal counts little."""
    return {
        f"{organ.lower()}_hu": float(np.clip(hu_zyx[mask], *_RANGE_HU).mean())
        for organ, mask in masks.items()
        if mask.sum() >= FEWEST_VOXELS
    }


def _lowest(shifts: NDArray[np.float64], misfits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a paraboloid through the neighbours of the least misfit has its lowest point, no further than they are."""
    least = shifts[misfits.argmin()]
    near = np.linalg.norm(shifts - least, axis=1) <= _NEAR_MM
    z, y, x = (shifts[near] - least).T
    terms = np.stack([np.ones_like(z), z, y, x, z * z, y * y, x * x, z * y, z * x, y * x], axis=1)
    _, bz, by, bx, zz, yy, xx, zy, zx, yx = np.linalg.lstsq(terms, misfits[near], rcond=None)[0]
    curvature, axes = np.linalg.eigh([[2 * zz, zy, zx], [zy, 2 * yy, yx], [zx, yx, 2 * xx]])
    # Where the image says nothing along an axis the paraboloid is flat, and nothing is claimed.
    steps = axes.T @ np.array([bz, by, bx])
    step = -axes @ np.divide(steps, curvature, out=np.zeros(3), where=curvature > 1e-3 * max(curvature.max(), 1e-9))
    return np.asarray(least + step * min(1.0, _NEAR_MM / max(float(np.linalg.norm(step)), 1e-9)))
