"""Whether organs that were found lie on what they were found in, by the HU of the image below them."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.intensity import Mask
from models.stability_measures import Spacing

_RANGE_HU = (-300.0, 600.0)
_NOISE_HU2 = 400.0
"""Below this variance an organ is no more uniform: noise."""
_LEAST_VOXELS = 30
_FURTHEST = 2
"""Voxels."""
_LEAST_SD_HU = 10.0


def organ_shift_mm(hu_zyx: NDArray[Any], masks: Mapping[str, Mask], spacing_zyx_mm: Spacing) -> float:
    """Length of the one displacement of all organs that would make the HU inside of them most uniform, mm.

    The scatter of HU inside of the organs is taken at displacements of up to two voxels along each axis; a parabola
    through the least gives the fraction. 0 where nothing was found.
    """
    organs = [np.argwhere(mask) for mask in masks.values() if mask.sum() >= _LEAST_VOXELS]
    if not organs:
        return 0.0
    clipped = np.pad(np.clip(hu_zyx, *_RANGE_HU), _FURTHEST, mode="edge")
    steps = range(2 * _FURTHEST + 1)
    scatter = np.array([_scatter(clipped, organs, shift) for shift in product(steps, repeat=3)])
    lowest = _lowest(scatter.reshape(len(steps), len(steps), len(steps)))
    return float(np.linalg.norm(lowest * np.array(spacing_zyx_mm)))


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
        if mask.sum() >= _LEAST_VOXELS
    }


def _scatter(clipped: NDArray[Any], organs: list[NDArray[np.int64]], shift: tuple[int, ...]) -> float:
    """Mean over organs of the logarithm of the variance of HU below the organ when it is moved by voxels."""
    z, y, x = shift
    values = (clipped[points[:, 0] + z, points[:, 1] + y, points[:, 2] + x] for points in organs)
    return float(np.mean([np.log(one.var() + _NOISE_HU2) for one in values]))


def _lowest(scatter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Displacement of the least scatter, voxels: a parabola through it and its neighbours along each axis."""
    least = np.unravel_index(int(scatter.argmin()), scatter.shape)
    found = np.array(least, np.float64) - _FURTHEST
    for axis, at in enumerate(least):
        if 0 < at < 2 * _FURTHEST:
            line = np.moveaxis(scatter, axis, -1)[tuple(np.delete(least, axis))]
            below, here, above = line[at - 1 : at + 2]
            curvature = below - 2.0 * here + above
            found[axis] += 0.5 * (below - above) / curvature if curvature > 1e-9 else 0.0
    return found
