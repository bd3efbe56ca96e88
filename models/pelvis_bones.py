"""Bones of a male pelvis as implicit shapes, in mm from the middle between the femoral heads; left side, x > 0."""

from dataclasses import dataclass

import numpy as np

from models.implicit_shapes import (
    Chain,
    Coordinates,
    Ellipsoid,
    Field,
    Shape,
    SliceTube,
    mirrored,
    scaled,
    smooth_minimum,
    united,
)
from models.pelvis_anatomy import PelvisAnatomy
from models.pelvis_canvas import Box, Canvas

HEAD_X_MM = 88.0
"""Of the centre of a femoral head from the midline, at scale 1."""
SYMPHYSIS_BACK_Y_MM = -44.0
_CUP_GAP_MM, _CUP_THICK_MM = 2.5, 9.0
_WHOLE: Box = ((-400.0, -150.0, -230.0), (400.0, 150.0, 230.0))
_METAL_HU, _METAL_MR = 3071.0, 5.0


@dataclass(frozen=True)
class Bone:
    """One bone and how thick its cortex is."""

    shape: Shape
    box: Box
    cortex_mm: float
    marrow_hu_more: float = 0.0
    """Than the marrow of the patient."""


def femoral_head(anatomy: PelvisAnatomy) -> Shape:
    """The left one."""
    radius = anatomy.head_radius_mm
    return Ellipsoid((0.0, 0.0, HEAD_X_MM * anatomy.skeleton_scale), (radius, radius, radius))


def pubis(anatomy: PelvisAnatomy) -> Shape:
    """Upper rami and symphysis of both sides: what bladder and prostate stop at."""

    def distance(at: Coordinates) -> Field:
        sided = (at[0], at[1], np.abs(at[2]))
        return np.minimum(_ramus(sided), _pubic_body(sided))

    return scaled(distance, anatomy.skeleton_scale)


def sacrum(anatomy: PelvisAnatomy) -> SliceTube:
    """With the coccyx; curved, and tapering downwards."""
    s, back = anatomy.skeleton_scale, anatomy.sacrum_shift_mm
    front = np.array([54.0, 66.0 + 0.5 * back, 70.0 + back, 61.0 + back, 45.0, 28.0]) * s
    depth = np.array([5.0, 7.0, 11.0, 15.0, 19.0, 21.0]) * s
    return SliceTube(
        z=(np.array([-12.0, 15.0, 40.0, 68.0, 95.0, 124.0]) * s).tolist(),
        y=(front + depth).tolist(),
        x=[0.0] * 6,
        radius_y=depth.tolist(),
        radius_x=(np.array([6.0, 17.0, 32.0, 44.0, 54.0, 56.0]) * s).tolist(),
    )


def paint_bones(canvas: Canvas, anatomy: PelvisAnatomy) -> None:
    """Paint all bones; a metal hip takes the place of head, neck and the middle of the shaft."""
    for bone in _bones(anatomy):
        _paint(canvas, bone, anatomy)
    for hip in anatomy.metal_hips:
        stem = _stem(anatomy)
        canvas.paint(stem if hip == "L" else mirrored(stem), _WHOLE, _METAL_HU, _METAL_MR)


def metal_centres_mm(anatomy: PelvisAnatomy) -> list[tuple[float, float]]:
    """(y, x) of each metal hip in the coordinates of the patient."""
    x = HEAD_X_MM * anatomy.skeleton_scale
    return [(0.0, x if hip == "L" else -x) for hip in anatomy.metal_hips]


def _bones(anatomy: PelvisAnatomy) -> list[Bone]:
    s = anatomy.skeleton_scale
    head = femoral_head(anatomy)
    shaft = Chain(((-300, 2, 118), (-45, 8, 138), (-12, 8, 140)), (15, 15, 17))
    femur = united([scaled(united([_neck, _trochanter, shaft], 8.0), s), head], 4.0)
    cup_box: Box = ((-50.0, -50.0, 35.0), (60.0, 60.0, 150.0))
    bones = [
        Bone(sacrum(anatomy), ((-15 * s, 0, -65 * s), (130 * s, 110 * s, 65 * s)), 1.5),
        Bone(scaled(_vertebra, s), ((115, -60, -60), (200, 120, 60)), 1.5, -20.0),
    ]
    sided = [
        (scaled(united([_ilium, _iliac_column, _ischium], 8.0), s), ((-75, -75, 30), (150, 100, 165)), 2.0, 0.0),
        (_cup(anatomy), cup_box, 2.0, 60.0),
        (scaled(_pubis_left, s), ((-70, -75, -5), (40, 60, 95)), 2.0, 0.0),
        (femur, ((-320, -40, 50), (40, 60, 185)), 3.5, 60.0),
    ]
    for shape, (low, high), cortex_mm, more in sided:
        bones.append(Bone(shape, (low, high), cortex_mm, more))
        other: Box = ((low[0], low[1], -high[2]), (high[0], high[1], -low[2]))
        bones.append(Bone(mirrored(shape), other, cortex_mm, more))
    return bones


