"""CT and MR painted together, body by body, on the voxels of an image, in the coordinates of the patient."""

from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.implicit_shapes import Coordinates, Field, Point, Shape
from models.intensity import AIR_HU, Hu

Box: TypeAlias = tuple[Point, Point]
"""Lowest and highest corner in the coordinates of the patient, mm."""
Region: TypeAlias = tuple[slice, slice, slice]

_EDGE_SD_MM = 0.4
"""Blur of the imaging system, SD."""
_SHEAR_MM = 2.0
_BOX_MARGIN_MM = 3.0 + 2 * _SHEAR_MM


@dataclass(frozen=True)
class Pose:
    """How a patient lies in the image, and bends: a shift, a rotation, and shears that keep every volume."""

    rotation: NDArray[np.float64]
    """From the image to the patient; (3, 3), axes z y x."""
    shift_mm: Point
    """Where the patient's origin lies, from the middle of the image."""
    wavelengths_mm: tuple[float, float, float]
    phases: tuple[float, float, float]

    def coordinates(self, shape_zyx: tuple[int, int, int], spacing_zyx_mm: Point) -> Coordinates:
        """Patient coordinates of every voxel; three dense arrays."""
        axes = [
            ((np.arange(n) - (n - 1) / 2.0) * mm - shift).astype(np.float32)
            for n, mm, shift in zip(shape_zyx, spacing_zyx_mm, self.shift_mm, strict=True)
        ]
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        r = self.rotation.astype(np.float32)
        up, back, left = (r[i, 0] * z + r[i, 1] * y + r[i, 2] * x for i in range(3))
        # Each step moves one axis by a wave along another, so that no volume changes.
        left = left + self._wave(0, up)
        back = back + self._wave(1, left)
        up = up + self._wave(2, back)
        return up, back, left

    def _wave(self, number: int, along: Field) -> Field:
        turns = along * np.float32(2 * np.pi / self.wavelengths_mm[number])
        return np.asarray(np.float32(_SHEAR_MM) * np.sin(turns + np.float32(self.phases[number])), np.float32)


class Canvas:
    """A CT in HU and an MR without unit; what is painted later covers what was there."""

    def __init__(self, shape_zyx: tuple[int, int, int], spacing_zyx_mm: Point, pose: Pose) -> None:
        self.hu: Hu = np.full(shape_zyx, AIR_HU, np.float32)
        self.mr: Hu = np.zeros(shape_zyx, np.float32)
        self.at = pose.coordinates(shape_zyx, spacing_zyx_mm)
        self._pose, self._spacing_mm = pose, np.array(spacing_zyx_mm)
        # A voxel is a box and the system blurs: the edge is a ramp of about this width.
        self._edge_mm = float(np.hypot(self._spacing_mm.mean(), 2.35 * _EDGE_SD_MM))

    def region(self, box: Box) -> Region:
        """Voxels that hold a box of the patient; empty where it lies outside the image."""
        corners = np.array(list(product(*zip(*box, strict=True))))
        placed = corners @ self._pose.rotation + np.array(self._pose.shift_mm)
        middle = (np.array(self.hu.shape) - 1) / 2.0
        low = np.floor((placed.min(axis=0) - _BOX_MARGIN_MM) / self._spacing_mm + middle).astype(int)
        high = np.ceil((placed.max(axis=0) + _BOX_MARGIN_MM) / self._spacing_mm + middle).astype(int) + 1
        z, y, x = (
            slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n)))
            for a, b, n in zip(low, high, self.hu.shape, strict=True)
        )
        return z, y, x

    def distance(self, shape: Shape, region: Region) -> Field:
        """Of the voxels of a region from the surface of a body, mm."""
        z, y, x = self.at
        if any(part.start >= part.stop for part in region):
            return np.zeros([max(0, part.stop - part.start) for part in region], np.float32)
        return shape((z[region], y[region], x[region]))

    def fill(self, region: Region, distance: Field, hu: float | Field, mr: float | Field) -> None:
        """Paint the inside; voxels at the edge take the part of it that they hold."""
        covered = np.clip(0.5 - distance / np.float32(self._edge_mm), 0.0, 1.0)
        for image, value in ((self.hu, hu), (self.mr, mr)):
            part = image[region]
            part += covered * (np.asarray(value, np.float32) - part)

    def paint(self, shape: Shape, box: Box, hu: float, mr: float) -> None:
        """Paint a body of one tissue that lies inside a box."""
        region = self.region(box)
        self.fill(region, self.distance(shape, region), hu, mr)
