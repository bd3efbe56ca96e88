"""Where the rays of a two-dimensional scan run: parallel or fan beam, any list of angles, any grid of pixels.

Millimetres are measured from the axis of rotation: x along the columns (towards the patient's left, head first supine),
y along the rows (towards posterior). At view angle t the central ray is the line x cos t + y sin t = 0, and detector
elements are counted towards (cos t, sin t). The source of a fan beam lies at R (sin t, -cos t): in front of the patient
at 0 degrees, on the patient's left at 90, as IEC 61217 counts gantry angles for a patient head first supine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ImageGrid:
    """Square pixels, [row, column]."""

    rows: int
    columns: int
    pixel_mm: float
    centre_mm: tuple[float, float] = (0.0, 0.0)
    """(y, x) of the middle of the image, from the axis of rotation."""

    def row_positions_mm(self) -> Floats:
        """Position y of every row of pixel centres."""
        return np.asarray((np.arange(self.rows) - (self.rows - 1) / 2.0) * self.pixel_mm + self.centre_mm[0])

    def column_positions_mm(self) -> Floats:
        """Position x of every column of pixel centres."""
        return np.asarray((np.arange(self.columns) - (self.columns - 1) / 2.0) * self.pixel_mm + self.centre_mm[1])

    def reach_mm(self) -> float:
        """Distance of the farthest corner from the axis of rotation."""
        half_mm = np.array([self.rows, self.columns]) * self.pixel_mm / 2.0
        return float(np.hypot(*(np.abs(self.centre_mm) + half_mm)))


@dataclass(frozen=True)
class FanBeam:
    """Source and detector of a fan beam."""

    source_isocenter_mm: float
    source_detector_mm: float
    is_flat: bool = False
    """Elements equally spaced on a line; otherwise on an arc about the source, rays equally spaced in angle."""


@dataclass(frozen=True)
class ScanGeometry:
    """One slice, and every ray that measures it.

    Raises
    ------
    ValueError
        If there is no view, no element, or the source would lie inside the image.
    """

    grid: ImageGrid
    angles_rad: tuple[float, ...]
    """Of every view, in the order of the sinogram; any order, any spacing."""
    detectors: int
    detector_mm: float
    """Pitch of the elements on the detector; of a parallel beam, distance of neighbouring rays."""
    central_element: float | None = None
    """Index, from 0, of the element that the central ray meets, may lie between two; None: the middle."""
    fan: FanBeam | None = None
    """None: parallel rays."""

    def __post_init__(self) -> None:
        if not self.angles_rad or self.detectors < 1 or self.detector_mm <= 0.0 or self.grid.pixel_mm <= 0.0:
            raise ValueError("a scan needs a view, a detector element and lengths above 0")
        if self.fan is not None and self.fan.source_isocenter_mm <= self.grid.reach_mm():
            raise ValueError("the source lies inside the image")

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.angles_rad)

    @property
    def is_arc(self) -> bool:
        """Whether rays are equally spaced in angle, not on a line."""
        return self.fan is not None and not self.fan.is_flat

    @property
    def pitch(self) -> float:
        """Spacing of the rays: mm at the axis of rotation, or radian on an arc."""
        if self.fan is None:
            return self.detector_mm
        per_radian = self.detector_mm / self.fan.source_detector_mm
        return per_radian * self.fan.source_isocenter_mm if self.fan.is_flat else per_radian

    @property
    def image_shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.grid.rows, self.grid.columns

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        """(views, detectors)."""
        return self.views, self.detectors

    def centre(self) -> float:
        """Index, from 0, of the element that the central ray meets."""
        return (self.detectors - 1) / 2.0 if self.central_element is None else self.central_element

    def detector_positions_mm(self) -> Floats:
        """Position of every element on the detector, from the central ray: (detector,)."""
        return np.asarray((np.arange(self.detectors) - self.centre()) * self.detector_mm, np.float64)

    def fan_angles_rad(self) -> Floats:
        """Angle of every ray against the central one, 0 in a parallel beam: (detector,)."""
        position_mm = self.detector_positions_mm()
        if self.fan is None:
            return np.zeros_like(position_mm)
        ratio = position_mm / self.fan.source_detector_mm
        return np.arctan(ratio) if self.fan.is_flat else ratio

    def lines(self) -> tuple[Floats, Floats]:
        """Normal angle p (radian) and signed distance s (mm) of every ray, the line x cos p + y sin p = s.

        Both (view, detector).
        """
        fan_rad = self.fan_angles_rad()
        distance_mm = self.detector_positions_mm()
        if self.fan is not None:
            distance_mm = self.fan.source_isocenter_mm * np.sin(fan_rad)
        normals_rad = np.asarray(self.angles_rad)[:, None] - fan_rad
        return normals_rad, np.broadcast_to(distance_mm, normals_rad.shape)

    def with_views(self, views: Sequence[int] | NDArray[np.int_]) -> "ScanGeometry":
        """Same scan, only the views of these indices."""
        return replace(self, angles_rad=tuple(self.angles_rad[int(view)] for view in views))


def full_turn(views: int, first_rad: float = 0.0) -> tuple[float, ...]:
    """Equally spaced angles over 360 degrees, radian."""
    return tuple(float(first_rad + angle) for angle in np.arange(views) * (2.0 * np.pi / views))


def half_turn(views: int) -> tuple[float, ...]:
    """Equally spaced angles over 180 degrees, radian."""
    return tuple(float(angle) for angle in np.arange(views) * (np.pi / views))
