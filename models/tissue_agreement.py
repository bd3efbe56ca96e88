"""What became of fat, muscle and bone, and of the steepness of the skin: signed, to be held against the usual."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.coarse_pair import CoarsePair, smoothed

_TISSUES_HU = {"fat": (-140.0, -50.0), "muscle": (0.0, 80.0), "bone": (250.0, 1200.0)}
"""HU of the input, smoothed by a voxel."""
_LEAST_VOXELS = 100
_BELOW_SKIN_VOXELS = 2
_SKIN_HU = (-1000.0, -200.0)


def tissue_changes(pair: CoarsePair) -> dict[str, float]:
    """Median change of the HU of each tissue from input to output, and the steepness of its skin against the input's.

    Tissues that the input hardly shows are left out. Names: `fat_change_hu`, `muscle_change_hu`, `bone_change_hu`,
    `skin_steepness`.
    """
    inside = ndimage.binary_erosion(pair.body, iterations=_BELOW_SKIN_VOXELS)
    before, after = (smoothed(image, 1.0)[inside] for image in (pair.before, pair.after))
    found = {}
    for name, (low, high) in _TISSUES_HU.items():
        there = (before > low) & (before < high)
        if there.sum() >= _LEAST_VOXELS:
            found[f"{name}_change_hu"] = float(np.median(after[there] - before[there]))
    return {**found, "skin_steepness": _skin_steepness(pair)}


def _skin_steepness(pair: CoarsePair) -> float:
    """Of the output against the input, median over the steeper half of the outline of the body."""
    skin = pair.body & ~ndimage.binary_erosion(pair.body, iterations=1)
    if not skin.any():
        return 1.0
    before, after = (_steepness(np.clip(image, *_SKIN_HU))[skin] for image in (pair.before, pair.after))
    clear = before >= np.median(before)
    return float(np.median(after[clear] / np.maximum(before[clear], 1.0)))


def _steepness(image: NDArray[Any]) -> NDArray[np.float32]:
    rows, columns = np.gradient(image, axis=(1, 2))
    return np.asarray(np.hypot(rows, columns), np.float32)