def _paint(canvas: Canvas, bone: Bone, anatomy: PelvisAnatomy) -> None:
    cortex, marrow = anatomy.tissues["cortex"], anatomy.tissues["marrow"]
    region = canvas.region(bone.box)
    distance = canvas.distance(bone.shape, region)
    canvas.fill(region, distance, cortex.hu, cortex.mr)
    canvas.fill(region, distance + np.float32(bone.cortex_mm), marrow.hu + bone.marrow_hu_more, marrow.mr)


def _ilium(at: Coordinates) -> Field:
    """The wing: a slab that is sheared, so that it runs from the sacrum to anterior lateral and flares upwards."""
    z, y, x = at
    turned = x - 0.22 * (z - 60.0) + 0.62 * (y - 10.0) + 0.0022 * (y - 10.0) ** 2
    slab = Ellipsoid((78.0, 12.0, 104.0), (62.0, 66.0, 9.5), 2.6)
    return slab((z, y, turned)) * np.float32(0.8)


def _cup(anatomy: PelvisAnatomy) -> Shape:
    """The acetabulum: the part of a spherical shell that covers the head from above, medial and behind."""
    head = femoral_head(anatomy)
    x_head = HEAD_X_MM * anatomy.skeleton_scale

    def distance(at: Coordinates) -> Field:
        z, y, x = at
        from_head = head(at)
        layer = np.abs(from_head - (_CUP_GAP_MM + _CUP_THICK_MM / 2)) - _CUP_THICK_MM / 2
        opening = 0.45 * z + 0.30 * y - 0.85 * (x - x_head) + np.float32(4.0)
        return np.asarray(np.maximum(layer, -opening), np.float32)

    return distance


_neck = Chain(((-2, 0, 92), (-26, 6, 136)), (17, 16))
_trochanter = Ellipsoid((-14.0, 16.0, 146.0), (26.0, 19.0, 15.0))
_iliac_column = Chain(((70, 34, 80), (36, 8, 94)), (13, 17))
_ischium = Chain(((25, 30, 84), (-5, 34, 76), (-42, 32, 66), (-60, 26, 58)), (14, 13, 13, 12))
_ramus = Chain(((8, -24, 68), (6, -42, 40), (2, -52, 14)), (11, 8, 9))
_lower_ramus = Chain(((-22, -50, 11), (-40, -24, 34), (-58, 18, 56)), (8, 6.5, 9))
_pubic_body = Ellipsoid((-8.0, -54.0, 13.0), (21.0, 10.0, 11.0), 2.5)


def _pubis_left(at: Coordinates) -> Field:
    """Open in the middle by the cartilage of the symphysis."""
    both = smooth_minimum(smooth_minimum(_ramus(at), _lower_ramus(at), 4.0), _pubic_body(at), 5.0)
    return np.asarray(np.maximum(both, np.float32(2.0) - at[2]), np.float32)


def _vertebra(at: Coordinates) -> Field:
    body = Ellipsoid((147.0, 22.0, 0.0), (15.0, 19.0, 27.0), 3.5)(at)
    arch = Chain(((147, 62, 0), (147, 85, 0)), (7, 5))(at)
    return smooth_minimum(body, arch, 3.0)


def _stem(anatomy: PelvisAnatomy) -> Shape:
    """A metal head in its cup, a neck and a stem in the shaft."""
    s = anatomy.skeleton_scale
    x = HEAD_X_MM * s
    head = Ellipsoid((0.0, 0.0, x), (19.0, 19.0, 19.0))
    stem = scaled(Chain(((-4, 0, 92), (-26, 6, 132), (-55, 8, 136), (-150, 5, 130)), (8, 9, 8, 4.5)), s)
    return united([head, stem])
