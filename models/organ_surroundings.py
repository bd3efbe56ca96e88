"""What an image shows close to the surface of an organ: HU by the side of the organ and by the distance to its surface.

In front of a cord lies a vertebra, beside a parotid fat and skin: the mean HU on each of the six sides, at distances
inside and outside, is much the same in all patients. It tells where an organ has to lie without asking the network.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Hu, Mask
from models.stability_measures import Spacing

Surroundings: TypeAlias = tuple[float | None, ...]
"""Mean HU on the lower, upper, front, back, right and left side, on each at -4.5, -1.5, 1.5 and 4.5 mm from the surface
(outside is positive); None where too little of the surface faces that way."""

FEWEST_VOXELS = 30
"""An organ that is smaller has no surface to speak of."""
_EDGES_MM = (-6.0, -3.0, 0.0, 3.0, 6.0)
_DISTANCES = len(_EDGES_MM) - 1
_BINS = 6 * _DISTANCES
_RANGE_HU = (-300.0, 400.0)
"""Lung, air and gas are one, and so are bone and metal."""
_SMOOTHING_MM = 2.0
_POINTS = 3000
_FEWEST_POINTS = 10
_MARGIN_MM = 18.0
"""As far as a point may be displaced, and what smoothing needs."""
_LARGEST_HU = 300.0
"""A departure counts for no more: one bright tooth is not worth a hundred voxels."""
_SEED = 0


@dataclass(frozen=True)
class Surface:
    """Points near the surface of an organ, and the image around it."""

    hu_zyx: Hu
    """Part of the image; clipped and smoothed, so that noise and pixel size matter little."""
    points: NDArray[np.float64]
    """(N, 3) in voxels of that part, between the centres of voxels as often as on them, or else every displacement
    would smooth the image that is none."""
    bins: NDArray[np.int64]
    """(N,) side and distance, as the numbers of `Surroundings`."""
    spacing_zyx_mm: Spacing

    def hu(self, shift_zyx_mm: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """HU at the points, or where they lie after this displacement; (N,)."""
        points = self.points if shift_zyx_mm is None else self.points + shift_zyx_mm / np.array(self.spacing_zyx_mm)
        return np.asarray(ndimage.map_coordinates(self.hu_zyx, points.T, order=1, mode="nearest"), np.float64)


def surfaces(hu_zyx: NDArray[Any], masks: Mapping[str, Mask], spacing_zyx_mm: Spacing) -> dict[str, Surface]:
    """Of every organ of 30 voxels or more that does not fill the image; the same points each time.

    None in an image of one slice, which has no surface along the patient.
    """
    if min(hu_zyx.shape) < 2:
        return {}
    large = {organ: mask for organ, mask in masks.items() if mask.sum() >= FEWEST_VOXELS and not mask.all()}
    return {organ: _surface(hu_zyx, mask, spacing_zyx_mm) for organ, mask in large.items()}


def surroundings(surface: Surface) -> Surroundings:
    """What lies around the organ."""
    counts = np.bincount(surface.bins, minlength=_BINS)
    sums = np.bincount(surface.bins, surface.hu(), _BINS)
    return tuple(
        round(float(total / count), 1) if count >= _FEWEST_POINTS else None
        for total, count in zip(sums, counts, strict=True)
    )


def usual_surroundings(several: Sequence[Mapping[str, Surroundings]]) -> dict[str, Surroundings]:
    """Mean over patients, of each organ that two or more have."""
    organs = dict.fromkeys(organ for one in several for organ in one)
    by_organ = {organ: [one[organ] for one in several if organ in one] for organ in organs}
    return {
        organ: tuple(_mean(values) for values in zip(*found, strict=True))
        for organ, found in by_organ.items()
        if len(found) > 1
    }


def misfit_hu2(surface: Surface, usual: Surroundings, shift_zyx_mm: NDArray[np.float64] | None = None) -> float:
    """Mean squared departure of the image from the usual surroundings, HU squared, each at most 300 HU.

    With a displacement: of the image as it would be under the organ when the organ is moved.
    """
    expected = np.array([np.nan if value is None else value for value in usual])[surface.bins]
    known = np.isfinite(expected)
    if not known.any():
        return 0.0
    departure = np.abs(surface.hu(shift_zyx_mm) - expected)[known]
    return float(np.mean(np.minimum(departure, _LARGEST_HU) ** 2))


def _surface(hu_zyx: NDArray[Any], mask: Mask, spacing: Spacing) -> Surface:
    part = _around(mask, spacing)
    distance = _signed_distance_mm(mask[part], spacing)
    rng = np.random.default_rng(_SEED)
    # In an image of large voxels none lies as near as 6 mm, and the nearest have to do.
    near = np.argwhere(np.abs(distance) < max(_EDGES_MM[-1], *(1.01 * mm for mm in spacing)))
    points = near[rng.integers(len(near), size=_POINTS)] + rng.uniform(-0.5, 0.5, (_POINTS, 3))
    # Samples of the gradient are the direction away from the organ.
    slopes = np.stack([_at(np.asarray(slope), points) for slope in np.gradient(distance, *spacing)])
    axis = np.abs(slopes).argmax(axis=0)
    side = 2 * axis + (slopes[axis, np.arange(_POINTS)] > 0.0)
    step = np.clip(np.digitize(_at(distance, points), _EDGES_MM) - 1, 0, _DISTANCES - 1)
    smooth = ndimage.gaussian_filter(
        np.clip(hu_zyx[part], *_RANGE_HU).astype(np.float32), [_SMOOTHING_MM / mm for mm in spacing]
    )
    return Surface(smooth, points, side * _DISTANCES + step, spacing)


def _around(mask: Mask, spacing: Spacing) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.int8))[0]
    margins = [int(np.ceil(_MARGIN_MM / mm)) for mm in spacing]
    return tuple(
        slice(max(0, side.start - margin), side.stop + margin) for side, margin in zip(found, margins, strict=True)
    )


def _signed_distance_mm(mask: Mask, spacing: Spacing) -> NDArray[np.float64]:
    """To the surface, negative inside; smoothed, so that steps of voxels do not decide which way it faces."""
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    return np.asarray(ndimage.gaussian_filter(outside - inside, [_SMOOTHING_MM / mm for mm in spacing]), np.float64)


def _at(volume: NDArray[Any], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(ndimage.map_coordinates(volume, points.T, order=1, mode="nearest"), np.float64)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 1) if len(known) > 1 else None
