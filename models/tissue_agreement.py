"""What became of fat, muscle and bone, of contrast, and of the steepness of the skin: to be held against the usual."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.coarse_pair import CoarsePair, smoothed

_TISSUES_HU = {"fat": (-140.0, -50.0), "muscle": (0.0, 80.0), "bone": (250.0, 1200.0)}
"""HU of the image that the output is held against, smoothed by a voxel."""
_CONTRAST_HU = (-200.0, 1000.0)
_LEAST_VOXELS = 100
_BELOW_SKIN_VOXELS = 2
_SKIN_HU = (-1000.0, -200.0)


def tissue_changes(pair: CoarsePair) -> dict[str, float]:
    """Median change of the HU of each tissue, and contrast and steepness of the skin of the output against the input.

    Tissues that the input hardly shows are left out. Names: `fat_change_hu`, `muscle_change_hu`, `bone_change_hu`,
    `contrast_gain` (slope of the output's HU along the input's, from fat to bone), `skin_steepness`.
    """
    inside = ndimage.binary_erosion(pair.body, iterations=_BELOW_SKIN_VOXELS)
    before, after = (smoothed(image, 1.0)[inside] for image in (pair.before, pair.after))
    found = {}
    for name, (low, high) in _TISSUES_HU.items():
        there = (before > low) & (before < high)
        if there.sum() >= _LEAST_VOXELS:
            found[f"{name}_change_hu"] = float(np.median(after[there] - before[there]))
    shown = (before > _CONTRAST_HU[0]) & (before < _CONTRAST_HU[1])
    if shown.sum() >= _LEAST_VOXELS:
        found["contrast_gain"] = _slope(before[shown], after[shown])
    return {**found, "skin_steepness": _skin_steepness(pair)}


def _slope(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Of the line of least squares."""
    about = before - before.mean(dtype=np.float64)
    return float((about * after).sum() / max(float((about**2).sum()), 1e-6))


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
