"""Image quality against a known truth, inside the body.

Definitions follow the SynthRAD challenges in behaviour: only voxels of the body count, and the peak of PSNR and SSIM is
the range -1024 to 3000 HU unless said otherwise (Huijben et al., Med Image Anal 2024, doi 10.1016/j.media.2024.103276).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask

RANGE_HU = (-1024.0, 3000.0)
_SSIM_WINDOW = 7
_K1, _K2 = 0.01, 0.03
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""From fine to coarse; Wang et al. 2003."""


def mae_hu(image: NDArray[Any], truth: NDArray[Any], mask: Mask) -> float:
    """Mean absolute error inside the mask, HU.

    Raises
    ------
    ValueError
        If the mask is empty; this holds for every measure here.
    """
    return float(np.abs(_inside(image, mask) - _inside(truth, mask)).mean())


def psnr_db(image: NDArray[Any], truth: NDArray[Any], mask: Mask, range_hu: tuple[float, float] = RANGE_HU) -> float:
    """Peak signal-to-noise ratio inside the mask, 10 log10(peak^2 / MSE), dB; infinite for equal images."""
    clipped = (np.clip(_inside(array, mask), *range_hu) for array in (image, truth))
    mean_square = float(np.square(np.subtract(*clipped)).mean())
    peak = range_hu[1] - range_hu[0]
    return float("inf") if mean_square == 0.0 else 10.0 * float(np.log10(peak**2 / mean_square))


def ssim(
    image_zyx: NDArray[Any], truth_zyx: NDArray[Any], mask: Mask, range_hu: tuple[float, float] = RANGE_HU
) -> float:
    """Mean structural similarity inside the mask, from uniform windows of 7 x 7 pixels in each slice.

    Windows are centred on voxels of the mask and may reach beyond it. HU are counted from the lower end of the range:
    the luminance is made for values that are not negative, and would call two means on both sides of 0 HU opposites.

    References
    ----------
    Wang et al., IEEE Trans Image Process 2004, doi 10.1109/TIP.2003.819861
    """
    if not mask.any():
        raise ValueError("the mask is empty")
    x, y = (_from_zero(array, range_hu) for array in (image_zyx, truth_zyx))
    luminance, structure = _similarity(x, y, range_hu[1] - range_hu[0])
    return float((luminance * structure)[mask].mean())


def ms_ssim(
    image_zyx: NDArray[Any], truth_zyx: NDArray[Any], mask: Mask, range_hu: tuple[float, float] = RANGE_HU
) -> float:
    """Multi-scale structural similarity inside the mask: l_M^w_M times the product over scales j of (cs_j)^w_j.

    cs_j is the mean of contrast and structure inside the mask at scale j, l_M the mean luminance at the coarsest; a
    negative mean counts as 0. Windows are those of `ssim`. From scale to scale slices are averaged over 2 x 2 pixels,
    and a coarse pixel belongs to the mask if half of its pixels do.

    There are five scales, or as many as leave the slice, and the mask, at least one window; the weights of the scales
    left are then divided by their sum.

    References
    ----------
    Wang, Simoncelli and Bovik, Asilomar 2003, doi 10.1109/ACSSC.2003.1292216
    """
    if not mask.any():
        raise ValueError("the mask is empty")
    x, y = (_from_zero(array, range_hu) for array in (image_zyx, truth_zyx))
    luminance, structures = 1.0, []
    for _ in _SCALE_WEIGHTS:
        luminances, structure = _similarity(x, y, range_hu[1] - range_hu[0])
        luminance = max(0.0, float(luminances[mask].mean()))
        structures.append(max(0.0, float(structure[mask].mean())))
        halved = _halved(mask.astype(np.float64)) >= 0.5
        if min(halved.shape[1:]) < _SSIM_WINDOW or not halved.any():
            break
        x, y, mask = _halved(x), _halved(y), halved
    weights = np.array(_SCALE_WEIGHTS[: len(structures)]) / sum(_SCALE_WEIGHTS[: len(structures)])
    return float(luminance ** weights[-1] * np.prod(np.power(structures, weights)))


def _similarity(
    x: NDArray[np.float64], y: NDArray[np.float64], peak: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Luminance, and contrast times structure, of the window about every pixel; each [slice, row, column]."""
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    # Sample (co)variance, n / (n - 1), as in the reference.
    unbiased = _SSIM_WINDOW**2 / (_SSIM_WINDOW**2 - 1.0)
    variance_x, variance_y = (unbiased * (_local_mean(a * a) - mean * mean) for a, mean in ((x, mean_x), (y, mean_y)))
    covariance = unbiased * (_local_mean(x * y) - mean_x * mean_y)
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2.0 * covariance + c2) / (variance_x + variance_y + c2)


def _from_zero(array: NDArray[Any], range_hu: tuple[float, float]) -> NDArray[np.float64]:
    return np.asarray(np.clip(array, *range_hu), np.float64) - range_hu[0]


def _inside(array: NDArray[Any], mask: Mask) -> NDArray[np.float64]:
    if not mask.any():
        raise ValueError("the mask is empty")
    return np.asarray(array[mask], np.float64)


def _local_mean(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the window in each slice; [slice, row, column]."""
    return np.asarray(ndimage.uniform_filter(volume, (1, _SSIM_WINDOW, _SSIM_WINDOW), mode="reflect"))


def _halved(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over 2 x 2 pixels of each slice; an odd last row or column is left out."""
    rows, columns = (n // 2 * 2 for n in volume.shape[1:])
    even = volume[:, :rows, :columns]
    return np.asarray(even.reshape(len(volume), rows // 2, 2, columns // 2, 2).mean(axis=(2, 4)))
