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
"""However much alike a few patients were: no contour is known better."""
_AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Alignment:
    """How organs, all of them together, lie in an image."""

    shift_zyx_mm: NDArray[np.float64]
    """The one displacement of all organs after which the image around them departs least from the usual, mm."""
    misfit_hu: float
    """Departure of the image around the organs, as they lie, from the usual: root of the mean over organs, HU."""


def alignment(surfaces: Mapping[str, Surface], usual: Mapping[str, Surroundings]) -> Alignment | None:
    """How the organs lie; None where the surroundings of no organ that was found are known."""
    known = [(surface, usual[organ]) for organ, surface in surfaces.items() if organ in usual]
    if not known:
        return None
    ticks = np.arange(-6.0, 6.1, _STEP_MM)
    shifts = np.array([shift for shift in product(ticks, repeat=3) if np.linalg.norm(shift) <= _FURTHEST_MM])
    misfits = np.array([np.mean([misfit_hu2(surface, of, shift) for surface, of in known]) for shift in shifts])
    at_rest = int(np.flatnonzero(~shifts.any(axis=1))[0])
    return Alignment(_lowest(shifts, misfits), float(np.sqrt(misfits[at_rest])))


def usual_shift(shifts_zyx_mm: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Mean and SD over patients of the displacement along each axis, by `organ_shift_AXIS_mm` and `..._sd_mm`."""
    if len(shifts_zyx_mm) < 2:
        return {}
    means, spreads = np.mean(shifts_zyx_mm, axis=0), np.std(shifts_zyx_mm, axis=0, ddof=1)
    named = {f"organ_shift_{axis}_mm": float(mean) for axis, mean in zip(_AXES, means, strict=True)}
    sd = {f"organ_shift_{axis}_sd_mm": float(spread) for axis, spread in zip(_AXES, spreads, strict=True)}
    return {name: round(value, 3) for name, value in {**named, **sd}.items()}


def organ_shift_sd(shift_zyx_mm: NDArray[np.float64], usual: Mapping[str, float]) -> float | None:
    """Length of the displacement less the usual one, in SD between patients along each axis; None without the usual.

    People, and networks that learnt from them, draw some organs a little off the edges that the image shows, always to
    the same side, and along the patient the image says less than across: so mm alone are no measure.
    """
    if f"organ_shift_{_AXES[0]}_mm" not in usual:
        return None
    mean = np.array([usual[f"organ_shift_{axis}_mm"] for axis in _AXES])
    sd = np.array([usual[f"organ_shift_{axis}_sd_mm"] for axis in _AXES])
    return float(np.linalg.norm((shift_zyx_mm - mean) / np.maximum(sd, _LEAST_SHIFT_SD_MM)))


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
