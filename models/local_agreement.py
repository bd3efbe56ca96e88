"""How well two registered images agree around a region: what matters of a registration is where one looks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import AIR_HU, Hu, Mask
from models.rigid_motion import Matrix, resampled

AROUND_MM = 30.0
_RANGE_HU = (-1000.0, 1200.0)


@dataclass(frozen=True)
class Placed:
    """HU with their place."""

    hu_zyx: Hu
    affine: NDArray[np.float64]
    """4 x 4, (column, row, slice, 1) to LPS mm."""


def local_correlation(fixed: Placed, moving: Placed, matrix: Matrix, region_zyx: Mask, seen_zyx: Mask) -> float:
    """Pearson's correlation of HU in the box around a region of the fixed image, AROUND_MM wider on each side.

    Parameters
    ----------
    fixed, moving
        The images.
    matrix
        4 x 4, LPS mm: fixed = matrix @ moving.
    region_zyx, seen_zyx
        Masks on the grid of the fixed image; voxels that are not seen do not count.

    Returns
    -------
    -1 to 1; nan where the region is empty or an image has one value only.
    """
    if not region_zyx.any():
        return float("nan")
    spacing = np.linalg.norm(fixed.affine[:3, :3], axis=0)[::-1]
    sides = ndimage.find_objects(region_zyx.astype(np.int8))[0]
    reach = np.ceil(AROUND_MM / spacing).astype(int)
    box = tuple(slice(max(0, side.start - by), side.stop + by) for side, by in zip(sides, reach, strict=True))
    inside = seen_zyx[box]
    onto = fixed.affine.copy()
    onto[:3, 3] += fixed.affine[:3, :3] @ [float(side.start) for side in reversed(box)]
    there = resampled(moving.hu_zyx, moving.affine, inside.shape, onto, matrix, AIR_HU)
    one, other = (np.clip(hu[inside], *_RANGE_HU).astype(np.float64) for hu in (fixed.hu_zyx[box], there))
    if len(one) < 2 or one.std() == 0.0 or other.std() == 0.0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
