"""Dose made ready for image features: hot spots are cut at a stated level, and what was cut is counted.

Next to a brachytherapy source the calculated dose rises without bound, so its value there says where a voxel centre
happens to lie. A filter spreads such a value over its whole reach. Hence it is cut before any filter, at a level that
stands in the result.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.dose_samples import DoseRefused
from models.intensity import Mask


@dataclass(frozen=True)
class CutDose:
    """A dose without hot spots."""

    gy_zyx: NDArray[np.float32]
    """[slice, row, column], Gy, nowhere above the level."""
    level_gy: float
    cut_percent: float
    """Of the voxels of the region, those that were above the level."""


def cut_dose(gy_zyx: NDArray[Any], region: Mask, level_gy: float) -> CutDose:
    """Cut a dose at a level, for example twice the prescription, everywhere; the region only counts what was cut.

    Raises
    ------
    DoseRefused
        If the level is not above 0 Gy, the region has no voxel or lies on another grid, or a dose is no number.
    """
    if not level_gy > 0.0:
        raise DoseRefused("The level at which a dose is cut is not above 0 Gy")
    if region.shape != gy_zyx.shape:
        raise DoseRefused("The region is not on the grid of the dose")
    if not region.any():
        raise DoseRefused("The region has no voxel")
    if not np.isfinite(gy_zyx).all():
        raise DoseRefused("The dose has voxels without a number")
    above = float((gy_zyx[region] > level_gy).mean())
    return CutDose(np.minimum(gy_zyx, level_gy).astype(np.float32), level_gy, 100.0 * above)
