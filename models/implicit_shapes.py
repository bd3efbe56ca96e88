"""Smooth bodies as functions of place: the distance to their surface in mm, negative inside.

Coordinates are three arrays (z, y, x) in mm that broadcast. Distances are exact for capsules and, near the surface,
approximate for the rest, which is all that edges and walls of some millimetres need.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Field: TypeAlias = NDArray[np.float32]
Coordinates: TypeAlias = tuple[Field, Field, Field]
"""(z, y, x), mm."""
Point: TypeAlias = tuple[float, float, float]
"""(z, y, x), mm."""
Shape: TypeAlias = Callable[[Coordinates], Field]
"""Distance to the surface in mm, negative inside."""

_TINY = np.float32(1e-6)


@dataclass(frozen=True)
class Ellipsoid:
    """|z/a|^p + |y/b|^p + |x/c|^p = 1 about a centre."""

    centre: Point
    radii: Point
    power: float = 2.0
    """2 is an ellipsoid; more comes nearer to a box."""

    def __call__(self, at: Coordinates) -> Field:
        """To first order: (f - 1) / |grad f| with f the p-norm of the scaled coordinates."""
        scaled = [(c - np.float32(m)) / np.float32(r) for c, m, r in zip(at, self.centre, self.radii, strict=True)]
        if self.power == 2.0:
            norm = np.sqrt(_sum_of_squares(scaled)) + _TINY
            slope = np.sqrt(_sum_of_squares([s / np.float32(r) for s, r in zip(scaled, self.radii, strict=True)]))
            return np.asarray((norm - 1.0) * norm / (slope + _TINY), np.float32)
        sizes = [np.abs(s) + _TINY for s in scaled]
        p = np.float32(self.power)
        norm = sum(s**p for s in sizes) ** (1 / p)
        gradient = [(s / norm) ** (p - 1) / np.float32(r) for s, r in zip(sizes, self.radii, strict=True)]
        return np.asarray((norm - 1.0) / (np.sqrt(_sum_of_squares(gradient)) + _TINY), np.float32)


@dataclass(frozen=True)
class Chain:
    """A tube through points, straight between them, whose radius changes linearly from point to point."""

    points: Sequence[Point]
    radii: Sequence[float]
    """One for each point."""

    def __call__(self, at: Coordinates) -> Field:
        """Distance to the nearest of the straight pieces."""
        pieces = zip(self.points, self.points[1:], self.radii, self.radii[1:], strict=False)
        nearest = None
        for piece in pieces:
            distance = _capsule(at, *piece)
            nearest = distance if nearest is None else np.minimum(nearest, distance)
        if nearest is None:
            raise ValueError("a chain has at least two points")
        return nearest


@dataclass(frozen=True)
class SliceTube:
    """A tube that runs roughly along z: in every slice an ellipse. Nodes are joined by a monotone cubic curve."""

    z: Sequence[float]
    """Growing; the tube ends at the first and the last."""
    y: Sequence[float]
    x: Sequence[float]
    radius_y: Sequence[float]
    radius_x: Sequence[float]

    def at_height(self, z: NDArray[np.floating]) -> tuple[Field, Field, Field, Field]:
        """Centre y, x and radii y, x of the ellipse at heights; beyond the ends as at the end."""
        inside = np.clip(z, self.z[0], self.z[-1])
        columns = (self.y, self.x, self.radius_y, self.radius_x)
        y, x, radius_y, radius_x = (PchipInterpolator(self.z, column)(inside).astype(np.float32) for column in columns)
        return y, x, radius_y, radius_x

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], tuple[Field, Field, Field, Field]]:
        """The curve is smooth, and its evaluation at every voxel slow."""
        heights = np.linspace(self.z[0], self.z[-1], 512)
        return heights, self.at_height(heights)

    def __call__(self, at: Coordinates) -> Field:
        """To first order, in the plane of the slice; flat at both ends."""
        z, y, x = at
        heights, columns = self._table
        centre_y, centre_x, radius_y, radius_x = (
            np.interp(z, heights, column).astype(np.float32) for column in columns
        )
        v, u = (y - centre_y) / radius_y, (x - centre_x) / radius_x
        norm = np.sqrt(v * v + u * u) + _TINY
        slope = np.sqrt((v / radius_y) ** 2 + (u / radius_x) ** 2) + _TINY
        in_plane = (norm - 1.0) * norm / slope
        beyond = np.maximum(z - np.float32(self.z[-1]), np.float32(self.z[0]) - z)
        return np.asarray(np.maximum(in_plane, beyond), np.float32)


def mirrored(shape: Shape) -> Shape:
    """The same body on the other side of x = 0."""
    return lambda at: shape((at[0], at[1], -at[2]))


def scaled(shape: Shape, factor: float) -> Shape:
    """The body blown up about the origin."""
    f = np.float32(factor)
    return lambda at: shape((at[0] / f, at[1] / f, at[2] / f)) * f


def united(shapes: Sequence[Shape], rounding_mm: float = 0.0) -> Shape:
    """The nearest of the bodies; edges where they meet are filled by about `rounding_mm`."""

    def distance(at: Coordinates) -> Field:
        nearest = shapes[0](at)
        for shape in shapes[1:]:
            nearest = smooth_minimum(nearest, shape(at), rounding_mm)
        return nearest

    return distance


def without(distance: Field, *others: Field) -> Field:
    """Take other bodies away from a body: distances on the same points."""
    for other in others:
        distance = np.asarray(np.maximum(distance, -other), np.float32)
    return distance


def shell(distance: Field, thickness_mm: float) -> Field:
    """The outer layer of a body."""
    return np.asarray(np.maximum(distance, -distance - np.float32(thickness_mm)), np.float32)


def smooth_minimum(a: Field, b: Field, rounding_mm: float) -> Field:
    """Polynomial smooth minimum; the plain one where `rounding_mm` is 0."""
    if rounding_mm <= 0.0:
        return np.minimum(a, b)
    k = np.float32(rounding_mm)
    overlap = np.maximum(k - np.abs(a - b), 0.0) / k
    return np.asarray(np.minimum(a, b) - overlap * overlap * k / 4, np.float32)


def _capsule(at: Coordinates, start: Point, end: Point, start_radius: float, end_radius: float) -> Field:
    axis = np.subtract(end, start).astype(np.float32)
    length_2 = np.float32(axis @ axis) + _TINY
    offset = [c - np.float32(s) for c, s in zip(at, start, strict=True)]
    along = np.clip(sum(o * a for o, a in zip(offset, axis, strict=True)) / length_2, 0.0, 1.0)
    away = np.sqrt(_sum_of_squares([o - along * a for o, a in zip(offset, axis, strict=True)]))
    return np.asarray(away - (start_radius + along * (end_radius - start_radius)), np.float32)


def _sum_of_squares(parts: Sequence[Field]) -> Field:
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total = total + part * part
    return total
