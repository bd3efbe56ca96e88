"""How well a predicted organ matches the true one: overlap, distances between surfaces, volume.

Surfaces follow Nikolov et al. in behaviour: they run through the corners that eight voxels share, wherever those eight
are not all inside or all outside, and each such corner counts with the area of surface that it stands for. So a
measure does not depend on whether voxels are cubes or flat boxes, as a count of surface voxels would. The area is that
of the mean gradient of the mask between the eight voxels: exact for faces along the axes and for their diagonals, 5 %
too large for a sphere.

Conventions where a mask is empty: both empty, there is nothing to measure and every measure is NaN; one of them empty,
the overlaps are 0, the distances infinite, and the volume error is -100 % or infinite.

References
----------
Nikolov et al., arXiv 1809.04430 and J Med Internet Res 2021, doi 10.2196/26151 (surface Dice at a tolerance, robust
Hausdorff distance); Dice, Ecology 1945, doi 10.2307/1932409; Taha and Hanbury, BMC Med Imaging 2015,
doi 10.1186/s12880-015-0068-x (definitions side by side)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask

Spacing: TypeAlias = tuple[float, float, float]
"""Distance of voxel centres along slice, row and column index, mm."""

TOLERANCE_MM = 2.0
"""What a surface may be off by in `OrganMeasures`, unless said otherwise."""
_HAUSDORFF_PERCENTILE = 95.0


@dataclass(frozen=True)
class OrganMeasures:
    """Measures of one organ of one patient; conventions for empty masks as in the module."""

    dice: float
    surface_dice: float
    hd95_mm: float
    mean_surface_distance_mm: float
    volume_error_percent: float
    """Above 0 where the prediction is larger."""
    predicted_ml: float
    true_ml: float


def organ_measures(
    predicted: Mask, truth: Mask, spacing_zyx_mm: Spacing, tolerance_mm: float = TOLERANCE_MM
) -> OrganMeasures:
    """All measures of one organ; masks [slice, row, column] on the same grid.

    Raises
    ------
    ValueError
        If the masks have different shapes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"the masks have the shapes {predicted.shape} and {truth.shape}")
    distances = SurfaceDistances.between(predicted, truth, spacing_zyx_mm)
    return OrganMeasures(
        dice=dice(predicted, truth),
        surface_dice=distances.surface_dice(tolerance_mm),
        hd95_mm=distances.hausdorff_mm(_HAUSDORFF_PERCENTILE),
        mean_surface_distance_mm=distances.mean_mm(),
        volume_error_percent=volume_error_percent(predicted, truth),
        predicted_ml=volume_ml(predicted, spacing_zyx_mm),
        true_ml=volume_ml(truth, spacing_zyx_mm),
    )


def measures_by_organ(
    predicted: Mapping[str, Mask],
    truth: Mapping[str, Mask],
    spacing_zyx_mm: Spacing,
    tolerance_mm: float = TOLERANCE_MM,
) -> dict[str, OrganMeasures]:
    """Measures of every organ that has a truth, by its name; one that was not predicted counts as an empty mask."""
    return {
        name: organ_measures(predicted.get(name, np.zeros_like(mask)), mask, spacing_zyx_mm, tolerance_mm)
        for name, mask in truth.items()
    }


def dice(predicted: Mask, truth: Mask) -> float:
    """2 |A and B| / (|A| + |B|)."""
    together = int(predicted.sum()) + int(truth.sum())
    return 2.0 * int((predicted & truth).sum()) / together if together else float("nan")


def volume_ml(mask: Mask, spacing_zyx_mm: Spacing) -> float:
    """Number of voxels times their volume."""
    return float(mask.sum()) * float(np.prod(spacing_zyx_mm)) / 1000.0


def volume_error_percent(predicted: Mask, truth: Mask) -> float:
    """100 (|A| - |B|) / |B|, with B the truth."""
    found, expected = int(predicted.sum()), int(truth.sum())
    if not expected:
        return float("inf") if found else float("nan")
    return 100.0 * (found - expected) / expected


@dataclass(frozen=True)
class _Surface:
    """Corners of a surface and how far each is from the other one."""

    distances_mm: NDArray[np.float64]
    areas_mm2: NDArray[np.float64]

    def percentile_mm(self, percent: float) -> float:
        """The distance within which `percent` of the area lies."""
        order = np.argsort(self.distances_mm)
        reached = np.cumsum(self.areas_mm2[order])
        # The last corner may lack a rounding error to the whole area.
        at = min(int(np.searchsorted(reached, percent / 100.0 * reached[-1])), len(order) - 1)
        return float(self.distances_mm[order[at]])


