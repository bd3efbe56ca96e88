"""Classical denoising that a network has to beat: bilateral filter, non-local means, total variation.

All work slice by slice on [slice, row, column] in HU. `HuCurve` then turns megavoltage HU into kilovoltage HU.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Hu

_itk: Any = SimpleITK  # it carries no types

_TV_ITERATIONS = 100
_TV_STEP = 0.125
"""One by the largest eigenvalue of the discrete Laplacian, 8."""
_KNOTS_HU = np.array(
    [-1100, -950, -800, -600, -400, -250, -150, -100, -60, -20, 20, 60, 100, 175, 300, 500, 800, 1300.0]
)
_LEAST_PER_KNOT = 30


def bilateral(hu_zyx: NDArray[Any], pixel_mm: float, sigma_mm: float, sigma_hu: float) -> Hu:
    """Mean weighted by distance and by difference of HU, each with a Gaussian of the SD given.

    References
    ----------
    Tomasi and Manduchi, ICCV 1998, doi 10.1109/ICCV.1998.710815
    """
    sigma_pixels = sigma_mm / pixel_mm
    planes = (_itk.GetImageFromArray(np.asarray(plane, np.float32)) for plane in hu_zyx)
    return np.stack([_itk.GetArrayFromImage(_itk.Bilateral(plane, sigma_pixels, sigma_hu)) for plane in planes])


def non_local_means(hu_zyx: NDArray[Any], strength_hu: float, reach_pixels: int = 4, patch_pixels: int = 3) -> Hu:
    """Mean over the pixels in reach, weighted by exp(-d^2 / h^2): d RMS difference of their patches, h strength.

    References
    ----------
    Buades, Coll and Morel, CVPR 2005, doi 10.1109/CVPR.2005.38
    """
    padded = np.pad(
        np.asarray(hu_zyx, np.float32), ((0, 0), (reach_pixels, reach_pixels), (reach_pixels, reach_pixels)), "reflect"
    )
    total, weights = padded.copy(), np.ones_like(padded)
    for row, column in _half_of_offsets(reach_pixels):
        shifted = np.roll(padded, (-row, -column), axis=(1, 2))
        square = ndimage.uniform_filter(np.square(padded - shifted), (1, patch_pixels, patch_pixels))
        weight = np.exp(-square / np.float32(strength_hu**2))
        # A pair weighs the same seen from either end.
        mirrored = np.roll(weight, (row, column), axis=(1, 2))
        total += weight * shifted + mirrored * np.roll(padded, (row, column), axis=(1, 2))
        weights += weight + mirrored
    inner = slice(reach_pixels, -reach_pixels)
    return np.asarray((total / weights)[:, inner, inner], np.float32)


def total_variation(hu_zyx: NDArray[Any], weight_hu: float) -> Hu:
    """Minimiser u of sum |grad u| + sum (u - f)^2 / (2 weight), by accelerated projection of the dual.

    References
    ----------
    Chambolle, J Math Imaging Vis 2004, doi 10.1023/B:JMIV.0000011325.36760.1e;
    acceleration: Beck and Teboulle, IEEE Trans Image Process 2009, doi 10.1109/TIP.2009.2028250
    """
    image = np.asarray(hu_zyx, np.float32)
    scaled = image / np.float32(weight_hu)
    dual = np.zeros((2, *image.shape), np.float32)
    ahead, momentum = dual, 1.0
    for _ in range(_TV_ITERATIONS):
        moved = ahead + np.float32(_TV_STEP) * _gradient(_divergence(ahead) - scaled)
        moved /= np.maximum(np.hypot(moved[0], moved[1]), 1.0)
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = moved + np.float32((momentum - 1.0) / following) * (moved - dual)
        dual, momentum = moved, following
    return np.asarray(image - np.float32(weight_hu) * _divergence(dual), np.float32)


@dataclass(frozen=True)
class HuCurve:
    """A rising curve from HU to HU, linear between its points; beyond them the difference stays."""

    from_hu: NDArray[np.float64]
    to_hu: NDArray[np.float64]

    @classmethod
    def fitted(cls, image_hu: NDArray[Any], truth_hu: NDArray[Any]) -> "HuCurve":
        """Medians of image and truth in bins of the image, made rising; 1-D arrays of the same voxels.

        The median of the truth at each HU is what makes the mean absolute error smallest.
        """
        bins = np.digitize(image_hu, _KNOTS_HU)
        members = [bins == index for index in np.unique(bins)]
        kept = [member for member in members if member.sum() >= _LEAST_PER_KNOT] or [np.ones(image_hu.shape, bool)]
        points = [(float(np.median(image_hu[member])), float(np.median(truth_hu[member]))) for member in kept]
        from_hu, to_hu = np.array(points).T
        return cls(from_hu, np.maximum.accumulate(to_hu))

    def __call__(self, hu: NDArray[Any]) -> Hu:
        """HU of any shape on the other scale."""
        below, above = (np.minimum(hu - self.from_hu[0], 0.0), np.maximum(hu - self.from_hu[-1], 0.0))
        return np.asarray(np.interp(hu, self.from_hu, self.to_hu) + below + above, np.float32)


def _half_of_offsets(reach: int) -> Iterator[tuple[int, int]]:
    """One of each pair of opposite offsets (row, column) in the square, without the middle."""
    yield from ((0, column) for column in range(1, reach + 1))
    yield from ((row, column) for row in range(1, reach + 1) for column in range(-reach, reach + 1))


def _gradient(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Forward differences along row and column, 0 at the end; (2, slice, row, column)."""
    gradient = np.zeros((2, *planes.shape), np.float32)
    gradient[0, :, :-1] = planes[:, 1:] - planes[:, :-1]
    gradient[1, :, :, :-1] = planes[:, :, 1:] - planes[:, :, :-1]
    return gradient


def _divergence(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Negative adjoint of `_gradient`."""
    row, column = field.copy()
    row[:, 1:] -= field[0, :, :-1]
    column[:, :, 1:] -= field[1, :, :, :-1]
    return np.asarray(row + column)
