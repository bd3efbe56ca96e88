"""Projections as slices: which rays measured which slice, and where the slices lie in the patient.

Two kinds of scan are stacks of slices of which each is a two-dimensional problem by itself: parallel rays, where every
detector row measures a slice, and a fan with one row whose table stands still during a turn. Helical scans, several
rows of a diverging beam and flying focal spots are neither, and are refused.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.iterative import Rays
from models.scan_geometry import FanBeam, Floats, ImageGrid, ScanGeometry
from pipelines.base import InputRejected
from pipelines.dicom.elements import number
from pipelines.dicom.gantry import directions_lps
from pipelines.dicom.projection_views import Beam, DetectorShape
from pipelines.dicom.projections import MISSING_SHARE, ProjectionGeometry, Projections

_SAME_POSITION_MM = 0.01
_SAME_ANGLE_RAD = 1e-4
"""Turns whose views lie nearer than this are measured by the same rays: 0.03 mm at the edge of a patient."""
_UNEVEN = 0.02
"""Part of the slice distance that positions may be off."""
_LEAST_ARC_RAD = np.pi
_FEWEST_VIEWS = 8
"""Of a slice; of fewer no image can be made, and a scan that is helical without saying so has one at each place."""
_LEAST_TILT_DEGREES = 0.05
"""Of the gantry; less moves the edge of a patient by 0.2 mm."""
_SMALLEST_DIAMETER_MM = 20.0


@dataclass(frozen=True)
class MeasuredTurns:
    """Slices that were measured by the same rays."""

    geometry: ScanGeometry
    line_integrals: Rays
    """[slice, view, detector]."""
    photons: NDArray[np.float32] | None
    """Incident on each element, of the same shape; None if not stated."""
    slices: tuple[int, ...]
    """Their numbers in the stack."""
    views: tuple[tuple[int, ...], ...]
    """Of each slice, the numbers of its views in the series."""


@dataclass(frozen=True)
class ScanStack:
    """One scan as slices, in the frame of the gantry, from the table inwards."""

    turns: tuple[MeasuredTurns, ...]
    grid: ImageGrid
    affine: NDArray[np.float64]
    """4 x 4, (column, row, slice, 1) to LPS mm, as of `dicom.volume.Volume`."""
    slice_mm: float
    covered_mm: float
    """Radius of the circle that every view covers."""

    def __len__(self) -> int:
        """Number of slices."""
        return sum(len(turn.slices) for turn in self.turns)

    def covered(self) -> NDArray[np.bool_]:
        """Pixels that every view covers: (row, column)."""
        y, x = self.grid.row_positions_mm(), self.grid.column_positions_mm()
        return np.asarray(np.hypot(y[:, None], x) <= self.covered_mm)


def scan_stack(projections: Projections, matrix: int) -> ScanStack:
    """Slices of `matrix` x `matrix` pixels over the Reconstruction Diameter, else over all that every view covers.

    Raises
    ------
    InputRejected
        If the scan is no stack of slices (see above), slices are not equally spaced, a slice has fewer than 95 % of the
        views of the others, fewer than 8 or less than half a turn, as many views are missing as a slice at an end has,
        or it is not said how the patient lies. A slice at an end that nothing announces can not be missed.
    """
    geometry = projections.geometry
    _check_kind(projections)
    positions_mm, stacked = _parallel_slices(projections) if _is_parallel(geometry) else _fan_slices(projections)
    slice_mm = _slice_mm(positions_mm, projections)
    covered_mm = _covered_mm(geometry, projections.line_integrals.shape[2])
    diameter_mm = number(projections.header, "ReconstructionDiameter") or 0.0
    if not _SMALLEST_DIAMETER_MM <= diameter_mm <= 4.0 * covered_mm:
        diameter_mm = 2.0 * covered_mm
    grid = ImageGrid(matrix, matrix, diameter_mm / matrix)
    return ScanStack(
        turns=tuple(_measured(projections, grid, part) for part in stacked),
        grid=grid,
        affine=_affine(projections, grid, positions_mm, slice_mm),
        slice_mm=slice_mm,
        covered_mm=covered_mm,
    )


@dataclass(frozen=True)
class _Part:
    """Slices that the same rays measure."""

    views: list[NDArray[np.int_]]
    """Of each slice."""
    rows: list[int]
    """Detector row of each slice."""
    numbers: list[int]
    """In the stack."""


def _is_parallel(geometry: ProjectionGeometry) -> bool:
    return geometry.beam is Beam.PARALLEL


def _check_kind(projections: Projections) -> None:
    geometry = projections.geometry
    rows = projections.line_integrals.shape[1]
    if geometry.is_helical:
        raise InputRejected("The projections are of a helical scan, which is not reconstructed")
    if rows > 1 and not _is_parallel(geometry):
        raise InputRejected(f"The projections are of a cone beam with {rows} detector rows, which is not reconstructed")
    shifts = (geometry.angular_shifts_rad, geometry.axial_shifts_mm, geometry.radial_shifts_mm)
    if any(np.any(shift != 0.0) for shift in shifts):
        raise InputRejected("The projections are of a flying focal spot, which is not reconstructed")
    tilt_degrees = abs(number(projections.header, "GantryDetectorTilt") or 0.0)
    if tilt_degrees > _LEAST_TILT_DEGREES:
        raise InputRejected(f"The gantry is tilted by {tilt_degrees:g} degrees, and slices are not axial")


def _parallel_slices(projections: Projections) -> tuple[Floats, list[_Part]]:
    """Row 0 is the farthest into the gantry, so the rows go backwards."""
    geometry = projections.geometry
    views, rows, _ = projections.line_integrals.shape
    axial_mm = geometry.axial_positions_mm
    if np.ptp(axial_mm) > _SAME_POSITION_MM:
        raise InputRejected("The table moved between the views of a scan with parallel rays")
    descending = np.arange(rows)[::-1]
    positions_mm = axial_mm.mean() - (descending - geometry.central_row) * geometry.row_mm
    _check_arc(geometry.angles_rad)
    _check_views([views], missing=0)
    part = _Part([np.arange(views)] * rows, descending.tolist(), list(range(rows)))
    return np.asarray(positions_mm, np.float64), [part]


def _fan_slices(projections: Projections) -> tuple[Floats, list[_Part]]:
    """A slice for each position of the table; those measured at the same angles together."""
    geometry = projections.geometry
    order = np.argsort(geometry.axial_positions_mm, kind="stable")
    borders = np.flatnonzero(np.diff(geometry.axial_positions_mm[order]) > _SAME_POSITION_MM) + 1
    turns = [np.sort(views) for views in np.split(order, borders)]
    if any(np.ptp(geometry.axial_positions_mm[views]) > _SAME_POSITION_MM for views in turns):
        raise InputRejected("The table moved during a turn of the gantry")
    _check_views([len(views) for views in turns], projections.missing_views)
    positions_mm = np.array([geometry.axial_positions_mm[views].mean() for views in turns])
    parts: list[_Part] = []
    for slice_number, views in enumerate(turns):
        _check_arc(geometry.angles_rad[views])
        part = next((one for one in parts if _same_angles(geometry.angles_rad, one.views[0], views)), None)
        if part is None:
            part = _Part([], [], [])
            parts.append(part)
        part.views.append(views)
        part.rows.append(0)
        part.numbers.append(slice_number)
    return positions_mm, parts


def _check_views(counts: list[int], missing: int) -> None:
    """Views of each slice, and how many the series lacks: where those would make a slice, it may be one at an end."""
    fewest, most = min(counts), max(counts)
    if fewest < (1.0 - MISSING_SHARE) * most:
        raise InputRejected(f"A slice has {fewest} views where others have {most}")
    if fewest < _FEWEST_VIEWS:
        raise InputRejected(f"A slice has {fewest} views, too few to make an image of")
    elsewhere = missing - (len(counts) * most - sum(counts))
    if elsewhere >= (1.0 - MISSING_SHARE) * most:
        raise InputRejected(f"{elsewhere} views are missing that no slice lacks, as many as a whole slice has")


def _check_arc(angles_rad: Floats) -> None:
    ordered = np.sort(np.mod(angles_rad, 2.0 * np.pi))
    gaps = np.diff(ordered, append=ordered[0] + 2.0 * np.pi)
    arc_rad = 2.0 * np.pi - gaps.max() + np.median(gaps)
    if arc_rad < _LEAST_ARC_RAD * (1.0 - MISSING_SHARE):
        raise InputRejected(f"The views of a slice cover {np.degrees(arc_rad):.0f} degrees, less than half a turn")


def _same_angles(angles_rad: Floats, first: NDArray[np.int_], second: NDArray[np.int_]) -> bool:
    if len(first) != len(second):
        return False
    apart = np.mod(angles_rad[first] - angles_rad[second] + np.pi, 2.0 * np.pi) - np.pi
    return bool(np.abs(apart).max() < _SAME_ANGLE_RAD)


def _slice_mm(positions_mm: Floats, projections: Projections) -> float:
    geometry = projections.geometry
    if len(positions_mm) == 1:
        return geometry.row_mm * (
            1.0 if _is_parallel(geometry) else geometry.source_isocenter_mm / geometry.source_detector_mm
        )
    steps = np.diff(positions_mm)
    if np.ptp(steps) > _UNEVEN * steps.mean():
        raise InputRejected("The slices of the scan are not equally spaced")
    return float(steps.mean())


def _covered_mm(geometry: ProjectionGeometry, columns: int) -> float:
    reach_mm = min(geometry.central_column, columns - 1 - geometry.central_column) * geometry.column_mm
    if reach_mm <= 0.0:
        raise InputRejected("The isocenter lies beyond the edge of the detector")
    if _is_parallel(geometry):
        return reach_mm
    ratio = reach_mm / geometry.source_detector_mm
    angle_rad = np.arctan(ratio) if geometry.shape is DetectorShape.FLAT else min(ratio, np.pi / 2)
    return float(geometry.source_isocenter_mm * np.sin(angle_rad))


def _measured(projections: Projections, grid: ImageGrid, part: _Part) -> MeasuredTurns:
    photons = projections.photons
    geometry = projections.geometry
    fan = None
    if not _is_parallel(geometry):
        is_flat = geometry.shape is DetectorShape.FLAT
        fan = FanBeam(geometry.source_isocenter_mm, geometry.source_detector_mm, is_flat)
    # The angle of the focal center grows the other way around than that of `models.scan_geometry`.
    angles_rad = tuple((-geometry.angles_rad[part.views[0]]).tolist())
    columns = projections.line_integrals.shape[2]
    try:
        scan = ScanGeometry(grid, angles_rad, columns, geometry.column_mm, geometry.central_column, fan)
    except ValueError as error:
        raise InputRejected(f"The geometry of the scan can not be: {error}") from error
    return MeasuredTurns(
        geometry=scan,
        line_integrals=np.stack(
            [projections.line_integrals[turn, row] for turn, row in zip(part.views, part.rows, strict=True)]
        ),
        photons=None if photons is None else np.stack([photons[turn] for turn in part.views]),
        slices=tuple(part.numbers),
        views=tuple(tuple(turn.tolist()) for turn in part.views),
    )


def _affine(
    projections: Projections, grid: ImageGrid, positions_mm: Floats, slice_mm: float
) -> NDArray[np.float64]:  # fmt: skip
    directions = directions_lps(projections.header)
    axial_mm = projections.geometry.axial_positions_mm
    middle_mm = float(axial_mm.min() + axial_mm.max()) / 2.0
    # Where the header does not say it, the isocenter is the origin of the Frame of Reference, half way through.
    isocenter_lps = projections.geometry.collection_center_lps_mm or (0.0, 0.0, middle_mm * directions[2, 2])
    first = (grid.column_positions_mm()[0], grid.row_positions_mm()[0], positions_mm[0] - middle_mm)
    affine = np.eye(4)
    affine[:3, :3] = directions * (grid.pixel_mm, grid.pixel_mm, slice_mm)
    affine[:3, 3] = np.asarray(isocenter_lps) + directions @ np.asarray(first)
    return affine
