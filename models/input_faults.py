"""What is wrong with an input: noise, metal, a field of view that cuts the body off. Each grows as it gets worse."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask
from models.stability_measures import Spacing, pixel_noise_hu

_METAL_ABOVE_HU = 1800.0
_RIM_PIXELS = 2.0


def truncated_part(hu_zyx: NDArray[Any], body: Mask) -> float:
    """Part of the slices' outlines of the body that lie on the rim of the field of view, 0 to 1.

    The rim is the edge of the image, and the smallest circle about the middle that holds all that differs from the fill
    of the corners.
    """
    rows, columns = hu_zyx.shape[1:]
    y, x = np.ogrid[:rows, :columns]
    radii = np.hypot(y - (rows - 1) / 2.0, x - (columns - 1) / 2.0)
    edge = np.zeros((rows, columns), np.bool_)
    edge[[0, -1]], edge[:, [0, -1]] = True, True
    fill = hu_zyx[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    corner_fill = float(np.median(fill))
    differs = (np.abs(hu_zyx - corner_fill) > 1e-3) if np.all(fill == corner_fill) else None
    reach = radii.max() if differs is None or not differs.any() else radii[differs.any(axis=0)].max()
    rim = edge | (radii > reach - _RIM_PIXELS)
    outline = body & ~ndimage.binary_erosion(body, np.ones((1, 3, 3), np.bool_))
    total = int(outline.sum())
    return float((outline & rim).sum()) / total if total else 0.0


def metal_part(hu_zyx: NDArray[Any], body: Mask) -> float:
    """Part of the body above 1800 HU, denser than any bone at megavoltage."""
    return float((hu_zyx[body] > _METAL_ABOVE_HU).mean()) if body.any() else 0.0


def metal_ml(hu_zyx: NDArray[Any], body: Mask, spacing_zyx_mm: Spacing) -> float:
    """Volume in the body above 1800 HU, mL."""
    return float((hu_zyx[body] > _METAL_ABOVE_HU).sum() * np.prod(spacing_zyx_mm) / 1000.0)


def soft_tissue_noise_hu(hu_zyx: NDArray[Any], body: Mask) -> float:
    """SD of the noise from pixel to pixel in soft tissue, HU; 0 where there is none."""
    return pixel_noise_hu(hu_zyx, hu_zyx, body) if hu_zyx.shape[2] > 2 else 0.0
