"""Masks to closed contours and back, in one slice: points are (column, row) with pixel centres at whole numbers."""

from collections.abc import Iterable
from itertools import pairwise
from typing import TypeAlias, cast

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

Polygon: TypeAlias = NDArray[np.float64]
"""(n, 2) of column and row; the last point is not the first again."""

HALF_LEVEL = 0.5


def outlines(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Closed contours around the mask, half way between the centres of pixels inside and outside.

    A hole is joined to its outer contour by a channel of no width (a keyhole), as PS3.3 C.8.8.6.3 asks for. Filling the
    contours (`filled`) gives back exactly the mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # The frame of zeros closes contours that would run out of the image.
    generator = contour_generator(z=np.pad(part, 1).astype(np.float64), fill_type=FillType.OuterOffset)
    polygons, offsets = cast("tuple[list[Polygon], list[NDArray[np.uint32]]]", generator.filled(HALF_LEVEL, 2.0))
    corner = np.array([columns[0], rows[0]], dtype=np.float64) - 1.0
    return [_keyholed(_rings(points + corner, bounds)) for points, bounds in zip(polygons, offsets, strict=True)]


def filled(polygons: Iterable[Polygon], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside an odd number of the polygons; shape is (rows, columns).

    So a contour within another is a hole, whether its writer joined the two or not.
    """
    toggles = np.zeros((shape[0], shape[1] + 1), dtype=np.bool_)
    for polygon in polygons:
        _toggle_crossings(toggles, polygon)
    return np.asarray(np.logical_xor.accumulate(toggles, axis=1)[:, :-1], dtype=np.bool_)


def _rings(points: Polygon, bounds: NDArray[np.uint32]) -> list[Polygon]:
    return [_corners(points[start : end - 1]) for start, end in pairwise(bounds.tolist())]


def _corners(ring: Polygon) -> Polygon:
    """The ring without points on a straight line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return ring[turns]


def _keyholed(rings: list[Polygon]) -> Polygon:
    outer, *holes = rings
    for hole in holes:
        outer = _joined(outer, hole)
    return outer


def _joined(outer: Polygon, hole: Polygon) -> Polygon:
    """Walk to the nearest point of the hole, around it, and back the same way."""
    squares = ((outer[:, None] - hole[None]) ** 2).sum(axis=2)
    at, to = np.unravel_index(int(squares.argmin()), squares.shape)
    around = np.roll(hole, -int(to), axis=0)
    return np.concatenate([outer[: at + 1], around, around[:1], outer[at:]])


def _toggle_crossings(toggles: NDArray[np.bool_], polygon: Polygon) -> None:
    """Flip, on every row that an edge crosses, the first pixel behind the crossing."""
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    first = np.clip(np.ceil(np.minimum(y0, y1)), 0, len(toggles)).astype(np.int64)
    end = np.clip(np.ceil(np.maximum(y0, y1)), 0, len(toggles)).astype(np.int64)
    counts = np.maximum(end - first, 0)
    edges = np.repeat(np.arange(len(polygon)), counts)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    x = x0[edges] + (rows - y0[edges]) * (x1 - x0)[edges] / (y1 - y0)[edges]
    columns = np.clip(np.floor(x) + 1, 0, toggles.shape[1] - 1).astype(np.int64)
    np.logical_xor.at(toggles, (rows, columns), True)
