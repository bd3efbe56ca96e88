"""The grey-white ratio of a head CT, measured on the regions of the atlas; and where the histogram of HU rises fastest.

After a cardiac arrest grey matter darkens, and its HU over those of white matter fall towards 1. Readers measure it in
small circles that they draw; here the median of every region of the atlas takes their place. The grey level of the
steepest rise of the brain's histogram does without an atlas.

References
----------
Torbey et al., Stroke 2000, doi 10.1161/01.STR.31.9.2163; Metter et al., Resuscitation 2011,
doi 10.1016/j.resuscitation.2011.04.001 (regions of basal ganglia and cerebrum, and their mean)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.brain_atlas import (
    CAUDATE,
    CENTRUM_SEMIOVALE,
    CORPUS_CALLOSUM,
    MEDIAL_CORTEX,
    POSTERIOR_LIMB,
    PUTAMEN,
)
from models.intensity import Mask

WINDOW_HU = (0.0, 80.0)
"""Only these voxels count: neither air nor fat, neither bone nor calcification."""
INSET_MM = 1.0
"""Regions are drawn in by so much before they are measured, for their edges are mixed."""
_LEAST_VOXELS = 20
_HISTOGRAM_SD_HU = 2.0
"""Smoothing of the histogram."""
_BIN_HU = 0.5
_RISE_ABOVE_HU = 12.0
"""Below lies the rise to the peak of the fluid."""


class RegionTooSmall(Exception):
    """A region has too few voxels on the images; the message is one plain sentence."""


@dataclass(frozen=True)
class HistogramGradient:
    """Where the histogram of the brain rises fastest."""

    grey_level_hu: float
    """HU of the largest gradient."""
    gradient: float
    """There: part of the voxels per HU and HU."""


def region_medians_hu(hu_zyx: NDArray[Any], regions: Mapping[str, Mask]) -> dict[str, float]:
    """Median HU of every region, of its voxels in `WINDOW_HU`.

    Raises
    ------
    RegionTooSmall
        If a region has fewer than 20 such voxels.
    """
    return {name: _median_hu(name, hu_zyx[mask]) for name, mask in regions.items()}


def grey_white_ratios(medians_hu: Mapping[str, float]) -> dict[str, float]:
    """Ratios by name, of the medians of the regions.

    `gwr_basal_ganglia` is (caudate + putamen) / (posterior limb of the internal capsule + corpus callosum),
    `gwr_putamen` is putamen / posterior limb, `gwr_cerebrum` is medial cortex / centrum semiovale, and `gwr_average`
    the mean of the first and the last.
    """
    hu = medians_hu
    basal_ganglia = (hu[CAUDATE] + hu[PUTAMEN]) / (hu[POSTERIOR_LIMB] + hu[CORPUS_CALLOSUM])
    cerebrum = hu[MEDIAL_CORTEX] / hu[CENTRUM_SEMIOVALE]
    return {
        "gwr_basal_ganglia": basal_ganglia,
        "gwr_putamen": hu[PUTAMEN] / hu[POSTERIOR_LIMB],
        "gwr_cerebrum": cerebrum,
        "gwr_average": 0.5 * (basal_ganglia + cerebrum),
    }


def histogram_gradient(hu_zyx: NDArray[Any], brain: Mask) -> HistogramGradient:
    """The largest gradient of the histogram of a brain between 12 and 80 HU.

    The histogram has bins of half a HU from 0 to 80, counts parts of all voxels per HU, and is smoothed by a Gaussian
    of SD 2 HU; its gradient is that of central differences. In the words of IBSI these are the grey level (8E6O) and
    the value (12CE) of the maximum histogram gradient, but for the smoothing and the bins.
    """
    low_hu, high_hu = WINDOW_HU
    bins = round((high_hu - low_hu) / _BIN_HU)
    counts, edges = np.histogram(hu_zyx[brain], bins=bins, range=WINDOW_HU)
    density = counts / max(int(counts.sum()), 1) / _BIN_HU
    smooth = ndimage.gaussian_filter1d(density, _HISTOGRAM_SD_HU / _BIN_HU, mode="constant")
    gradient = np.gradient(smooth, _BIN_HU)
    centres = 0.5 * (edges[:-1] + edges[1:])
    steepest = int(np.where(centres > _RISE_ABOVE_HU, gradient, -np.inf).argmax())
    return HistogramGradient(_crest(centres, gradient, steepest), float(gradient[steepest]))


def _crest(centres: NDArray[np.float64], gradient: NDArray[np.float64], at: int) -> float:
    """The top of a parabola through the largest value and its neighbours."""
    if not 0 < at < len(centres) - 1:
        return float(centres[at])
    left, middle, right = gradient[at - 1 : at + 2]
    curvature = left - 2.0 * middle + right
    return float(centres[at] + (_BIN_HU * 0.5 * (left - right) / curvature if curvature < 0.0 else 0.0))


def _median_hu(name: str, hu: NDArray[Any]) -> float:
    counted = hu[(hu >= WINDOW_HU[0]) & (hu <= WINDOW_HU[1])]
    if len(counted) < _LEAST_VOXELS:
        raise RegionTooSmall(f"The {name.replace('_', ' ')} has {len(counted)} voxels of tissue on the images")
    return float(np.median(counted))
