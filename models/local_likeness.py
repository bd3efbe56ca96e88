"""Whether each part of an output shows the structures of that part of its input, whatever their contrast."""

import numpy as np
from scipy import ndimage

from models.coarse_pair import CoarsePair, smoothed

_RANGE_HU = (-300.0, 300.0)
_DETAIL_MM = 6.0
"""SD of the Gaussian; what is broader is no structure here."""
_AROUND_MM = 8.0
"""SD of the Gaussian that a part is weighted by."""
_SKIN_VOXELS = 3
_LEAST_HU2 = 25.0
_LOWEST_PERCENT = 0.1


def likeness_lost(pair: CoarsePair) -> float:
    """1 less the correlation of the structures of output and input where it is lowest, 0 to 2.

    Correlated in parts of about 16 mm below the skin; of these the thousandth that agrees least.
    """
    inside = ndimage.binary_erosion(pair.body, iterations=_SKIN_VOXELS)
    if not inside.any():
        return 0.0
    detail_sigma, around_sigma = (tuple(sd / mm for mm in pair.spacing_zyx_mm) for sd in (_DETAIL_MM, _AROUND_MM))
    clipped = (np.clip(image, *_RANGE_HU) for image in (pair.before, pair.after))
    before, after = (image - smoothed(image, detail_sigma) for image in clipped)
    products = (before * after, before * before, after * after)
    both, own_before, own_after = (smoothed(product, around_sigma)[inside] for product in products)
    likeness = both / np.sqrt(np.maximum(own_before, _LEAST_HU2) * np.maximum(own_after, _LEAST_HU2))
    return float(1.0 - np.percentile(likeness, _LOWEST_PERCENT))
