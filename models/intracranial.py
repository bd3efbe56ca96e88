"""What lies inside the skull on a CT, found by bone and form; and whether all of it is on the images.

Bone closes a ring around it in nearly every slice; where it does not, what is let in is thin and falls to an opening.
Nothing here is learnt. A skull that was opened by surgery is not closed, and is refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.implicit_shapes import Point
from models.intensity import Mask

_BONE_HU = 200.0
_TISSUE_HU = (-30.0, 110.0)
_SMOOTHING_MM = 0.8
_CLOSED_MM = 4.0
"""Holes in bone up to twice this count as closed: sutures, canals, thin plates."""
_OPENED_MM = 4.5
"""What is thinner than twice this between two bodies does not join them: nerves, muscles under the skull."""
_BACK_MM = 1.2
"""How much farther than the opening the brain is grown back, to the inner table."""
_LEAST_VOLUME_ML = 700.0
_LARGEST_VOLUME_ML = 2300.0
_WIDEST_END_CM2 = 22.0
"""The foramen magnum has 8 cm2, the brain below the vertex a few; an end slice with more was cut."""


class NoWholeBrain(Exception):
    """The images do not show a whole brain in a closed skull; the message is one plain sentence."""


@dataclass(frozen=True)
class Intracranial:
    """The inside of the skull."""

    mask: Mask
    """[slice, row, column]."""
    volume_ml: float
    lowest_cm2: float
    """Area in the lowest slice of the image, where it goes on to the neck."""
    highest_cm2: float
    """The same in the highest."""


def intracranial(hu_zyx: NDArray[Any], spacing_zyx_mm: Point) -> Intracranial:
    """Find the inside of the skull on an image whose slices go to the head.

    Raises
    ------
    NoWholeBrain
        If no skull encloses a brain, or a part of it is cut off.
    """
    found = _inside(hu_zyx, spacing_zyx_mm)
    slice_mm, row_mm, column_mm = spacing_zyx_mm
    areas = found.sum(axis=(1, 2)) * (row_mm * column_mm / 100.0)
    whole = Intracranial(found, float(areas.sum() * slice_mm / 10.0), float(areas[0]), float(areas[-1]))
    _check(whole)
    return whole


def _check(found: Intracranial) -> None:
    if found.mask.any():
        if found.highest_cm2 > _WIDEST_END_CM2:
            raise NoWholeBrain("The brain is cut off at the upper end of the images")
        if found.lowest_cm2 > _WIDEST_END_CM2:
            raise NoWholeBrain("The brain is cut off at the lower end of the images")
        edges = (found.mask[:, 0], found.mask[:, -1], found.mask[:, :, 0], found.mask[:, :, -1])
        if any(edge.any() for edge in edges):
            raise NoWholeBrain("The brain is cut off at the side of the images")
    if not _LEAST_VOLUME_ML <= found.volume_ml <= _LARGEST_VOLUME_ML:
        raise NoWholeBrain("The images show no closed skull with a brain of usual size")


def _inside(hu_zyx: NDArray[Any], spacing_zyx_mm: Point) -> Mask:
    spacing = np.array(spacing_zyx_mm)
    smooth = ndimage.gaussian_filter(
        np.asarray(hu_zyx, np.float32), [0.0, *(_SMOOTHING_MM / spacing[1:])], truncate=3.0
    )
    closed = np.stack([_ring(plane > _BONE_HU, spacing_zyx_mm[1:]) for plane in smooth])
    tissue = closed & (smooth > _TISSUE_HU[0]) & (smooth < _TISSUE_HU[1])
    if not tissue.any():
        return tissue
    core = _largest(ndimage.distance_transform_edt(tissue, sampling=spacing_zyx_mm) > _OPENED_MM)
    if not core.any():
        return core
    near = ndimage.distance_transform_edt(~core, sampling=spacing_zyx_mm) <= _OPENED_MM + _BACK_MM
    return np.stack([np.asarray(ndimage.binary_fill_holes(plane), np.bool_) for plane in tissue & near])


def _ring(bone: Mask, spacing_yx_mm: tuple[float, float]) -> Mask:
    """What bone encloses in a slice, without the bone."""
    if not bone.any():
        return bone
    wide = np.pad(bone, _margin(spacing_yx_mm))
    near = ndimage.distance_transform_edt(~wide, sampling=spacing_yx_mm) <= _CLOSED_MM
    filled = ndimage.binary_fill_holes(near)
    # Back by the same distance from outside, so that what lies around the skull is not taken for its inside.
    kept = ndimage.distance_transform_edt(filled, sampling=spacing_yx_mm) > _CLOSED_MM
    margin = _margin(spacing_yx_mm)
    return np.asarray(kept[margin:-margin, margin:-margin] & ~bone, np.bool_)


def _margin(spacing_yx_mm: tuple[float, float]) -> int:
    return int(np.ceil(_CLOSED_MM / min(spacing_yx_mm))) + 1


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())
