"""Structures that only one of input and output shows, whatever their contrast: what came, and what went.

In parts of some 20 mm (what went) or 12 mm (what came), the one image is fitted to the other by gain and offset; what
is left of its variance, less that of the noise of the input, is structure that the other does not share. Noise is told
from differences of neighbouring voxels, along the axis that has the least of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.coarse_pair import CoarsePair, smoothed

_RANGE_HU = (-300.0, 300.0)
_SMOOTHING_VOXELS = 1.0
_NOISE_KEPT = 0.035
"""Part of the variance of white noise that is left after that smoothing, and after taking away what is broad."""
_BROAD_MM = 10.0
"""SD of the Gaussian; what is broader is no structure here."""
_LOST_MM, _ADDED_MM = 10.0, 6.0
"""SD of the Gaussian that a part is weighted by; what came may be small, while what went has to stand out of noise."""
_LEAST_HU2 = 25.0
_SKIN_VOXELS, _ENDS = 3, 4
_LOST_PERCENT, _ADDED_PERCENT = 99.9, 100.0


@dataclass(frozen=True)
class UnsharedStructure:
    """SD of structures in the parts that have most of them, HU."""

    lost_hu: float
    """In the input alone."""
    added_hu: float
    """In the output alone."""


def unshared_structure(pair: CoarsePair) -> UnsharedStructure:
    """What each image has for itself, below the skin; 0 where there is no body."""
    inside = ndimage.binary_erosion(pair.body, iterations=_SKIN_VOXELS)
    if len(inside) > 4 * _ENDS:
        inside[:_ENDS] = inside[-_ENDS:] = False
    if not inside.any():
        return UnsharedStructure(0.0, 0.0)
    broad, lost_in, added_in = (tuple(sd / mm for mm in pair.spacing_zyx_mm) for sd in (_BROAD_MM, _LOST_MM, _ADDED_MM))
    clipped = [np.clip(image, *_RANGE_HU) for image in (pair.before, pair.after)]
    noise = _NOISE_KEPT * _noise_variance(clipped[0], lost_in)[inside]
    fine = (smoothed(image, _SMOOTHING_VOXELS) for image in clipped)
    before, after = (image - smoothed(image, broad) for image in fine)
    products = (before * after, before * before, after * after)
    both, of_before, of_after = (smoothed(product, lost_in)[inside] for product in products)
    lost = of_before - noise - both**2 / np.maximum(of_after, _LEAST_HU2)
    both, of_before, of_after = (smoothed(product, added_in)[inside] for product in products)
    added = of_after - both**2 / np.maximum(of_before - noise, _LEAST_HU2)
    return UnsharedStructure(_highest_hu(lost, _LOST_PERCENT), _highest_hu(added, _ADDED_PERCENT))


def _noise_variance(image: NDArray[Any], around: tuple[float, ...]) -> NDArray[np.float32]:
    """From second differences along each axis, the least of them: edges and streaks add to the others."""
    least = np.full(image.shape, np.inf, np.float32)
    for axis in range(3):
        squared = np.zeros_like(image, dtype=np.float32)
        inner = tuple(slice(1, -1) if number == axis else slice(None) for number in range(3))
        squared[inner] = np.diff(image, 2, axis) ** 2 / 6.0
        least = np.minimum(least, smoothed(squared, around))
    return least


def _highest_hu(variance: NDArray[Any], percent: float) -> float:
    return float(np.sqrt(max(float(np.percentile(variance, percent)), 0.0)))
