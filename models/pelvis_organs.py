"""Prostate, seminal vesicles, bladder and rectum of a made-up patient as implicit shapes of a known volume.

Rectum, prostate, vesicles, bladder: each makes room for those before it, and is blown up until its volume is the drawn
one after that. Coordinates in mm from the middle between the femoral heads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.implicit_shapes import (
    Chain,
    Coordinates,
    Field,
    Shape,
    SliceTube,
    mirrored,
    smooth_minimum,
    united,
    without,
)
from models.pelvis_anatomy import PelvisAnatomy
from models.pelvis_bones import SYMPHYSIS_BACK_Y_MM, pubis, sacrum
from models.pelvis_canvas import Box

_ROUNDS = 4
"""Of correcting the size; the volume is then right within a hundredth or two."""
_PRESACRAL_MM = 6.0
_BASE_ROUNDING_MM = 10.0
_RECTUM_BOTTOM_MM = -58.0


@dataclass(frozen=True)
class PelvisOrgans:
    """The shapes do not overlap."""

    prostate: Shape
    prostate_box: Box
    prostate_z_mm: float
    """Of its middle over the femoral heads."""
    transition_zone: Shape
    seminal_vesicles: Shape
    seminal_vesicles_box: Box
    bladder: Shape
    bladder_box: Box
    rectum: SliceTube
    rectum_box: Box


@dataclass(frozen=True)
class _Gland:
    """Where the prostate lies and how it differs from an ellipsoid."""

    apex_z: float
    middle_y: float
    middle_x: float
    taper: float
    lobes: float
    """Of one side larger than the other."""
    bumps: tuple[float, ...]

    def radii(self, size: float) -> tuple[float, float, float]:
        return 1.0 * size, 0.84 * size, 1.16 * size

    def shape(self, size: float, shrunk: float = 1.0) -> Shape:
        """`size` is half of the height in mm; `shrunk` about the middle of the base, for the zone within."""
        a, b, c = self.radii(size)
        middle_z = self.apex_z + a
        mean = (a * b * c) ** (1 / 3) * shrunk

        def distance(at: Coordinates) -> Field:
            w = (at[0] - np.float32(middle_z + (1 - shrunk) * 0.35 * a)) / np.float32(a * shrunk)
            side = (at[2] - np.float32(self.middle_x)) / np.float32(c * shrunk)
            back = (at[1] - np.float32(self.middle_y - (1 - shrunk) * 0.45 * b)) / np.float32(b * shrunk)
            narrowing = 1 - np.float32(self.taper) * np.clip(-w, 0, 1.2) ** 2
            u = side / (narrowing * (1 + np.float32(self.lobes) * np.tanh(3 * side)))
            v = (back + np.float32(0.12) * side * side) / narrowing
            norm = np.sqrt(w * w + v * v + u * u) + np.float32(1e-4)
            return np.asarray((norm / self._bumped(w / norm, v / norm, u / norm) - 1) * np.float32(mean), np.float32)

        return distance

    def _bumped(self, w: Field, v: Field, u: Field) -> Field:
        """1 with low harmonics of the direction."""
        one, two, three, four, five = (np.float32(bump) for bump in self.bumps)
        return np.asarray(
            1 + one * w * v + two * w * u + three * v * u + four * (3 * w * w - 1) / 2 + five * (u * u - v * v) * w,
            np.float32,
        )


def drawn_organs(anatomy: PelvisAnatomy, rng: np.random.Generator) -> PelvisOrgans:
    """Shapes for the drawn sizes; `rng` draws their irregularities."""
    bones = pubis(anatomy)
    nominal_mm = (anatomy.prostate_ml * 1000.0 / (4 / 3 * np.pi * 1.16 * 0.84 * 0.9)) ** (1 / 3)
    front_y = SYMPHYSIS_BACK_Y_MM * anatomy.skeleton_scale + anatomy.retropubic_mm
    behind_y = front_y + 2 * 0.84 * nominal_mm
    rectum, pushed_mm = _rectum(anatomy, nominal_mm, behind_y, rng)
    give_mm = min(max(pushed_mm, 0.0) * 0.7, anatomy.retropubic_mm - 3.0)
    gland = _Gland(
        apex_z=anatomy.prostate_apex_mm,
        middle_y=front_y - give_mm + 0.84 * nominal_mm,
        middle_x=float(rng.normal(0.0, 1.5)),
        taper=anatomy.apex_taper,
        lobes=float(rng.normal(0.0, 0.06)),
        bumps=tuple(rng.normal(0.0, [0.07, 0.05, 0.05, 0.07, 0.05]).tolist()),
    )

    def prostate_of(size: float) -> Shape:
        whole = gland.shape(size)
        return lambda at: without(whole(at), rectum(at) - 1.5, bones(at) - 2.0)

    prostate_box: Box = ((-70, -65, -55), (70, 65, 55))
    size = _sized(prostate_of, nominal_mm, anatomy.prostate_ml, prostate_box, 2.0)
    prostate = prostate_of(size)
    base_z = gland.apex_z + 2 * size
    vesicles, vesicles_box, beneath = _seminal_vesicles(anatomy, gland, size, prostate, rectum, rng)
    bladder, bladder_box = _bladder(anatomy, base_z, [prostate, vesicles], beneath, rectum, bones, rng)
    return PelvisOrgans(
        prostate=prostate,
        prostate_box=prostate_box,
        prostate_z_mm=gland.apex_z + size,
        transition_zone=gland.shape(size, 0.58 + 0.0022 * anatomy.prostate_ml),
        seminal_vesicles=vesicles,
        seminal_vesicles_box=vesicles_box,
        bladder=bladder,
        bladder_box=bladder_box,
        rectum=rectum,
        rectum_box=((_RECTUM_BOTTOM_MM - 2, -30, -70), (anatomy.rectum_top_mm + 2, 120, 70)),
    )


def _rectum(
    anatomy: PelvisAnatomy, half_height_mm: float, behind_y: float, rng: np.random.Generator
) -> tuple[SliceTube, float]:
    """The rectum, and how much of it would lie inside the prostate if that did not give way, mm."""
    top, middle_z = anatomy.rectum_top_mm, anatomy.prostate_apex_mm + half_height_mm
    heights = np.array([_RECTUM_BOTTOM_MM, -44.0, -30.0, middle_z, middle_z + 22.0, 0.55 * top + 15.0, top])
    heights = np.maximum.accumulate(heights + np.arange(len(heights)) * 1e-3)
    heights[3:6] = np.clip(heights[3:6], -22.0, top - 8.0) + np.array([0.0, 3.0, 6.0])
    ampulla = anatomy.rectum_radius_mm
    canal, upper = rng.uniform(10.0, 13.0), rng.uniform(10.0, 16.0)
    share = rng.uniform(0.85, 1.15, 3)
    radius = np.array([canal - 1, canal, 0.55 * ampulla + 5, *(ampulla * share), upper])
    flat = rng.uniform(0.85, 1.35, 7) ** 0.5
    radius_y, radius_x = radius / flat, radius * flat
    hollow = sacrum(anatomy)
    centre, _, depth, _ = hollow.at_height(heights)
    before_sacrum = centre - depth - _PRESACRAL_MM - radius_y
    at_prostate = behind_y + 2.0 + radius_y[3]
    pushed_mm = at_prostate - before_sacrum[3]
    low_y = min(at_prostate, float(before_sacrum[3]))
    # The canal keeps its place on the pelvic floor more than the rectum above it.
    y = np.array([0.5 * low_y + 22.0, 0.6 * low_y + 13.0, 0.9 * low_y + 1.0, low_y, 0.0, 0.0, 0.0])
    bending = rng.uniform(0.5, 1.0, 3)
    y[4:] = np.minimum(before_sacrum[4:], low_y + bending * (before_sacrum[4:] - low_y) + 4.0)
    y[4] = min(y[4], low_y + 0.55 * (heights[4] - heights[3]))
    y[5] = min(y[5], y[4] + 0.6 * (heights[5] - heights[4]))
    x = np.array([0.0, 0.0, 0.0, *rng.normal(0.0, [2.5, 6.0, 10.0]), rng.normal(6.0, 10.0)])
    columns = [column.tolist() for column in (heights, y, x, radius_y, radius_x)]
    return SliceTube(*columns), float(pushed_mm)


def _seminal_vesicles(
    anatomy: PelvisAnatomy,
    gland: _Gland,
    size: float,
    prostate: Shape,
    rectum: SliceTube,
    rng: np.random.Generator,
) -> tuple[Shape, Box, Shape]:
    """A bow tie: from the base of the prostate to both sides, upwards and backwards; thickest half way.

    The last shape is the half-space behind and beneath them, where no bladder is.
    """
    a, b, _ = gland.radii(size)
    start_z, start_y = gland.apex_z + 1.78 * a, gland.middle_y + 0.55 * b
    sides = [_vesicle_path(start_z, start_y, rectum, rng) for _ in range(2)]
    profile = np.array([0.62, 0.85, 1.1, 1.0, 0.6])
    thickness = rng.uniform(0.88, 1.12, 2)

    def vesicles_of(radius: float) -> Shape:
        left, right = (
            Chain(path, (profile * radius * t).tolist()) for path, t in zip(sides, thickness.tolist(), strict=True)
        )
        pair = united([left, mirrored(right)], 3.0)
        return lambda at: without(pair(at), prostate(at), rectum(at) - 1.0)

    box: Box = ((start_z - 20, start_y - 30, -65), (start_z + 50, start_y + 45, 65))
    radius = _sized(vesicles_of, 6.0, anatomy.seminal_vesicles_ml, box, 2.0)
    nodes = np.array(sides)
    front_y, middle_z = float(nodes[..., 1].min()), 0.4 * start_z + 0.6 * float(nodes[..., 0].max())

    def beneath(at: Coordinates) -> Field:
        return np.asarray((at[0] - np.float32(middle_z) - at[1] + np.float32(front_y)) / np.sqrt(2), np.float32)

    return vesicles_of(radius), box, beneath


def _vesicle_path(
    start_z: float, start_y: float, rectum: SliceTube, rng: np.random.Generator
) -> list[tuple[float, float, float]]:
    length, rise, back = rng.uniform(32.0, 46.0), rng.uniform(6.0, 22.0), rng.uniform(2.0, 12.0)
    along = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    z = start_z + rise * along + rng.normal(0.0, 1.5, 5)
    x = 4.0 + length * along
    y = start_y + back * along**1.5 + rng.normal(0.0, 1.0, 5)
    # The vesicles lie on the rectum, however full that is.
    rectum_y, _, radius_y, radius_x = rectum.at_height(z)
    bow = np.sqrt(np.clip(1 - (x / (radius_x + 6)) ** 2, 0.0, 1.0))
    y = np.minimum(y, rectum_y - radius_y * bow - 5.0)
    return [(float(a), float(b), float(c)) for a, b, c in zip(z, y, x, strict=True)]


def _bladder(
    anatomy: PelvisAnatomy,
    base_z: float,
    neighbours: list[Shape],
    beneath: Shape,
    rectum: SliceTube,
    bones: Shape,
    rng: np.random.Generator,
) -> tuple[Shape, Box]:
    """Flat on the prostate when empty; when full, rounder, higher and further forward."""
    filling = (anatomy.bladder_ml - 60.0) / 440.0
    high = 0.62 + 0.42 * filling + rng.uniform(-0.06, 0.06)
    deep = 0.84 + 0.06 * filling + rng.uniform(-0.08, 0.08)
    overlap_mm, middle_x = rng.uniform(2.0, 6.0), rng.normal(0.0, 4.0)
    front_y = SYMPHYSIS_BACK_Y_MM * anatomy.skeleton_scale + rng.uniform(2.0, 8.0) - 16.0 * filling
    one, two, three, dome = rng.normal(0.0, [0.08, 0.08, 0.06, 0.08])
    flat = 0.28 * (1 - filling) + dome
    walls_x = 49.0 * anatomy.skeleton_scale

    def bladder_of(width: float) -> Shape:
        a, b = width * high, width * deep
        mean = (a * b * width) ** (1 / 3)

        def distance(at: Coordinates) -> Field:
            w = (at[0] - np.float32(base_z - overlap_mm + a)) / np.float32(a)
            v = (at[1] - np.float32(front_y + b)) / np.float32(b)
            u = (at[2] - np.float32(middle_x)) / np.float32(width)
            w = w + np.float32(flat) * np.clip(1 - u * u - v * v, -1, 1) * (w > 0) * w
            norm = np.sqrt(w * w + v * v + u * u) + np.float32(1e-4)
            p, q, r = w / norm, v / norm, u / norm
            bumped = 1 + np.float32(one) * p * q + np.float32(two) * p * r + np.float32(three) * (r * r - q * q) * q
            whole = np.asarray((norm / bumped - 1) * np.float32(mean), np.float32)
            side = np.abs(at[2]) - np.float32(walls_x) - np.float32(0.7) * np.maximum(at[0] - 25, 0)
            whole = -smooth_minimum(-whole, beneath(at), _BASE_ROUNDING_MM)
            room = [neighbour(at) - np.float32(0.3) for neighbour in neighbours]
            return np.maximum(without(whole, *room, rectum(at) - 2.0, bones(at) - 3.0), side)

        return distance

    nominal = (anatomy.bladder_ml * 1000.0 / (4 / 3 * np.pi * high * deep)) ** (1 / 3)
    reach = 1.6 * nominal
    box: Box = (
        (base_z - 12, max(front_y - 12, -110), -reach),
        (base_z + 2.2 * reach * high, front_y + 2 * reach, reach),
    )
    return bladder_of(_sized(bladder_of, nominal, anatomy.bladder_ml, box, 3.0)), box


def _sized(shape_of: Callable[[float], Shape], start: float, volume_ml: float, box: Box, step_mm: float) -> float:
    """The size at which the shape has the volume, counted on points `step_mm` apart; parts of points at the edge."""
    axes = [np.arange(low, high, step_mm).astype(np.float32) for low, high in zip(*box, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    size = start
    for _ in range(_ROUNDS):
        inside = np.clip(0.5 - shape_of(size)((z, y, x)) / np.float32(step_mm), 0.0, 1.0)
        found_ml = float(inside.sum(dtype=np.float64)) * step_mm**3 / 1000.0
        size *= (volume_ml / max(found_ml, 1e-3)) ** (1 / 3)
    return size
