"""How sharp the edges of an image are, from edges of a truth that are strong and stand alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask

_REACH_PIXELS, _STEP_PIXELS = 4.0, 0.125
_LEAST_STEP_HU = 300.0
"""Between soft tissue and air, or soft tissue and hard bone."""
_PLATEAU_PIXELS = 1.0
"""At either end of a profile, taken to be what lies beside the edge."""
_UNEVEN = 0.1
"""How far, of its step, a profile of the truth may go back and still be one edge."""
_GRADIENT_SIGMA_PIXELS = 1.0
_MOST_EDGES = 2000


def edge_rise_mm(image: NDArray[Any], truth: NDArray[Any], region: Mask, pixel_mm: float) -> float | None:
    """10-90 % rise of the mean edge of an image [row, column] in HU; None where the truth has no edge to measure.

    Edges are the ridges of the gradient of the truth, inside the region, whose profile over 4 pixels to either side
    climbs 300 HU or more without turning back. The profiles of the image along the gradient of the truth are averaged,
    so that an edge that has moved here and there counts as blurred; 0 and 100 % are the means over the last pixel at
    both ends. Compare with the rise in the truth itself, which has edges of its own scanner.
    """
    points, normals = _edges(np.asarray(truth, np.float64), region)
    if not len(points):
        return None
    profile = _profiles(np.asarray(image, np.float64), points, normals).mean(axis=0)
    return _rise_pixels(profile) * pixel_mm


def _edges(truth: NDArray[np.float64], region: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (edge, 2) and directions uphill (edge, 2) in pixels, (row, column)."""
    slope = np.stack(
        [ndimage.gaussian_filter(truth, _GRADIENT_SIGMA_PIXELS, order=order) for order in ((1, 0), (0, 1))]
    )
    steepness = np.hypot(*slope)
    # A step of s HU, blurred by sigma, has a slope of s / (sigma sqrt(2 pi)) at most; half of it may be lost to noise.
    steep = steepness > _LEAST_STEP_HU / (2.0 * _GRADIENT_SIGMA_PIXELS * np.sqrt(2.0 * np.pi))
    points = np.argwhere(region & steep).astype(np.float64)
    if not len(points):
        return points, points
    rows, columns = points.astype(int).T
    normals = (slope[:, rows, columns] / steepness[rows, columns]).T
    beside = [ndimage.map_coordinates(steepness, (points + sign * normals).T, order=1) for sign in (-1.0, 1.0)]
    kept = (steepness[rows, columns] >= beside[0]) & (steepness[rows, columns] >= beside[1])
    # To where the parabola through the three has its top: edges seldom run through the middle of a pixel.
    bend = np.minimum(beside[0] + beside[1] - 2.0 * steepness[rows, columns], -1e-9)
    top = np.clip(0.5 * (beside[0] - beside[1]) / bend, -0.5, 0.5)
    points = (points + top[:, None] * normals)[kept]
    normals = normals[kept]
    single = _are_single(_profiles(truth, points, normals))
    chosen = np.flatnonzero(single)
    chosen = chosen[:: max(1, len(chosen) // _MOST_EDGES)]
    return points[chosen], normals[chosen]


def _profiles(
    image: NDArray[np.float64], points: NDArray[np.float64], normals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cubic, along the normals, from -4 to 4 pixels: (edge, position)."""
    positions = np.arange(-_REACH_PIXELS, _REACH_PIXELS + _STEP_PIXELS / 2.0, _STEP_PIXELS)
    places = points[:, :, None] + normals[:, :, None] * positions  # (edge, 2, position)
    return np.asarray(ndimage.map_coordinates(image, places.transpose(1, 0, 2), order=3, mode="nearest"))


def _are_single(profiles: NDArray[np.float64]) -> Mask:
    """Whether each profile climbs once, high enough: (edge,)."""
    low, high = _plateaus(profiles)
    back = (np.maximum.accumulate(profiles, axis=1) - profiles).max(axis=1)
    return np.asarray((high - low >= _LEAST_STEP_HU) & (back <= _UNEVEN * (high - low)))


def _plateaus(profiles: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ends = round(_PLATEAU_PIXELS / _STEP_PIXELS)
    return profiles[..., :ends].mean(axis=-1), profiles[..., -ends:].mean(axis=-1)


def _rise_pixels(profile: NDArray[np.float64]) -> float:
    """From the last time below 10 % to the first time above 90 % of the way, of one mean profile."""
    low, high = _plateaus(profile)
    if high <= low:
        return 2.0 * _REACH_PIXELS
    share = np.maximum.accumulate((profile - low) / (high - low))
    # Where it stands still, a little slope makes it one crossing.
    share = share + np.arange(len(share)) * 1e-9
    at = np.interp([0.1, 0.9], share, np.arange(len(share)) * _STEP_PIXELS)
    return float(at[1] - at[0])
