"""What a result shows that its witness does not expect, at three sizes.

The distance from the expectation is divided by what is usual at each voxel, and averaged over the size that is looked
for. The average that is furthest from the median of the body, in units of the spread about it, is the measure: a small
structure in quiet tissue counts for as much as a large one beside bone, where the two networks often differ, and an
image that is noisy as a whole has wider limits than a quiet one. What is wrong everywhere, other measures find.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.coarse_pair import block_means, smoothed
from models.intensity import Hu, Mask
from models.stability_measures import Spacing
from models.witness import Expectation

SIZES_MM: Mapping[str, float] = {"unexpected_detail": 1.5, "unexpected_structure": 4.0, "unexpected_region": 8.0}
"""SD of the Gaussian that the average is weighted by, by name of the measure."""

_VOXEL_MM = 2.0
_RANGE_HU = (-800.0, 1200.0)
_LEAST_SCALE_HU = 7.0
_OF_BONE = 0.15
"""Part of the HU of bone that counts as usual there: how dense bone is behind the noise, no network knows better."""
_BONE_MM = 3.0
_TISSUE_MM, _TISSUE_ABOVE_HU = 4.0, -300.0
"""Lung and airways are left out: outside of the range that networks for soft tissue learn, few voxels taught it."""
_MARGIN_VOXELS = 4
_SD_PER_MEDIAN = 1.4826
"""Of a normal distribution: SD against the median of the absolute value."""
_LEAST_SPREAD = 0.02
"""Of the averages, in what is usual: no two networks agree better."""


def unexpected_measures(
    after_hu_zyx: NDArray[np.float32], said: Expectation, body: Mask, spacing_zyx_mm: Spacing
) -> dict[str, float]:
    """Average distance from the expectation that is furthest from the others, at each size, in SD of these.

    0 where there is no body. The slices at both ends are looked at only where there are no others: what a network makes
    of them has less to rest on. Arrays are [slice, row, column] on one grid; `body` is that of the input.
    """
    found = ndimage.find_objects(body.astype(np.int8))
    if not found:
        return dict.fromkeys(SIZES_MM, 0.0)
    z, y, x = (slice(max(0, side.start - _MARGIN_VOXELS), side.stop + _MARGIN_VOXELS) for side in found[0])
    after, expected, scale = (image[z, y, x] for image in (after_hu_zyx, said.expected_hu_zyx, said.scale_hu_zyx))
    inside = body[z, y, x]
    voxels_of = [1.0 / mm for mm in spacing_zyx_mm]
    bone = np.maximum(smoothed(expected, _sd(_BONE_MM, voxels_of)), 0.0)
    usual = np.sqrt(scale**2 + np.float32(_LEAST_SCALE_HU**2) + (np.float32(_OF_BONE) * bone) ** 2)
    distance = np.where(inside, (np.clip(after, *_RANGE_HU) - np.clip(expected, *_RANGE_HU)) / usual, np.float32(0.0))
    tissue = inside & (smoothed(expected, _sd(_TISSUE_MM, voxels_of)) > _TISSUE_ABOVE_HU)
    factors = tuple(max(1, min(round(_VOXEL_MM / mm), n)) for mm, n in zip(spacing_zyx_mm, inside.shape, strict=True))
    coarse: Hu = block_means(distance, factors)
    shown = block_means(tissue, factors) > 0.5
    inner = ndimage.binary_erosion(shown)
    looked_at = inner if inner.any() else shown
    if not looked_at.any():
        return dict.fromkeys(SIZES_MM, 0.0)
    coarse_voxels_of = [voxels / factor for voxels, factor in zip(voxels_of, factors, strict=True)]
    return {name: _furthest(smoothed(coarse, _sd(mm, coarse_voxels_of))[looked_at]) for name, mm in SIZES_MM.items()}


def _furthest(averages: NDArray[np.float32]) -> float:
    """From the median, in SD as the median of the distances tells it."""
    distances = np.abs(averages - np.median(averages))
    return float(distances.max() / max(_SD_PER_MEDIAN * float(np.median(distances)), _LEAST_SPREAD))


def _sd(mm: float, voxels_of: list[float]) -> tuple[float, ...]:
    """SD along each axis in voxels, of which so many are a millimetre."""
    return tuple(mm * voxels for voxels in voxels_of)
