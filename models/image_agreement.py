"""How far two images agree that two models have made of the same input."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.intensity import Mask

_HIGH_PERCENTILE = 95.0


@dataclass(frozen=True)
class ImageDifference:
    """What lies between two images inside the body, one minus other, HU."""

    mean_hu: float
    mean_absolute_hu: float
    p95_absolute_hu: float
    """95 % of the voxels differ by no more."""


def image_difference(one_hu_zyx: NDArray[Any], other_hu_zyx: NDArray[Any], body: Mask) -> ImageDifference:
    """Difference of two images on the same grid; all three arrays are [slice, row, column].

    Raises
    ------
    ValueError
        If the arrays differ in shape, or the body is empty.
    """
    if not one_hu_zyx.shape == other_hu_zyx.shape == body.shape:
        raise ValueError(f"arrays of {one_hu_zyx.shape}, {other_hu_zyx.shape} and {body.shape} are not on one grid")
    if not body.any():
        raise ValueError("a body without a voxel")
    differences = one_hu_zyx[body].astype(np.float64) - other_hu_zyx[body]
    sizes = np.abs(differences)
    return ImageDifference(
        mean_hu=float(differences.mean()),
        mean_absolute_hu=float(sizes.mean()),
        p95_absolute_hu=float(np.percentile(sizes, _HIGH_PERCENTILE)),
    )
