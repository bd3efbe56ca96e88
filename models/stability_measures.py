"""How much an enhancement changed the image and the anatomy: each measure grows as the result gets less trustworthy.

The gate compares these values with limits from the model card, so the name of a measure is also its key in the card.
Nothing here registers images: a registration would be a second model that could be wrong.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask, body_mask
from models.weights import TrainingDomain

AIR_BELOW_HU = -500.0
UNITS: Mapping[str, str] = {
    "mean_change_hu": "[hnsf'U]",
    "largest_local_change_hu": "[hnsf'U]",
    "edge_shift_mm": "mm",
    "body_dice_loss": "1",
    "air_xor_fraction": "1",
    "noise_growth": "1",
    "pixel_spacing_outside_mm": "mm",
    "slice_spacing_outside_mm": "mm",
    "body_mean_departure_sd": "1",
}
"""UCUM code of every measure, by name."""

_SOFT_TISSUE_HU = (-200.0, 200.0)
_LEAST_NOISE_HU = 2.0
"""Below this an image counts as free of noise: twice nothing would be nothing."""
_SD_PER_MEDIAN = 1.4826
"""Of a normal distribution: SD against the median of the absolute value."""
_LOCAL_SIGMA_MM = 4.0
_EDGE_SIGMA_PIXELS = 1.0
_PROFILE_PIXELS = 4.0
_PROFILE_STEP_PIXELS = 0.25
_LARGEST_SHIFT_PIXELS = 2.0
_TILE_PIXELS = 32
_STRONGEST_EDGES = 0.05
_EDGES_PER_TILE = 24
_EDGE_SLICES = 16
"""At most so many, evenly spaced: edges of neighbouring slices move alike, and each slice takes its time."""

Spacing: TypeAlias = tuple[float, float, float]


def stability_measures(
    before_hu_zyx: NDArray[Any], after_hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing, body: Mask | None = None
) -> dict[str, float]:
    """All measures of output against input, by name; `body` is that of the input, and is found if it is not given.

    Raises
    ------
    ValueError
        If the two arrays differ in shape.
    """
    if before_hu_zyx.shape != after_hu_zyx.shape:
        raise ValueError(f"input has shape {before_hu_zyx.shape}, output {after_hu_zyx.shape}")
    body = body_mask(before_hu_zyx) if body is None else body
    return {
        "mean_change_hu": mean_change_hu(before_hu_zyx, after_hu_zyx, body),
        "largest_local_change_hu": largest_local_change_hu(before_hu_zyx, after_hu_zyx, body, spacing_zyx_mm),
        "edge_shift_mm": edge_shift_mm(before_hu_zyx, after_hu_zyx, spacing_zyx_mm),
        "body_dice_loss": 1.0 - dice(body, body_mask(after_hu_zyx)),
        "air_xor_fraction": air_xor_fraction(before_hu_zyx, after_hu_zyx, body),
        "noise_growth": noise_growth(before_hu_zyx, after_hu_zyx, body),
    }


def domain_measures(
    domain: TrainingDomain, hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing, body: Mask | None = None
) -> dict[str, float]:
    """How far an input lies outside what the model was trained on, by name; 0 means inside.

    What is not known of the training is left out.
    """
    slice_mm, *pixel_mm = spacing_zyx_mm
    measures: dict[str, float] = {}
    if domain.pixel_spacing_mm is not None:
        bounds = domain.pixel_spacing_mm
        measures["pixel_spacing_outside_mm"] = max(_outside(value, bounds) for value in pixel_mm)
    if domain.slice_spacing_mm is not None:
        measures["slice_spacing_outside_mm"] = _outside(slice_mm, domain.slice_spacing_mm)
    if domain.body_mean_hu is not None and domain.body_mean_sd_hu is not None:
        body = body_mask(hu_zyx) if body is None else body
        mean_hu = float(hu_zyx[body].mean()) if body.any() else float(hu_zyx.mean())
        measures["body_mean_departure_sd"] = abs(mean_hu - domain.body_mean_hu) / max(domain.body_mean_sd_hu, 1e-6)
    return measures


def mean_change_hu(before_hu_zyx: NDArray[Any], after_hu_zyx: NDArray[Any], body: Mask) -> float:
    """Mean absolute change inside the body, HU; 0 where there is no body."""
    if not body.any():
        return 0.0
    return float(np.abs(after_hu_zyx[body] - before_hu_zyx[body]).mean())


def largest_local_change_hu(
    before_hu_zyx: NDArray[Any], after_hu_zyx: NDArray[Any], body: Mask, spacing_zyx_mm: Spacing
) -> float:
    """Largest absolute change inside the body after smoothing over 4 mm (Gaussian SD), HU.

    The smoothing removes noise that was taken away rightly; what remains is a structure that came or went.
    """
    if not body.any():
        return 0.0
    sigma_pixels = [_LOCAL_SIGMA_MM / mm for mm in spacing_zyx_mm]
    change_hu = np.where(body, after_hu_zyx - before_hu_zyx, 0.0).astype(np.float32)
    return float(np.abs(ndimage.gaussian_filter(change_hu, sigma_pixels)[body]).max())


def dice(first: Mask, second: Mask) -> float:
    """Dice coefficient of two masks; 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 1.0 if total == 0 else 2.0 * int((first & second).sum()) / total