@dataclass(frozen=True)
class SurfaceDistances:
    """The distances from the surface of each mask to that of the other."""

    predicted: _Surface | None
    """None where the mask is empty."""
    truth: _Surface | None

    @classmethod
    def between(cls, predicted: Mask, truth: Mask, spacing_zyx_mm: Spacing) -> "SurfaceDistances":
        """Measure the distances; masks [slice, row, column] on the same grid."""
        box = _box(predicted | truth)
        areas = [_corner_areas_mm2(mask[box], spacing_zyx_mm) if mask.any() else None for mask in (predicted, truth)]
        return cls(_to_other(areas[0], areas[1], spacing_zyx_mm), _to_other(areas[1], areas[0], spacing_zyx_mm))

    def surface_dice(self, tolerance_mm: float) -> float:
        """Part of both surfaces that lies within the tolerance of the other one.

        References
        ----------
        Nikolov et al., arXiv 1809.04430, equation of the surface DSC
        """
        if self.predicted is None or self.truth is None:
            return self._of_empty(0.0)
        both = (self.predicted, self.truth)
        within = sum(float(one.areas_mm2[one.distances_mm <= tolerance_mm].sum()) for one in both)
        return within / sum(float(one.areas_mm2.sum()) for one in both)

    def hausdorff_mm(self, percent: float) -> float:
        """The larger of the two distances within which `percent` of one surface lies from the other; 100: Hausdorff."""
        if self.predicted is None or self.truth is None:
            return self._of_empty(float("inf"))
        return max(self.predicted.percentile_mm(percent), self.truth.percentile_mm(percent))

    def mean_mm(self) -> float:
        """Mean distance over the area of both surfaces together."""
        if self.predicted is None or self.truth is None:
            return self._of_empty(float("inf"))
        both = (self.predicted, self.truth)
        total = sum(float((one.distances_mm * one.areas_mm2).sum()) for one in both)
        return total / sum(float(one.areas_mm2.sum()) for one in both)

    def _of_empty(self, worst: float) -> float:
        return float("nan") if self.predicted is None and self.truth is None else worst


def _box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around the mask; the whole where it is empty."""
    found = ndimage.find_objects(mask.astype(np.int8))
    return found[0] if found else (slice(None),) * mask.ndim


def _corner_areas_mm2(mask: Mask, spacing_zyx_mm: Spacing) -> NDArray[np.float64]:
    """Area of surface at every corner of the voxels, one more than voxels along each axis; 0 away from the surface.

    Outside the array nothing belongs to the organ, so a mask that ends with the image is closed there.
    """
    inside = np.pad(mask, 1).astype(np.float64)
    squares = np.zeros([n + 1 for n in mask.shape])
    for axis, mm in enumerate(spacing_zyx_mm):
        gradient = np.diff(inside, axis=axis)
        for other in (other for other in range(3) if other != axis):
            gradient = (_without_first(gradient, other) + _without_last(gradient, other)) / 2.0
        squares += (gradient / mm) ** 2
    areas = np.sqrt(squares) * float(np.prod(spacing_zyx_mm))
    # Two voxels that touch in one corner have opposite gradients; their surface is there all the same.
    return np.where(_is_mixed(inside), np.maximum(areas, np.finfo(np.float64).tiny), 0.0)


def _is_mixed(inside: NDArray[np.float64]) -> Mask:
    """Whether the eight voxels about a corner are neither all inside nor all outside."""
    counts = np.zeros([n - 1 for n in inside.shape])
    for steps in product((0, 1), repeat=3):
        counts += inside[tuple(slice(s, n - 1 + s) for s, n in zip(steps, inside.shape, strict=True))]
    return np.asarray((counts > 0.0) & (counts < 8.0))


def _to_other(
    areas_mm2: NDArray[np.float64] | None, other_areas_mm2: NDArray[np.float64] | None, spacing_zyx_mm: Spacing
) -> _Surface | None:
    """The surface, with the distance of each corner to the nearest one of the other surface."""
    if areas_mm2 is None:
        return None
    is_surface = areas_mm2 > 0.0
    if other_areas_mm2 is None:
        return _Surface(np.full(int(is_surface.sum()), np.inf), areas_mm2[is_surface])
    distances = ndimage.distance_transform_edt(other_areas_mm2 == 0.0, sampling=spacing_zyx_mm)
    return _Surface(np.asarray(distances[is_surface], np.float64), areas_mm2[is_surface])


def _without_first(array: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.take(array, range(1, array.shape[axis]), axis=axis)


def _without_last(array: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.take(array, range(array.shape[axis] - 1), axis=axis)
