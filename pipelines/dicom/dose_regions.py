"""Regions of a structure set on a dose grid, by the part of each voxel that they fill."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.dose_samples import Region, part_inside
from pipelines.base import InputRejected
from pipelines.dicom.dose import Dose
from pipelines.dicom.structure_set import RoiContours, StructureSet, mask_of, public_name
from pipelines.dicom.volume import Volume

PARTS_MM = (0.25, 0.5, 1.0, 2.0)
"""Voxels of the dose are divided until their parts are no longer than the first of these ..."""
MOST_PARTS = 20_000_000
"""... with which the box around the region has no more parts than this."""


def roi_on_dose_grid(structures: StructureSet, roi: RoiContours, dose: Dose) -> Region:
    """A region on the grid of a dose, cut to the voxels that it touches, with the part of each that lies inside.

    A voxel is divided, and its parts belong to the region by the rules of `structure_set.roi_masks`.

    Raises
    ------
    InputRejected
        If the Frames of Reference differ, or the region is drawn in fewer than two planes, so that nobody knows how
        thick it is, has no inside, is not wholly inside the dose grid, or is drawn in planes that are not those of
        the dose.
    """
    if structures.frame_of_reference_uid != dose.frame_of_reference_uid:
        raise InputRejected("The structure set and the dose have different Frames of Reference")
    first_zyx, sizes_zyx = _box(roi, dose.volume)
    parts = _parts(sizes_zyx, dose.volume.spacing_zyx_mm)
    fine = _divided(dose.volume, first_zyx, sizes_zyx, parts)
    inside = part_inside(mask_of(roi.contours_lps, fine), parts)
    touched = ndimage.find_objects((inside > 0.0).astype(np.int8))
    if not touched:
        raise InputRejected(f"The region {public_name(roi)} has no inside")
    first, end = (first_zyx + [getattr(side, bound) for side in touched[0]] for bound in ("start", "stop"))
    if (first < 0).any() or (end > dose.volume.array_zyx.shape).any():
        raise InputRejected(f"The region {public_name(roi)} is not wholly inside the dose grid")
    return Region(inside[touched[0]], _shifted(dose.volume, first))


def _box(roi: RoiContours, volume: Volume) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel and number of voxels of a box around the contours, slices beyond the last contours included."""
    indices_zyx = [volume.indices_xyz(contour)[:, ::-1] for contour in roi.contours_lps]
    planes = np.unique(np.round([contour[:, 0].mean() for contour in indices_zyx], 3))
    if len(planes) < 2:
        raise InputRejected(f"The region {public_name(roi)} is drawn in fewer than two planes")
    low, high = (bound([bound(contour, axis=0) for contour in indices_zyx], axis=0) for bound in (np.min, np.max))
    # The outermost contours stand for half the distance of contours beyond them.
    reach = np.array([max(1.0, float(np.median(np.diff(planes)))), 0.0, 0.0]) / 2.0
    first = np.floor(low - reach + 0.5 + 1e-6).astype(np.int64)
    last = np.ceil(high + reach - 0.5 - 1e-6).astype(np.int64)
    return first, np.maximum(last - first + 1, 1)


def _parts(sizes_zyx: NDArray[np.int64], spacing_zyx_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """Into how many parts a voxel is divided along each axis."""
    for part_mm in PARTS_MM:
        slice_, row, column = (max(1, int(np.ceil(mm / part_mm - 1e-6))) for mm in spacing_zyx_mm)
        if float(np.prod(sizes_zyx)) * slice_ * row * column <= MOST_PARTS:
            break
    return slice_, row, column


def _shifted(volume: Volume, first_zyx: NDArray[np.int64]) -> NDArray[np.float64]:
    affine = volume.affine.copy()
    affine[:3, 3] = volume.points_lps(first_zyx[None, ::-1].astype(np.float64))[0]
    return affine


def _divided(
    volume: Volume, first_zyx: NDArray[np.int64], sizes_zyx: NDArray[np.int64], parts: tuple[int, ...]
) -> Volume:  # fmt: skip
    """A grid of the parts of these voxels, without values."""
    affine = _shifted(volume, first_zyx)
    for column, count in enumerate(reversed(parts)):
        step = affine[:3, column].copy()
        affine[:3, column] = step / count
        # The centre of the first part lies half a voxel less half a part before that of the voxel.
        affine[:3, 3] -= step * (0.5 - 0.5 / count)
    return Volume(np.broadcast_to(np.False_, tuple(sizes_zyx * np.array(parts))), affine)
