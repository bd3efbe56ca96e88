"""The part of an image that features are computed from, on the grid that the settings ask for.

References
----------
IBSI reference manual, arXiv 1612.07003, section 2.4: the centres of both grids agree, the new one covers the old one
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.feature_settings import FeatureSettings

SPLINE_REACH = 12
"""Voxels beyond which a cubic spline does not feel that the image was cut: its poles leave less than 1e-6 there."""
SAME_SPACING_MM = 1e-3
"""Sides of voxels that differ less are equal; headers round them."""
_SPLINE_ORDERS: dict[str, Literal[0, 1, 3]] = {"nearest": 0, "linear": 1, "cubic": 3}
_ROUNDING_DIGITS = 6


class FeatureError(Exception):
    """The features of a region can not be computed; the message is one plain sentence."""


@dataclass(frozen=True)
class Region:
    """A cut-out of the image and the region in it."""

    image_zyx: NDArray[np.float64]
    mask_zyx: NDArray[np.bool_]
    spacing_zyx_mm: tuple[float, float, float]


@dataclass(frozen=True)
class _Axis:
    """One axis of the new grid, counted in voxels of the old one."""

    origin: float
    step: float
    first: int
    """Of the new voxels that are kept."""
    count: int

    @property
    def start(self) -> float:
        return self.origin + self.first * self.step

    def source(self, voxels: int) -> slice:
        """Old voxels that the kept new ones are interpolated from."""
        end = self.start + (self.count - 1) * self.step
        return slice(max(0, int(self.start) - SPLINE_REACH), min(voxels, int(np.ceil(end)) + SPLINE_REACH + 1))


def region_of(
    image_zyx: NDArray[Any],
    mask_zyx: NDArray[np.bool_],
    spacing_zyx_mm: tuple[float, float, float],
    settings: FeatureSettings,
) -> Region:
    """Cut the region with its margin out of the image, and resample both as the settings say.

    The grid is that of the whole image, so that the values do not depend on where the cut runs.

    Raises
    ------
    FeatureError
        If mask and image are of different shapes, the region is empty, the image is not finite within the cut, or its
        voxels are not as long as wide where there is a filter.
    """
    if image_zyx.ndim != 3 or image_zyx.shape != mask_zyx.shape:
        raise FeatureError(f"The region is on a grid of {mask_zyx.shape}, the image on one of {image_zyx.shape}")
    if not mask_zyx.any():
        raise FeatureError("The region has no voxel on the image")
    new_spacing = _new_spacing(spacing_zyx_mm, settings)
    if settings.filter is not None and not _is_isotropic(new_spacing, settings.dimensions):
        raise FeatureError("A filter needs voxels that are as long as wide: set a resampling")
    axes = [
        _axis(_occupied(mask_zyx, axis), spacing_zyx_mm[axis], new_spacing[axis], settings.margin_mm)
        for axis in range(3)
    ]
    cut = tuple(axis.source(n) for axis, n in zip(axes, mask_zyx.shape, strict=True))
    image, mask = image_zyx[cut].astype(np.float64), mask_zyx[cut]
    if not np.isfinite(image).all():
        raise FeatureError("The image has values that are not finite")
    order = _SPLINE_ORDERS[settings.resampling.interpolation] if settings.resampling else 0
    starts = [axis.start - part.start for axis, part in zip(axes, cut, strict=True)]
    values = _sampled(image, axes, starts, order, "nearest")
    inside = np.round(_sampled(mask.astype(np.float64), axes, starts, 1, "constant"), _ROUNDING_DIGITS)
    if settings.intensities == "HU":
        values = np.round(values)
    return Region(values, inside >= 0.5, new_spacing)


def _new_spacing(
    spacing_zyx_mm: tuple[float, float, float], settings: FeatureSettings
) -> tuple[float, float, float]:  # fmt: skip
    if settings.resampling is None:
        return spacing_zyx_mm
    new = settings.resampling.spacing_mm
    return (new if settings.dimensions == "3D" else spacing_zyx_mm[0]), new, new


def _is_isotropic(spacing_zyx_mm: tuple[float, float, float], dimensions: str) -> bool:
    sides = spacing_zyx_mm if dimensions == "3D" else spacing_zyx_mm[1:]
    return max(sides) - min(sides) <= SAME_SPACING_MM


def _occupied(mask_zyx: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Which planes across an axis have a voxel of the region."""
    return np.asarray(mask_zyx.any(axis=tuple({0, 1, 2} - {axis})))


def _axis(occupied: NDArray[np.bool_], spacing_mm: float, new_mm: float, margin_mm: float) -> _Axis:
    step, voxels = new_mm / spacing_mm, len(occupied)
    count = int(np.ceil(np.round(voxels / step, _ROUNDING_DIGITS)))
    origin = 0.5 * (voxels - 1) - 0.5 * (count - 1) * step
    low, high = np.flatnonzero(occupied)[[0, -1]]
    # Interpolation may carry the region one old voxel further.
    first = int(np.floor((low - 1 - margin_mm / spacing_mm - origin) / step))
    last = int(np.ceil((high + 1 + margin_mm / spacing_mm - origin) / step))
    first, last = max(0, first), min(count - 1, last)
    return _Axis(origin, step, first, last - first + 1)


def _sampled(
    values: NDArray[np.float64],
    axes: list[_Axis],
    starts: list[float],
    order: Literal[0, 1, 3],
    mode: Literal["nearest", "constant"],
) -> NDArray[np.float64]:
    if all(axis.step == 1.0 for axis in axes):
        part = tuple(slice(round(start), round(start) + axis.count) for start, axis in zip(starts, axes, strict=True))
        return values[part]
    steps, shape = [axis.step for axis in axes], tuple(axis.count for axis in axes)
    return np.asarray(ndimage.affine_transform(values, steps, starts, shape, order=order, mode=mode), np.float64)
