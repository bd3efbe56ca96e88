"""Scans of cylinders, whose line integrals are known by arithmetic."""

import numpy as np
from numpy.typing import NDArray

from models.scan_geometry import FanBeam, ImageGrid, ScanGeometry, full_turn, half_turn

WATER_PER_MM = 0.02
FAN_ARC = FanBeam(source_isocenter_mm=600.0, source_detector_mm=1000.0)
FAN_FLAT = FanBeam(source_isocenter_mm=600.0, source_detector_mm=1000.0, is_flat=True)
CENTRE_MM = (14.0, -22.0)
"""(y, x) of the cylinder."""
RADIUS_MM = 60.0


def arc_of(views: int, degrees: float, first_degrees: float = 30.0) -> tuple[float, ...]:
    """Equally spaced angles of a short scan, radian."""
    return tuple(float(angle) for angle in np.deg2rad(first_degrees + np.arange(views) * degrees / views))


def parallel_scan(pixels: int = 96, views: int = 150, pixel_mm: float = 2.0) -> ScanGeometry:
    detectors = int(1.5 * pixels)
    return ScanGeometry(ImageGrid(pixels, pixels, pixel_mm), half_turn(views), detectors, pixel_mm)


def fan_scan(
    pixels: int = 96,
    angles_rad: tuple[float, ...] = full_turn(240),
    fan: FanBeam = FAN_ARC,
    pixel_mm: float = 2.0,
    central_element: float | None = None,
) -> ScanGeometry:
    """Fan that covers the whole image; elements are a pixel apart at the isocenter."""
    detector_mm = pixel_mm * fan.source_detector_mm / fan.source_isocenter_mm
    detectors = int(1.7 * pixels)
    grid = ImageGrid(pixels, pixels, pixel_mm)
    return ScanGeometry(grid, angles_rad, detectors, detector_mm, central_element, fan)


def distance_mm(geometry: ScanGeometry) -> NDArray[np.float64]:
    """Distance of every pixel from the cylinder's axis."""
    y, x = geometry.grid.row_positions_mm(), geometry.grid.column_positions_mm()
    return np.asarray(np.hypot(y[:, None] - CENTRE_MM[0], x - CENTRE_MM[1]))


def source_mm(geometry: ScanGeometry, angle_rad: float) -> NDArray[np.float64]:
    """(y, x) of the source, from the definition of a view."""
    assert geometry.fan is not None
    return geometry.fan.source_isocenter_mm * np.array([-np.cos(angle_rad), np.sin(angle_rad)])


def chords_mm(geometry: ScanGeometry) -> NDArray[np.float64]:
    """Length of every ray in the cylinder, from source and element alone: (view, detector)."""
    found = np.empty(geometry.sinogram_shape)
    for view, angle in enumerate(geometry.angles_rad):
        ray = np.array([np.cos(angle), -np.sin(angle)])
        towards = np.array([np.sin(angle), np.cos(angle)])
        position = geometry.detector_positions_mm()[:, None]
        if geometry.fan is None:
            through, direction = position * towards, np.broadcast_to(ray, (geometry.detectors, 2))
        else:
            through = np.broadcast_to(source_mm(geometry, angle), (geometry.detectors, 2))
            distance = geometry.fan.source_detector_mm
            if geometry.fan.is_flat:
                element = distance * ray + position * towards
            else:
                element = distance * (np.cos(position / distance) * ray + np.sin(position / distance) * towards)
            direction = element / np.linalg.norm(element, axis=1, keepdims=True)
        away = np.asarray(CENTRE_MM) - through
        miss_mm = np.abs(away[:, 0] * direction[:, 1] - away[:, 1] * direction[:, 0])
        found[view] = 2.0 * np.sqrt(np.clip(RADIUS_MM**2 - miss_mm**2, 0.0, None))
    return found


def cylinder(geometry: ScanGeometry) -> NDArray[np.float32]:
    """Cylinder of value 1 with partial pixels at its rim."""
    rim = (RADIUS_MM - distance_mm(geometry)) / geometry.grid.pixel_mm + 0.5
    return np.clip(rim, 0.0, 1.0).astype(np.float32)
