"""Filtered backprojection of parallel and fan beams, full turn or short scan, with any spacing of the views.

Sinograms are [slice, view, detector], images [slice, row, column]. Every pixel reads the filtered view where its ray
meets the detector, linearly between two elements. `models/projector.py` has the shorter way for equally spaced parallel
views, by its matrix.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from models.projector import ramp_response
from models.scan_geometry import Floats, ScanGeometry

_FULL_TURN_RAD = 2.0 * np.pi
_SAME_RAD = 1e-6
"""Views as near as this look along the same lines."""
_GAP_STEPS = 4.0
"""A gap of more steps than this between neighbouring views is the end of a short scan, not a few lost views."""


def reconstructed(sinograms: NDArray[Any], geometry: ScanGeometry, hann: bool = False) -> NDArray[np.float32]:
    """Image from its line integrals: ([slice,] view, detector) -> ([slice,] row, column) per mm.

    A ray that a fan beam measures twice, from both ends, counts half each time; a short scan gets Parker's smooth
    weights. `hann` damps the ramp towards the Nyquist frequency of the detector.

    Raises
    ------
    ValueError
        If a fan beam covers less than half a turn.

    References
    ----------
    Kak and Slaney, Principles of Computerized Tomographic Imaging, 1988, sections 3.3 and 3.4
    """
    stack = np.asarray(sinograms, np.float32).reshape(-1, *geometry.sinogram_shape)
    filtered = _filtered(stack * (ray_weights(geometry) * _obliquity(geometry)).astype(np.float32), geometry, hann)
    images = np.zeros((len(stack), geometry.grid.rows * geometry.grid.columns), np.float32)
    for view, angle_rad in enumerate(geometry.angles_rad):
        element, weight = _seen_from(geometry, angle_rad)
        low = np.floor(element).astype(np.int64)
        fraction = (element - low).astype(np.float32)
        # One element of nothing on either side, so that what the detector misses adds nothing.
        row = np.pad(filtered[:, view], ((0, 0), (1, 2)))
        low = np.clip(low + 1, 0, geometry.detectors + 1)
        images += weight * (row[:, low] * (1.0 - fraction) + row[:, low + 1] * fraction)
    return images.reshape(*sinograms.shape[:-2], *geometry.image_shape)


def ray_weights(geometry: ScanGeometry) -> Floats:
    """Angle that every ray stands for, radian, so that every line counts half a turn in all: (view, detector).

    References
    ----------
    Parker, Med Phys 1982, doi 10.1118/1.595078
    """
    angles_rad = np.asarray(geometry.angles_rad)
    if geometry.fan is None:
        return np.repeat(_shares(angles_rad, np.pi)[:, None], geometry.detectors, axis=1)
    start_rad, arc_rad = _arc(angles_rad)
    if arc_rad >= _FULL_TURN_RAD:
        return np.repeat(0.5 * _shares(angles_rad, _FULL_TURN_RAD)[:, None], geometry.detectors, axis=1)
    if arc_rad < np.pi:
        raise ValueError(f"the views cover {np.rad2deg(arc_rad):.0f} degrees, less than half a turn")
    from_start = (angles_rad - start_rad) % _FULL_TURN_RAD
    shares = _shares(from_start, None)
    return shares[:, None] * _parker(from_start[:, None], geometry.fan_angles_rad(), arc_rad)


def _shares(angles_rad: Floats, period_rad: float | None) -> Floats:
    """Half the way to both neighbours, of every view; at the ends of an open arc, twice the way inwards."""
    wrapped = angles_rad if period_rad is None else angles_rad % period_rad
    order = np.argsort(wrapped, kind="stable")
    ordered = wrapped[order]
    if period_rad is None:
        before, after = 2.0 * ordered[0] - ordered[1], 2.0 * ordered[-1] - ordered[-2]
    else:
        before, after = ordered[-1] - period_rad, ordered[0] + period_rad
    reached = np.concatenate([[before], ordered, [after]])
    shares = np.empty_like(ordered)
    shares[order] = (reached[2:] - reached[:-2]) / 2.0
    return shares


def _arc(angles_rad: Floats) -> tuple[float, float]:
    """Where the arc that the views cover begins, half a step before the first, and how long it is; radian."""
    ordered = np.sort(angles_rad % _FULL_TURN_RAD)
    gaps = np.diff(ordered, append=ordered[0] + _FULL_TURN_RAD)
    widest, step_rad = int(gaps.argmax()), float(np.median(gaps[gaps > _SAME_RAD]))
    if gaps[widest] <= _GAP_STEPS * step_rad:
        return float(ordered[0]), _FULL_TURN_RAD
    first = ordered[(widest + 1) % len(ordered)]
    return float(first - step_rad / 2.0), float(_FULL_TURN_RAD - gaps[widest] + step_rad)


def _parker(from_start_rad: Floats, fan_rad: Floats, arc_rad: float) -> Floats:
    """Weights of a short scan: a ray and its opposite together weigh 1; (view, detector)."""
    reach_rad = (arc_rad - np.pi) / 2.0
    early, late = (np.maximum(reach_rad + sign * fan_rad, 1e-9) for sign in (1.0, -1.0))
    rising = np.sin(np.pi / 4.0 * np.minimum(from_start_rad / early, 2.0)) ** 2
    falling = np.sin(np.pi / 4.0 * np.clip((arc_rad - from_start_rad) / late, 0.0, 2.0)) ** 2
    return np.asarray(np.minimum(rising, falling))


def _obliquity(geometry: ScanGeometry) -> Floats:
    """Cosine of the fan angle, and for an arc the distance of the source: (detector,)."""
    cosine = np.cos(geometry.fan_angles_rad())
    if geometry.fan is None or geometry.fan.is_flat:
        return np.asarray(cosine)
    return np.asarray(cosine * geometry.fan.source_isocenter_mm)


def _filtered(sinograms: NDArray[np.float32], geometry: ScanGeometry, hann: bool) -> NDArray[np.float32]:
    """Convolved with the ramp along the detector."""
    length = fft.next_fast_len(2 * geometry.detectors, real=True)
    response = ramp_response(length, geometry.pitch, hann, _arc_stretch(geometry, length))
    filtered = fft.irfft(fft.rfft(sinograms, length, axis=-1) * response, length, axis=-1)
    return np.asarray(filtered[..., : geometry.detectors], np.float32)


def _arc_stretch(geometry: ScanGeometry, length: int) -> Floats | None:
    """(g / sin g)^2 of the angle g between two elements of an arc, for the kernel of the ramp: (length,)."""
    if not geometry.is_arc:
        return None
    index = np.arange(length)
    # No two elements are farther apart than the detector is wide; beyond, the value is of no account.
    apart_rad = np.minimum(np.minimum(index, length - index), geometry.detectors) * geometry.pitch
    return np.asarray(1.0 / np.sinc(apart_rad / np.pi) ** 2)


def _seen_from(geometry: ScanGeometry, angle_rad: float) -> tuple[Floats, NDArray[np.float32]]:
    """Index of the element that every pixel projects to, and its weight in the backprojection: (pixel,)."""
    y = geometry.grid.row_positions_mm()[:, None]
    x = geometry.grid.column_positions_mm()
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    across = (x * cosine + y * sine).ravel()
    if geometry.fan is None:
        return across / geometry.detector_mm + geometry.centre(), np.ones(1, np.float32)
    source_mm = geometry.fan.source_isocenter_mm
    depth = source_mm + (y * cosine - x * sine).ravel()
    if geometry.fan.is_flat:
        position, weight = source_mm * across / depth, (source_mm / depth) ** 2
    else:
        position, weight = np.arctan2(across, depth), 1.0 / (across**2 + depth**2)
    return position / geometry.pitch + geometry.centre(), weight.astype(np.float32)
