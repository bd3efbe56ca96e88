"""Two images of one patient on one coarser grid, where measures are cheap and noise is less.

The first is what the second, an enhancement, is held against: what is expected of it, or its input.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Hu, Mask
from models.stability_measures import Spacing

VOXEL_MM = 3.0
_MARGIN_VOXELS = 6
_FEWEST = 4


@dataclass(frozen=True)
class CoarsePair:
    """Both images averaged over the same blocks of voxels; [slice, row, column], HU."""

    before: Hu
    after: Hu
    body: Mask
    """Of the input."""
    spacing_zyx_mm: Spacing

    def coarser(self, voxel_mm: float) -> "CoarsePair":
        """The pair on voxels of about this size."""
        return coarse_pair(self.before, self.after, self.body, self.spacing_zyx_mm, voxel_mm)

    def around_body(self) -> "CoarsePair":
        """The part that shows the body, and some voxels around it; all where there is none."""
        found = ndimage.find_objects(self.body.astype(np.int8))
        if not found:
            return self
        z, y, x = (slice(max(0, side.start - _MARGIN_VOXELS), side.stop + _MARGIN_VOXELS) for side in found[0])
        part = (z, y, x)
        return CoarsePair(self.before[part], self.after[part], self.body[part], self.spacing_zyx_mm)


def coarse_pair(
    before_hu_zyx: NDArray[Any],
    after_hu_zyx: NDArray[Any],
    body: Mask,
    spacing_zyx_mm: Spacing,
    voxel_mm: float = VOXEL_MM,
    each_slice: bool = False,
) -> CoarsePair:
    """Average whole voxels to blocks of about `voxel_mm`; axes that are as coarse already, or short, stay.

    With `each_slice` slices are not averaged with one another. Axes with fewer than four voxels are filled up by their
    last one, so that there are gradients.
    """
    sizes = zip(spacing_zyx_mm, before_hu_zyx.shape, strict=True)
    factors = tuple(max(1, min(round(voxel_mm / mm), n // 8)) for mm, n in sizes)
    factors = (1, *factors[1:]) if each_slice else factors
    before, after, inside = (_filled(block_means(image, factors)) for image in (before_hu_zyx, after_hu_zyx, body))
    slice_mm, row_mm, column_mm = (factor * mm for factor, mm in zip(factors, spacing_zyx_mm, strict=True))
    return CoarsePair(before, after, inside > 0.5, (slice_mm, row_mm, column_mm))


def block_means(array: NDArray[Any], factors: tuple[int, ...]) -> Hu:
    """Means of blocks of so many voxels; what is left over at the far ends is dropped."""
    return np.asarray(block_sums(np.asarray(array, np.float32), factors) / np.float32(np.prod(factors)), np.float32)


def block_sums(array: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    """Sums of blocks of so many voxels; what is left over at the far ends is dropped."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            size = array.shape[axis] // factor
            cut = array.take(range(size * factor), axis) if size * factor < array.shape[axis] else array
            array = cut.reshape((*array.shape[:axis], size, factor, *array.shape[axis + 1 :])).sum(axis=axis + 1)
    return array


def smoothed(image: NDArray[Any], sigma_voxels: float | tuple[float, ...]) -> Hu:
    """After a Gaussian of this SD."""
    return np.asarray(ndimage.gaussian_filter(np.asarray(image, np.float32), sigma_voxels, truncate=3.0))


def _filled(array: Hu) -> Hu:
    return np.pad(array, [(0, max(0, _FEWEST - size)) for size in array.shape], mode="edge")
