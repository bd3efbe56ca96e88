"""A made-up male pelvis in CT and MR with the truth of its organs, another patient for every seed.

Axes of every array are [slice, row, column]: towards the head, to posterior, to the patient's left. Millimetres are
measured from the middle of the image, where, give or take a shift, the middle between the femoral heads lies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.implicit_shapes import Point, mirrored
from models.intensity import Hu, Mask
from models.pelvis_anatomy import PelvisAnatomy
from models.pelvis_body import paint_between_organs, paint_body
from models.pelvis_bones import HEAD_X_MM, femoral_head, metal_centres_mm, paint_bones
from models.pelvis_canvas import Canvas
from models.pelvis_noise import (
    TissuePatch,
    ct_noise,
    metal_streaks,
    mr_image,
    random_field,
    real_texture,
    with_ct_noise,
)
from models.pelvis_organ_painting import paint_organs, voxels_of
from models.pelvis_organs import drawn_organs

_COARSE_MM, _FINE_MM = 3.0, 1.6


@dataclass(frozen=True)
class PelvisPhantom:
    """One made-up patient."""

    hu_zyx: Hu
    mr_zyx: Hu
    """T2-weighted, on the grid of the CT; no unit."""
    spacing_zyx_mm: Point
    masks: Mapping[str, Mask]
    """By TG-263 name: the organs, which do not overlap, Femur_Head_L and _R, and External."""
    anatomy: PelvisAnatomy
    """What was drawn."""


def parametric_pelvis(
    shape_zyx: tuple[int, int, int],
    spacing_zyx_mm: Point,
    rng: np.random.Generator,
    texture: TissuePatch | None = None,
    prostate_z_mm: float | None = None,
) -> PelvisPhantom:
    """Draw a patient and paint them on a grid.

    The anatomy depends on the state of `rng` alone, not on the grid. With a `texture` the residual of real soft tissue
    takes the place of part of the noise in tissue of the density of fat and muscle. With `prostate_z_mm` the middle of
    the prostate lies that high over the middle of the image; else the femoral heads lie there, give or take 12 mm.
    """
    anatomy = PelvisAnatomy.drawn(rng)
    organs = drawn_organs(anatomy, rng)
    if prostate_z_mm is not None:
        anatomy = _lifted(anatomy, prostate_z_mm - organs.prostate_z_mm)
    for_body, for_organs, for_scanner, for_grid = rng.spawn(4)
    canvas = Canvas(shape_zyx, spacing_zyx_mm, anatomy.pose)
    coarse, fine = (random_field(shape_zyx, spacing_zyx_mm, mm, for_grid) for mm in (_COARSE_MM, _FINE_MM))
    body = paint_body(canvas, anatomy, coarse)
    paint_bones(canvas, anatomy)
    paint_between_organs(canvas, anatomy, organs, coarse, for_body)
    masks = paint_organs(canvas, anatomy, organs, (coarse, fine), for_organs)
    masks |= _further_masks(canvas, anatomy, body < 0.0)
    hu = canvas.hu
    if anatomy.metal_hips:
        hu = hu + metal_streaks(canvas.at, metal_centres_mm(anatomy), for_scanner)
    noise = ct_noise(shape_zyx, spacing_zyx_mm, anatomy.noise_sd_hu, anatomy.noise_mm, for_grid)
    laid = None if texture is None else real_texture(texture, shape_zyx, spacing_zyx_mm, for_grid)
    return PelvisPhantom(
        hu_zyx=with_ct_noise(hu, noise, laid),
        mr_zyx=mr_image(canvas.mr, body < 0.0, spacing_zyx_mm, for_scanner),
        spacing_zyx_mm=spacing_zyx_mm,
        masks=masks,
        anatomy=anatomy,
    )


def _lifted(anatomy: PelvisAnatomy, origin_z_mm: float) -> PelvisAnatomy:
    _, back, left = anatomy.pose.shift_mm
    return replace(anatomy, pose=replace(anatomy.pose, shift_mm=(origin_z_mm, back, left)))


def _further_masks(canvas: Canvas, anatomy: PelvisAnatomy, external: Mask) -> dict[str, Mask]:
    head, x = femoral_head(anatomy), HEAD_X_MM * anatomy.skeleton_scale
    left = ((-30.0, -30.0, x - 30.0), (30.0, 30.0, x + 30.0))
    right = ((-30.0, -30.0, -x - 30.0), (30.0, 30.0, -x + 30.0))
    return {
        "Femur_Head_L": voxels_of(canvas, head, left),
        "Femur_Head_R": voxels_of(canvas, mirrored(head), right),
        "External": external,
    }
