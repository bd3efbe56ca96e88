"""Where along the patient organs usually lie, and so whether one that was not found ought to be in the scan."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask
from models.stability_measures import Spacing

Place: TypeAlias = tuple[float, float, float]
"""Lower end, middle and upper end along the patient, mm towards the head, from an origin that all organs share."""

_ROUNDS = 5


def places(masks: Mapping[str, Mask], slice_mm: float) -> dict[str, Place]:
    """Of every organ that is there; the origin is the lower edge of the first slice."""
    return {organ: _place(mask, slice_mm) for organ, mask in masks.items() if mask.any()}


def usual_places(several: Sequence[Mapping[str, Place]]) -> dict[str, Place]:
    """Medians over patients, after each was moved along so that the middles of the organs fit best; two or more each.

    The origin is none in particular.
    """
    origins = [float(np.mean([middle for _, middle, _ in one.values()])) for one in several if one]
    known = [one for one in several if one]
    usual: dict[str, Place] = {}
    for _ in range(_ROUNDS):
        usual = _medians([_moved(one, -origin) for one, origin in zip(known, origins, strict=True)])
        origins = [_origin(one, usual, otherwise=origin) for one, origin in zip(known, origins, strict=True)]
    return usual


def missing_organ_part(
    masks: Mapping[str, Mask], body: Mask, spacing_zyx_mm: Spacing, usual: Mapping[str, Place]
) -> float:
    """Of an organ that was not found, the part of its usual height that lies within the scan, 0 to 1; the largest.

    The scan is the slices that show the body. The organs that were found tell where a missing one would be. 1 where
    none was found, or where nobody knows where the missing one lies; 0 where none is missing.
    """
    missing = [organ for organ, mask in masks.items() if not mask.any()]
    found = places(masks, spacing_zyx_mm[0])
    if not any(organ in usual for organ in found):
        return float(bool(missing))
    origin = _origin(found, usual, otherwise=0.0)
    slices = np.flatnonzero(body.any(axis=(1, 2)))
    lowest, highest = (float(slices[0]), float(slices[-1] + 1)) if len(slices) else (0.0, 0.0)
    scan = (lowest * spacing_zyx_mm[0] - origin, highest * spacing_zyx_mm[0] - origin)
    return max((_part_within(usual[organ], scan) if organ in usual else 1.0 for organ in missing), default=0.0)


def _part_within(place: Place, scan: tuple[float, float]) -> float:
    lower, _, upper = place
    within = min(upper, scan[1]) - max(lower, scan[0])
    return min(max(within / max(upper - lower, 1e-9), 0.0), 1.0)


def _place(mask: Mask, slice_mm: float) -> Place:
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    middle = float(ndimage.center_of_mass(mask)[0]) + 0.5
    return (float(slices[0]) * slice_mm, middle * slice_mm, float(slices[-1] + 1) * slice_mm)


def _origin(found: Mapping[str, Place], usual: Mapping[str, Place], otherwise: float) -> float:
    """Of the usual places in the patient's own: the median counts, as an organ may be cut off by the scan, or wrong."""
    differences = [middle - usual[organ][1] for organ, (_, middle, _) in found.items() if organ in usual]
    return float(np.median(differences)) if differences else otherwise


def _moved(found: Mapping[str, Place], by_mm: float) -> dict[str, Place]:
    return {organ: (lower + by_mm, middle + by_mm, upper + by_mm) for organ, (lower, middle, upper) in found.items()}


def _medians(several: Sequence[Mapping[str, Place]]) -> dict[str, Place]:
    organs = dict.fromkeys(organ for one in several for organ in one)
    by_organ = {organ: np.array([one[organ] for one in several if organ in one]) for organ in organs}
    return {organ: _rounded(np.median(found, axis=0)) for organ, found in by_organ.items() if len(found) > 1}


def _rounded(place: NDArray[np.float64]) -> Place:
    lower, middle, upper = (round(float(mm), 1) for mm in place)
    return lower, middle, upper
