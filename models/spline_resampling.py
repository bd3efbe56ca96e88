"""Give a volume another number of voxels as networks trained elsewhere had it done.

References
----------
Isensee et al., Nat Methods 2021, doi 10.1038/s41592-020-01008-z, supplement (image resampling: a spline of third order;
of images whose coarsest spacing is more than three times the finest, in the planes only, and the nearest plane)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.imported import Resampling, SplineOrder
from models.intensity import Hu
from models.patches import Shape

_ANISOTROPIC = 3.0


def new_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float], how: Resampling
) -> Shape:
    """Voxels at another spacing, at least one along each axis."""
    rest = 1 if how.grid == "first_voxel" else 0
    first, second, third = (
        max(1, round(old / new * (n - rest) + rest))
        for n, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True)
    )
    return first, second, third


def resampled(
    volume: NDArray[Any],
    shape: Shape,
    spacing_mm: Sequence[float],
    new_spacing_mm: Sequence[float],
    how: Resampling,
) -> Hu:
    """A volume of three axes on the grid of that shape and spacing, float32; itself where the shape is the same."""
    if how.grid == "first_voxel":
        return _from_first_voxel(volume, shape, spacing_mm, new_spacing_mm, how.order)
    if volume.shape == shape:
        return volume.astype(np.float32, copy=False)
    axis = _axis_apart(spacing_mm, new_spacing_mm, how.slices_apart)
    values = volume.astype(np.float64)
    if axis is None:
        return _zoomed(values, shape, how.order).astype(np.float32)
    planes = np.moveaxis(values, axis, 0)
    plane_shape = tuple(n for number, n in enumerate(shape) if number != axis)
    in_plane = np.stack([_zoomed(plane, plane_shape, how.order) for plane in planes])
    between = _between_planes(in_plane, shape[axis], how.order_between_slices)
    return np.ascontiguousarray(np.moveaxis(between, 0, axis), np.float32)


def _axis_apart(
    spacing_mm: Sequence[float], new_spacing_mm: Sequence[float], slices_apart: bool | None
) -> int | None:  # fmt: skip
    """The axis that is resampled by itself, if one is."""
    if slices_apart is False:
        return None
    coarse = spacing_mm
    if slices_apart is None:
        anisotropic = [mm for mm in (spacing_mm, new_spacing_mm) if max(mm) / min(mm) > _ANISOTROPIC]
        if not anisotropic:
            return None
        coarse = anisotropic[0]
    axes = [axis for axis, mm in enumerate(coarse) if mm == max(coarse)]
    return axes[0] if len(axes) == 1 else None


def _zoomed(values: NDArray[np.float64], shape: Sequence[int], order: SplineOrder) -> NDArray[np.float64]:
    """The same field of view; a spline swings over, so nothing leaves the range of what was there."""
    if values.shape == tuple(shape):
        return values
    factors = [new / old for old, new in zip(values.shape, shape, strict=True)]
    zoomed = ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    return np.asarray(np.clip(zoomed, values.min(), values.max()))


def _between_planes(planes: NDArray[np.float64], count: int, order: SplineOrder) -> NDArray[np.float64]:
    """Another number of planes along axis 0."""
    scale = len(planes) / count
    if count == len(planes):
        return planes
    places = scale * (np.arange(count) + 0.5) - 0.5
    if order == 0:
        return np.asarray(planes[np.clip(np.floor(places + 0.5).astype(int), 0, len(planes) - 1)])
    shape, offset = (count, *planes.shape[1:]), np.array([places[0], 0.0, 0.0])
    return ndimage.affine_transform(
        planes, np.array([scale, 1.0, 1.0]), offset, output_shape=shape, order=order, mode="nearest"
    )


def _from_first_voxel(
    volume: NDArray[Any], shape: Shape, spacing_mm: Sequence[float], new_spacing_mm: Sequence[float], order: SplineOrder
) -> Hu:
    """The middle of the first voxel stays where it is; beyond the last one its value goes on."""
    scales = np.array([new / old for old, new in zip(spacing_mm, new_spacing_mm, strict=True)])
    values: Hu = volume.astype(np.float32)
    if volume.shape == shape and np.all(scales == 1.0):
        return values
    return ndimage.affine_transform(values, scales, output_shape=shape, order=order, mode="nearest")
