"""What lies inside the skull on a CT, found by bone and form; and whether all of it is on the images.

Tissue counts where bone stands on nearly all sides of it; what thin necks join, as the orbits and the muscles under the
skull, falls to an opening; and the largest body that is left is the brain with its fluid. Nothing here is learnt.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.implicit_shapes import Point
from models.intensity import Mask

_BONE_HU = 200.0
_TISSUE_HU = (-25.0, 110.0)
_SMOOTHING_MM = 0.8
_SIDES = 4
"""Of left, right, front, back and above: on so many there has to be bone. The base of the skull has gaps."""
_OPENED_MM = 4.5
"""What is thinner than twice this between two bodies does not join them."""
_BACK_MM = 1.2
"""How much farther than the opening the brain is grown back, to the inner table."""
_CANAL_CM2 = 9.0
"""Below the widest slice the brain ends where less than this is left: the foramen magnum."""
_LEAST_VOLUME_ML, _LARGEST_VOLUME_ML = 700.0, 2300.0
_WIDEST_END_CM2 = 22.0
"""The brain below the vertex, and the canal below the foramen, are narrower; an end slice with more was cut."""


class NoWholeBrain(Exception):
    """The images do not show a whole brain in a closed skull; the message is one plain sentence."""


@dataclass(frozen=True)
class Intracranial:
    """The inside of the skull."""

    mask: Mask
    """[slice, row, column]."""
    volume_ml: float


def intracranial(hu_zyx: NDArray[Any], spacing_zyx_mm: Point) -> Intracranial:
    """Find the inside of the skull on an image whose slices go to the head, rows to posterior.

    Raises
    ------
    NoWholeBrain
        If no skull encloses a brain, or a part of it is cut off.
    """
    found = _inside(hu_zyx, spacing_zyx_mm)
    slice_mm, row_mm, column_mm = spacing_zyx_mm
    areas_cm2 = found.sum(axis=(1, 2)) * (row_mm * column_mm / 100.0)
    _check_ends(found, areas_cm2)
    mask = _without_canal(found, areas_cm2)
    volume_ml = float(mask.sum()) * slice_mm * row_mm * column_mm / 1000.0
    if not _LEAST_VOLUME_ML <= volume_ml <= _LARGEST_VOLUME_ML:
        raise NoWholeBrain("The images show no closed skull with a brain of usual size")
    return Intracranial(mask, volume_ml)


def _check_ends(found: Mask, areas_cm2: NDArray[np.float64]) -> None:
    if areas_cm2[-1] > _WIDEST_END_CM2:
        raise NoWholeBrain("The brain is cut off at the upper end of the images")
    if areas_cm2[0] > _WIDEST_END_CM2:
        raise NoWholeBrain("The brain is cut off at the lower end of the images")
    edges = (found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1])
    if any(edge.any() for edge in edges):
        raise NoWholeBrain("The brain is cut off at the side of the images")


def _without_canal(found: Mask, areas_cm2: NDArray[np.float64]) -> Mask:
    widest = int(areas_cm2.argmax())
    narrow = np.flatnonzero(areas_cm2[:widest] < _CANAL_CM2)
    kept = found.copy()
    kept[: int(narrow[-1]) + 1 if len(narrow) else 0] = False
    return kept


def _inside(hu_zyx: NDArray[Any], spacing_zyx_mm: Point) -> Mask:
    sigma = [0.0, *(_SMOOTHING_MM / mm for mm in spacing_zyx_mm[1:])]
    smooth = ndimage.gaussian_filter(np.asarray(hu_zyx, np.float32), sigma, truncate=3.0)
    tissue = (smooth > _TISSUE_HU[0]) & (smooth < _TISSUE_HU[1]) & (_sides_with(smooth > _BONE_HU) >= _SIDES)
    core = _largest(ndimage.distance_transform_edt(tissue, sampling=spacing_zyx_mm) > _OPENED_MM)
    if not core.any():
        return core
    near = ndimage.distance_transform_edt(~core, sampling=spacing_zyx_mm) <= _OPENED_MM + _BACK_MM
    return np.stack([np.asarray(ndimage.binary_fill_holes(plane), np.bool_) for plane in tissue & near])


def _sides_with(bone: Mask) -> NDArray[np.uint8]:
    """On how many of five sides of each voxel there is bone, however far."""
    sides = np.zeros(bone.shape, np.uint8)
    for axis in (1, 2):
        sides += np.logical_or.accumulate(bone, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(bone, axis), axis=axis), axis)
    sides += np.logical_or.accumulate(bone[::-1], axis=0)[::-1]
    return sides


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.asarray(mask, np.bool_)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())
