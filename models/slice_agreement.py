"""Whether every slice of an output is that slice of its input, and no mirror image of it.

Slices are compared by the correlation of their soft tissue with one another; the network's own change of contrast
hardly changes which slice resembles which.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.coarse_pair import CoarsePair, smoothed

_VOXEL_MM = 8.0
_RANGE_HU = (-600.0, 250.0)
_LEAST_BODY = 0.02
_CLEARER = 0.02
"""By so much another slice has to correlate better before it counts as the one that is shown."""
_SEARCHED_MM = 60.0


def mirrored_likeness(pair: CoarsePair) -> float:
    """By how much the output correlates better with the input mirrored along an axis than with the input itself.

    Below 0 as long as it does not; -2 to 2; -1 where there is nothing to compare.
    """
    coarse = pair.coarser(_VOXEL_MM)
    if not coarse.body.any():
        return -1.0
    before, after = (np.clip(image, *_RANGE_HU) for image in (coarse.before, coarse.after))
    own = _correlation(before, after)
    return max(_correlation(np.flip(before, axis), after) for axis in range(3)) - own


def misplaced_slice_mm(pair: CoarsePair) -> float:
    """Largest distance of a slice of the output from the slice of the input that it resembles most, mm.

    What is compared are changes from slice to slice: neighbours are alike but for these. Slices with hardly any body
    are left out.
    """
    body = pair.body.mean(axis=(1, 2)) > _LEAST_BODY
    if body.sum() < 3:
        return 0.0
    before, after = (_slices(image, pair) for image in (pair.before, pair.after))
    likeness = before @ after.T  # [slice of the input, slice of the output]
    distance = np.abs(np.subtract.outer(np.arange(len(body)), np.arange(len(body)))) * pair.spacing_zyx_mm[0]
    likeness[~body] = -1.0
    likeness[distance > _SEARCHED_MM] = -1.0
    better = likeness.max(axis=0) > np.diagonal(likeness) + _CLEARER
    misplaced = distance[likeness.argmax(axis=0), np.arange(len(body))][better & body]
    return float(misplaced.max(initial=0.0))


def _slices(image: NDArray[Any], pair: CoarsePair) -> NDArray[np.float32]:
    """Each slice as a vector of length 1, without what it has in common with the slices around."""
    plane_sigma = [_VOXEL_MM / 2.0 / mm for mm in pair.spacing_zyx_mm[1:]]
    clipped = smoothed(np.clip(image, *_RANGE_HU), (0.0, *plane_sigma))
    around = smoothed(clipped, (10.0 / pair.spacing_zyx_mm[0], 0.0, 0.0))
    step = max(1, round(_VOXEL_MM / 2.0 / pair.spacing_zyx_mm[1]))
    rest = (clipped - around)[:, ::step, ::step].reshape(len(image), -1)
    rest = rest - rest.mean(axis=1, keepdims=True)
    return np.asarray(rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6), np.float32)


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    first, second = one - one.mean(), other - other.mean()
    return float((first * second).sum() / max(float(np.sqrt((first**2).sum() * (second**2).sum())), 1e-6))
