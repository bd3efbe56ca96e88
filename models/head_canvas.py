"""HU and labels of a head, painted part by part; what is painted later covers what was there."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.head_shapes import Part
from models.implicit_shapes import Coordinates, Field, Shape
from models.intensity import AIR_HU, Hu, Mask

_EDGE_SD_MM = 0.4
"""Blur of the imaging system, SD."""


class HeadCanvas:
    """An image in HU with the label of what lies in the middle of each voxel."""

    def __init__(self, at: Coordinates, pixel_mm: float) -> None:
        self.at = at
        self.hu: Hu = np.full(at[0].shape, AIR_HU, np.float32)
        self.labels: NDArray[np.uint8] = np.zeros(at[0].shape, np.uint8)
        self._edge_mm = np.float32(np.hypot(pixel_mm, 2.35 * _EDGE_SD_MM))

    def distance(self, shape: Shape) -> Field:
        """Of every voxel from the surface of a body, mm."""
        return shape(self.at)

    def fill(self, distance: Field, hu: float | Field, label: int | None = None) -> None:
        """Paint the inside; voxels at the edge take the part of it that they hold."""
        self._fill((slice(None),) * 3, distance, hu, label)

    def fill_voxels(self, inside: Mask, hu: float | Field, label: int) -> None:
        """Paint voxels, without soft edges."""
        self.hu[inside] = hu if isinstance(hu, float) else hu[inside]
        self.labels[inside] = label

    def paint(self, part: Part, hu: float | Field, label: int | None = None) -> None:
        """Paint a body that lies in its box."""
        region = self._region(part)
        if region is None:
            return
        z, y, x = self.at
        inside = hu if isinstance(hu, float) else np.asarray(hu)[region]
        self._fill(region, part.shape((z[region], y[region], x[region])), inside, label)

    def _fill(self, region: tuple[slice, ...], distance: Field, hu: float | Field, label: int | None) -> None:
        covered = np.clip(0.5 - distance / self._edge_mm, 0.0, 1.0)
        part = self.hu[region]
        part += covered * (np.asarray(hu, np.float32) - part)
        if label is not None:
            self.labels[region][distance < 0.0] = label

    def _region(self, part: Part) -> tuple[slice, ...] | None:
        low, high = part.box
        inside = np.ones(self.hu.shape, np.bool_)
        for axis, bottom, top in zip(self.at, low, high, strict=True):
            inside &= (axis >= bottom) & (axis <= top)
        return tuple(_extents(inside)) if inside.any() else None


def _extents(inside: Mask) -> Iterator[slice]:
    for axis in range(3):
        occupied = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        yield slice(max(0, int(occupied[0]) - 1), int(occupied[-1]) + 2)