def air_xor_fraction(before_hu_zyx: NDArray[Any], after_hu_zyx: NDArray[Any], body: Mask) -> float:
    """Fraction of body voxels where exactly one of input and output is air (below -500 HU)."""
    if not body.any():
        return 0.0
    differs = (before_hu_zyx < AIR_BELOW_HU) != (after_hu_zyx < AIR_BELOW_HU)
    return float(differs[body].mean())


def noise_growth(before_hu_zyx: NDArray[Any], after_hu_zyx: NDArray[Any], body: Mask) -> float:
    """By which part of itself the noise of soft tissue has grown; 0 where it has not, or there is no soft tissue.

    A model that sharpens what another scanner has made takes its noise for structure, and no edge has moved by that.
    """
    before, after = (pixel_noise_hu(image, before_hu_zyx, body) for image in (before_hu_zyx, after_hu_zyx))
    return max(after / max(before, _LEAST_NOISE_HU) - 1.0, 0.0)


def pixel_noise_hu(hu_zyx: NDArray[Any], tissue_hu_zyx: NDArray[Any], body: Mask) -> float:
    """SD of the noise where the other image shows soft tissue inside the body, HU; 0 where it shows none.

    From the median of second differences along the rows, on which edges and slopes have little hold.
    """
    soft = body & (tissue_hu_zyx > _SOFT_TISSUE_HU[0]) & (tissue_hu_zyx < _SOFT_TISSUE_HU[1])
    inside = soft[..., 1:-1] & soft[..., :-2] & soft[..., 2:]
    if not inside.any():
        return 0.0
    second = 2.0 * hu_zyx[..., 1:-1] - hu_zyx[..., :-2] - hu_zyx[..., 2:]
    return float(np.median(np.abs(second[inside])) * _SD_PER_MEDIAN / np.sqrt(6.0))


def edge_shift_mm(before_hu_zyx: NDArray[Any], after_hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing) -> float:
    """In-plane displacement of edges from input to output, mm: 95th percentile over tiles of 32 x 32 pixels.

    Of at most sixteen slices, evenly spaced.

    Along the normal of every strong edge the two intensity profiles are differentiated and their lag is found by
    cross-correlation, to a fraction of a pixel; it does not depend on contrast. The normal shows only one component
    of a displacement, so a tile's edges of many directions are solved together by least squares.
    """
    chosen = np.unique(np.linspace(0, len(before_hu_zyx) - 1, _EDGE_SLICES).round().astype(int))
    shifts = [_tile_shifts_pixels(before_hu_zyx[at], after_hu_zyx[at]) for at in chosen]
    found = np.concatenate([np.zeros((0, 2)), *shifts])
    if not len(found):
        return 0.0
    lengths_mm = np.hypot(found[:, 0] * spacing_zyx_mm[1], found[:, 1] * spacing_zyx_mm[2])
    return float(np.percentile(lengths_mm, 95))


