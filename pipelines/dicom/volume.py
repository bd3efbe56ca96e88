"""A regular volume: values, and the affine that carries (column, row, slice) to mm in the patient's LPS frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.dicom.stack import Plane, distances_mm, normal

AFFINE_TOLERANCE_MM = 1e-3
"""Grids whose voxels are nowhere further apart than this are the same grid."""
DEFAULT_THICKNESS_MM = 1.0
"""Distance to a next slice that does not exist, where one slice alone does not state its thickness."""

OBLIQUITY_IGNORED_DEG = 1.0
"""Slices within this of the axial plane count as axial; couches and gantries are no straighter."""


@dataclass(frozen=True)
class Volume:
    """Voxel values with their place in the patient.

    References
    ----------
    PS3.3 C.7.6.2.1.1, Equation C.7.6.2.1-1
    """

    array_zyx: NDArray[Any]
    """Indexed [slice, row, column]; slices ascend along row direction x column direction."""
    affine: NDArray[np.float64]
    """4 x 4, (column, row, slice, 1) to (x, y, z, 1) in LPS mm; the centre of voxel (0, 0, 0) is its translation."""

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Distances of voxel centres between slices, rows and columns."""
        column, row, slice_ = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slice_), float(row), float(column)

    @property
    def image_orientation_patient(self) -> tuple[float, ...]:
        """Direction cosines of a row, then of a column (PS3.3 C.7.6.2.1.1)."""
        directions = self.affine[:3, :2] / np.linalg.norm(self.affine[:3, :2], axis=0)
        return tuple(float(cosine) for cosine in directions.T.ravel())

    def with_array(self, array_zyx: NDArray[Any]) -> "Volume":
        """Other values on the same grid.

        Raises
        ------
        ValueError
            If the shape differs.
        """
        if array_zyx.shape != self.array_zyx.shape:
            raise ValueError(f"an array of shape {array_zyx.shape} does not fit a grid of {self.array_zyx.shape}")
        return replace(self, array_zyx=array_zyx)

    def points_lps(self, indices_xyz: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Where voxel indices lie: (n, 3) of column, row, slice to (n, 3) in LPS mm."""
        return np.asarray(indices_xyz @ self.affine[:3, :3].T + self.affine[:3, 3], dtype=np.float64)

    def indices_xyz(self, points_lps: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Which voxel indices points have: (n, 3) in LPS mm to (n, 3) of column, row, slice, with fractions."""
        return np.asarray(np.linalg.solve(self.affine[:3, :3], (points_lps - self.affine[:3, 3]).T).T, dtype=np.float64)

    def same_grid(self, other: "Volume") -> bool:
        """Whether both have the same voxels, to AFFINE_TOLERANCE_MM at the corners."""
        if self.array_zyx.shape != other.array_zyx.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, size - 1) for size in self.array_zyx.shape[::-1]])).reshape(3, -1).T
        return bool(np.abs(self.points_lps(corners) - other.points_lps(corners)).max() <= AFFINE_TOLERANCE_MM)


def affine_of(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """The affine of parallel, evenly spaced planes that ascend along their normal.

    References
    ----------
    PS3.3 Equation C.7.6.2.1-1; the third column is the step between slices, which the equation leaves zero.
    """
    first = planes[0]
    row_spacing, column_spacing = first.pixel_spacing
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.image_orientation_patient[:3]) * column_spacing
    affine[:3, 1] = np.array(first.image_orientation_patient[3:]) * row_spacing
    affine[:3, 2] = normal(first) * _step_mm(planes)
    affine[:3, 3] = first.image_position_patient
    return affine


def _step_mm(planes: Sequence[Plane]) -> float:
    if len(planes) > 1:
        distances = distances_mm(planes)
        return float(distances[-1] - distances[0]) / (len(planes) - 1)
    thickness = planes[0].slice_thickness
    return thickness if thickness is not None and thickness > 0 else DEFAULT_THICKNESS_MM


@dataclass(frozen=True)
class AxisOrder:
    """How the axes of an array have to be swapped and reversed to run to the patient's head, back and left."""

    axes: tuple[int, ...]
    reversed_axes: tuple[int, ...]

    def spacing_zyx_mm(self, volume: Volume) -> tuple[float, float, float]:
        """Spacing of the canonical array of a volume."""
        slice_mm, row_mm, column_mm = (volume.spacing_zyx_mm[axis] for axis in self.axes)
        return slice_mm, row_mm, column_mm

    def canonical(self, array_zyx: NDArray[Any]) -> NDArray[Any]:
        """The array as [slice to the head, row to posterior, column to the patient's left]."""
        return np.flip(array_zyx.transpose(self.axes), self.reversed_axes)

    def original(self, canonical_zyx: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `canonical`."""
        return np.flip(canonical_zyx, self.reversed_axes).transpose(np.argsort(self.axes))


def obliquity_deg(volume: Volume) -> float:
    """Largest angle between an axis of the grid and the patient axis nearest to it."""
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0), 0.0, 1.0))).max())


def axis_order(volume: Volume) -> AxisOrder:
    """The order nearest to the patient's axes; models are trained on canonical arrays, scanners deliver any.

    A prone, feet-first, sagittal or coronal series becomes what the same anatomy looks like when supine; an oblique
    one is left at its angle, only swapped and reversed to the nearest axes.
    """
    # Index axes (z, y, x) against patient axes (z to head, y to posterior, x to left).
    directions = volume.affine[:3, :3][::-1, ::-1] / np.array(volume.spacing_zyx_mm)
    axes: list[int] = []
    for weights in np.abs(directions):
        free = [axis for axis in range(3) if axis not in axes]
        axes.append(max(free, key=lambda axis, weights=weights: weights[axis]))  # type: ignore[misc]
    reversed_axes = tuple(patient for patient, axis in enumerate(axes) if directions[patient, axis] < 0)
    return AxisOrder(tuple(axes), reversed_axes)
