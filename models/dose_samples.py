"""Dose inside a region, as samples that each stand for a volume: the base of every dose-volume measure.

Both the dose and the region are known on coarse grids, while dose falls by several percent per millimetre and an organ
may be a few voxels wide. So the voxels of the region are divided into smaller ones. Between its voxel centres the
occupancy of the region is interpolated, and the parts with the highest occupancy are taken until the volume of the
region is reached: its surface becomes smooth and its volume stays what it was. The dose is interpolated linearly at
the centre of each part.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask

FINEST_MM = 0.5
"""Voxels are divided until their parts are no longer than this, or there are MOST_PARTS."""
MOST_PARTS = 400_000
"""In the box around the region; a region of more voxels is not divided at all."""
EDGE_VOXELS = 0.5
"""How far beyond the outermost voxel centres a dose is known: to the faces of the voxels."""
_ROUNDING = 1e-6


class DoseRefused(Exception):
    """A dose or a region can not be measured; the message is one plain sentence."""


@dataclass(frozen=True)
class DoseGrid:
    """Dose with its place."""

    gy_zyx: NDArray[Any]
    """[slice, row, column], Gy."""
    affine: NDArray[np.float64]
    """4 x 4, (column, row, slice, 1) to (x, y, z, 1) in LPS mm; the centre of voxel (0, 0, 0) is its translation."""

    def indices_zyx(self, indices_zyx: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Indices of this grid for (3, n) indices of another, both slice, row, column with fractions."""
        matrix = np.linalg.inv(self.affine) @ affine
        # Both affines are for indices in the order column, row, slice.
        return np.asarray(matrix[2::-1, 2::-1] @ indices_zyx + matrix[2::-1, 3:])

    def at(self, indices_zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Dose in Gy at (3, n) indices, interpolated linearly; outside of the grid that of its nearest point."""
        return np.asarray(ndimage.map_coordinates(self.gy_zyx, indices_zyx, np.float64, order=1, mode="nearest"))

    def held(self, indices_zyx: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of (3, n) indices lie inside the grid, to the faces of its voxels."""
        beyond = EDGE_VOXELS + _ROUNDING
        last = np.array(self.gy_zyx.shape)[:, None] - 1.0
        return np.asarray(((indices_zyx >= -beyond) & (indices_zyx <= last + beyond)).all(axis=0))


@dataclass(frozen=True)
class Region:
    """A region on a grid of its own, which need not be that of the dose."""

    inside_zyx: NDArray[Any]
    """[slice, row, column]: a mask, or the part of each voxel that lies inside, 0 to 1."""
    affine: NDArray[np.float64]
    """As in `DoseGrid`."""

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0


@dataclass(frozen=True)
class DoseSamples:
    """Doses, and the volume that each stands for."""

    gy: NDArray[np.float64]
    """(n,), Gy."""
    ml: NDArray[np.float64]
    """(n,), mL, all above 0."""


def sampled(dose: DoseGrid, region: Region) -> DoseSamples:
    """The dose inside a region.

    Raises
    ------
    DoseRefused
        If the region has no voxel, has an occupancy that is no part of one, or is not wholly inside the dose grid.
    """
    occupancy, corner_zyx = _box(region)
    parts = _parts(occupancy.shape, np.linalg.norm(region.affine[:3, :3], axis=0)[::-1])
    weights = occupancy
    if max(parts) > 1:
        weights = _surface_smoothed(occupancy, parts)
    chosen = np.nonzero(weights)
    # The centre of part k of s along an axis lies at (k + 1/2) / s - 1/2 voxels.
    places = [(k + 0.5) / s - 0.5 + first for k, s, first in zip(chosen, parts, corner_zyx, strict=True)]
    indices_zyx = dose.indices_zyx(np.stack(places), region.affine)
    # A smoothed surface may leave the voxels of the region by a little; only these have to be inside.
    own = occupancy[tuple(k // s for k, s in zip(chosen, parts, strict=True))] > 0.0
    if not dose.held(indices_zyx[:, own]).all():
        raise DoseRefused("The region is not wholly inside the dose grid")
    ml = weights[chosen].astype(np.float64) * region.voxel_ml / float(np.prod(parts))
    return DoseSamples(dose.at(indices_zyx), ml)


def _box(region: Region) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Occupancy of the voxels around the region with a frame of empty ones, and the index of the first of them."""
    occupancy = region.inside_zyx.astype(np.float32)
    if not ((occupancy >= 0.0) & (occupancy <= 1.0)).all():
        raise DoseRefused("The region has voxels that are less than empty or more than full")
    found = ndimage.find_objects((occupancy > 0.0).astype(np.int8))
    if not found:
        raise DoseRefused("The region has no voxel")
    return np.pad(occupancy[found[0]], 1), tuple(side.start - 1 for side in found[0])


def _parts(shape: tuple[int, ...], spacing_zyx_mm: NDArray[np.float64]) -> list[int]:
    """Into how many parts a voxel is divided along each axis."""
    parts = [max(1, int(np.ceil(mm / FINEST_MM - _ROUNDING))) for mm in spacing_zyx_mm]
    while max(parts) > 1 and np.prod([float(n * s) for n, s in zip(shape, parts, strict=True)]) > MOST_PARTS:
        longest = min((axis for axis in range(3) if parts[axis] > 1), key=lambda a: spacing_zyx_mm[a] / parts[a])
        parts[longest] -= 1
    return parts


def _surface_smoothed(occupancy: NDArray[np.float32], parts: list[int]) -> NDArray[np.float32]:
    """Weight of every part, 0 to 1; together they have the volume of the region."""
    fine = occupancy
    for axis, count in enumerate(parts):
        fine = _divided(fine, axis, count)
    wanted = float(occupancy.sum(dtype=np.float64)) * float(np.prod(parts))
    level = _level(fine, wanted)
    above, equal = fine > level, fine == level
    # Parts of one occupancy, as a plane of a mask has many, share what is left.
    share = (wanted - float(above.sum())) / float(equal.sum())
    return np.asarray(above + equal * share, np.float32)


def _divided(array: NDArray[np.float32], axis: int, count: int) -> NDArray[np.float32]:
    """Each voxel in `count` parts along an axis, interpolated linearly between centres."""
    size = array.shape[axis]
    position = np.clip((np.arange(size * count) + 0.5) / count - 0.5, 0.0, size - 1.0)
    below = np.minimum(position.astype(np.int64), max(size - 2, 0))
    above = np.minimum(below + 1, size - 1)
    weight = (position - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.asarray(array.take(below, axis) * (1.0 - weight) + array.take(above, axis) * weight, np.float32)


def _level(fine: NDArray[np.float32], wanted: float) -> float:
    """The occupancy above which lie fewer parts than wanted, and with it at least as many."""
    values = fine[fine > 0.0]
    rank = len(values) - min(int(np.ceil(wanted)), len(values))
    return float(np.partition(values, rank)[rank])


def part_inside(mask: Mask, parts_zyx: tuple[int, int, int]) -> NDArray[np.float32]:
    """The part of each voxel that lies inside, from a mask on a grid finer by whole factors."""
    sizes = [n // s for n, s in zip(mask.shape, parts_zyx, strict=True)]
    blocks = mask.reshape([side for pair in zip(sizes, parts_zyx, strict=True) for side in pair])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))