def _tile_shifts_pixels(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float64]:
    """Displacement (row, column) of each tile with enough edges, in pixels, of one slice."""
    before = ndimage.gaussian_filter(np.asarray(before, np.float64), _EDGE_SIGMA_PIXELS)
    after = ndimage.gaussian_filter(np.asarray(after, np.float64), _EDGE_SIGMA_PIXELS)
    points, normals = _edges(before)
    if len(points) < _EDGES_PER_TILE:
        return np.zeros((0, 2))
    template = _profiles(before, points, normals, _PROFILE_PIXELS)
    lags = _lags(template, _profiles(after, points, normals, _PROFILE_PIXELS + _LARGEST_SHIFT_PIXELS))
    tiles = (points // _TILE_PIXELS) @ np.array([before.shape[1], 1])
    solved = [_displacement(normals[tiles == tile], lags[tiles == tile]) for tile in np.unique(tiles)]
    return np.array([shift for shift in solved if shift is not None]).reshape(-1, 2)


def _edges(plane: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels (row, column) on the crest of the strongest gradients, and their unit normals."""
    gradient = np.stack([np.gradient(plane, axis=0), np.gradient(plane, axis=1)])
    strength = np.hypot(gradient[0], gradient[1])
    threshold = max(float(np.quantile(strength, 1.0 - _STRONGEST_EDGES)), 1.0)
    crest = (strength >= threshold) & (strength >= 0.98 * ndimage.maximum_filter(strength, 3))
    margin = int(_PROFILE_PIXELS + _LARGEST_SHIFT_PIXELS) + 1
    interior = np.zeros_like(crest)
    interior[margin:-margin, margin:-margin] = True
    rows, columns = np.nonzero(crest & interior)
    return np.stack([rows, columns], 1), (gradient[:, rows, columns] / strength[rows, columns]).T


def _profiles(
    plane: NDArray[np.float64], points: NDArray[np.int64], normals: NDArray[np.float64], reach_pixels: float
) -> NDArray[np.float64]:
    """Differentiate the intensity along each normal, from -reach to reach; (edge, position)."""
    positions = np.arange(-reach_pixels, reach_pixels + 1e-9, _PROFILE_STEP_PIXELS)
    where = points.T[:, :, None] + normals.T[:, :, None] * positions
    return np.diff(ndimage.map_coordinates(plane, where, order=3, mode="nearest"), axis=1)


def _lags(template: NDArray[np.float64], searched: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where along `searched` each template fits best, pixels from its middle: crest of the normalised correlation."""
    width = template.shape[1]
    # The taper keeps a neighbouring edge at the end of the profile from taking over the correlation.
    taper = np.hanning(width)
    steps = searched.shape[1] - width
    windows = [searched[:, lag : lag + width] for lag in range(steps + 1)]
    energy = [np.sqrt((window**2 * taper).sum(1)) for window in windows]
    scores = np.stack(
        [(template * window * taper).sum(1) / np.maximum(e, 1e-9) for window, e in zip(windows, energy, strict=True)], 1
    )
    best = np.clip(scores.argmax(1), 1, steps - 1)
    edges = np.arange(len(scores))
    left, middle, right = (scores[edges, best + step] for step in (-1, 0, 1))
    curvature = np.minimum(left - 2.0 * middle + right, -1e-9)
    offset = np.clip(0.5 * (left - right) / curvature, -1.0, 1.0)
    return np.asarray((best - steps // 2 + offset) * _PROFILE_STEP_PIXELS)


def _displacement(normals: NDArray[np.float64], lags: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Least-squares displacement whose component along each normal is the lag; None where it is not determined."""
    if len(lags) < _EDGES_PER_TILE:
        return None
    matrix = normals.T @ normals
    # All edges parallel: the displacement along them can not be seen.
    if np.linalg.cond(matrix) > 20.0:
        return None
    return np.asarray(np.linalg.solve(matrix, normals.T @ lags))


def _outside(value: float, limits: tuple[float, float]) -> float:
    return max(limits[0] - value, value - limits[1], 0.0)
