"""Moran's I and Geary's C of a region over all pairs of its voxels, by convolution instead of pair by pair.

References
----------
IBSI reference manual, arXiv 1612.07003, sections 3.1.23 (N365) and 3.1.24 (NPT7): weights are inverse distances in mm
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage


def moran_and_geary(
    image_zyx: NDArray[Any], mask_zyx: NDArray[np.bool_], spacing_zyx_mm: tuple[float, float, float]
) -> tuple[float, float]:  # fmt: skip
    """Moran's I and Geary's C of the intensities within the mask; both 1 where there is a single intensity.

    Raises
    ------
    ValueError
        If the mask has fewer than two voxels.
    """
    voxels = int(mask_zyx.sum())
    if voxels < 2:
        raise ValueError(f"a mask of {voxels} voxels has no pair of them")
    box = ndimage.find_objects(mask_zyx.astype(np.int8))[0]
    inside = mask_zyx[box].astype(np.float64)
    deviations = np.where(mask_zyx[box], image_zyx[box] - image_zyx[mask_zyx].mean(), 0.0)
    squares = deviations**2
    if not squares.any():
        return 1.0, 1.0
    neighbours = _Neighbours(inside.shape, spacing_zyx_mm)
    weight_of_others = neighbours.summed(inside)
    products = float((deviations * neighbours.summed(deviations)).sum())
    total_weight = float((inside * weight_of_others).sum())
    # The squared differences of all pairs, multiplied out.
    differences = 2.0 * (float((squares * weight_of_others).sum()) - products)
    variation = float(squares.sum())
    return voxels * products / total_weight / variation, (voxels - 1) * differences / 2.0 / total_weight / variation


class _Neighbours:
    """Sums over all other voxels of a box, each weighted with its inverse distance."""

    def __init__(self, shape: tuple[int, ...], spacing_zyx_mm: tuple[float, float, float]) -> None:
        # Offsets reach as far forwards as backwards; where they wrap around, no two of them may meet.
        self._padded = tuple(fft.next_fast_len(2 * n - 1, real=True) for n in shape)
        offsets_mm = [fft.fftfreq(n, 1 / n) * mm for n, mm in zip(self._padded, spacing_zyx_mm, strict=True)]
        distances = np.sqrt(sum(axis**2 for axis in np.meshgrid(*offsets_mm, indexing="ij", sparse=True)))
        weights = np.divide(1.0, distances, out=np.zeros_like(distances), where=distances > 0)
        self._transform = fft.rfftn(weights)

    def summed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weighted sum of the other voxels' values at each voxel."""
        product = fft.rfftn(values, self._padded) * self._transform
        return np.asarray(fft.irfftn(product, self._padded)[tuple(slice(n) for n in values.shape)])
