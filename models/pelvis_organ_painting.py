"""The inside of prostate, seminal vesicles, bladder and rectum in CT and MR, and their masks."""

import numpy as np
from scipy import ndimage

from models.implicit_shapes import Coordinates, Ellipsoid, Field, Shape
from models.intensity import AIR_HU, Mask
from models.pelvis_anatomy import PelvisAnatomy
from models.pelvis_canvas import Box, Canvas, Region
from models.pelvis_organs import PelvisOrgans

_RECTUM_WALL_MM = 3.0
_GOLD_HU, _GOLD_MM = 3000.0, 1.3
_CALCIFICATION_SHARE = 0.3
_CUT_OFF_SHARE = 0.02
"""Pieces smaller than this part of the largest are not of the organ: corners of voxels at its edge."""


def paint_organs(
    canvas: Canvas,
    anatomy: PelvisAnatomy,
    organs: PelvisOrgans,
    texture: tuple[Field, Field],
    rng: np.random.Generator,
) -> dict[str, Mask]:
    """Paint the four organs, and return their voxels by TG-263 name; `texture` is coarse and fine, of SD 1."""
    coarse, fine = texture
    return {
        "Bladder": _paint_bladder(canvas, anatomy, organs),
        "SeminalVes": _paint_seminal_vesicles(canvas, anatomy, organs, fine),
        "Prostate": _paint_prostate(canvas, anatomy, organs, coarse, fine, rng),
        "Rectum": _paint_rectum(canvas, anatomy, organs, coarse, rng),
    }


def voxels_of(canvas: Canvas, shape: Shape, box: Box) -> Mask:
    """Voxels whose centre is inside."""
    mask = np.zeros(canvas.hu.shape, bool)
    region = canvas.region(box)
    mask[region] = canvas.distance(shape, region) < 0.0
    return mask


def _whole(canvas: Canvas, region: Region, inside: Mask) -> Mask:
    """The mask on all of the image, without voxels that the grid has cut off from the organ."""
    mask = np.zeros(canvas.hu.shape, bool)
    labels, count = ndimage.label(inside)
    sizes = np.bincount(labels.ravel())[1:]
    mask[region] = inside if count < 2 else (sizes >= _CUT_OFF_SHARE * sizes.max())[labels - 1] & inside
    return mask


def _paint_bladder(canvas: Canvas, anatomy: PelvisAnatomy, organs: PelvisOrgans) -> Mask:
    region = canvas.region(organs.bladder_box)
    distance = canvas.distance(organs.bladder, region)
    wall, urine = anatomy.tissues["bladder_wall"], anatomy.tissues["urine"]
    canvas.fill(region, distance, wall.hu, wall.mr)
    canvas.fill(region, distance + np.float32(anatomy.bladder_wall_mm), urine.hu, urine.mr)
    return _whole(canvas, region, distance < 0.0)


def _paint_seminal_vesicles(canvas: Canvas, anatomy: PelvisAnatomy, organs: PelvisOrgans, fine: Field) -> Mask:
    region = canvas.region(organs.seminal_vesicles_box)
    distance = canvas.distance(organs.seminal_vesicles, region)
    tissue = anatomy.tissues["seminal_vesicle"]
    # Coiled tubes: bright fluid between dark walls on MR, hardly to be seen on CT.
    coils = np.tanh(1.5 * fine[region])
    canvas.fill(region, distance, tissue.hu + 2.0 * coils, tissue.mr * (1.0 + 0.4 * coils))
    return _whole(canvas, region, distance < 0.0)


def _paint_prostate(
    canvas: Canvas,
    anatomy: PelvisAnatomy,
    organs: PelvisOrgans,
    coarse: Field,
    fine: Field,
    rng: np.random.Generator,
) -> Mask:
    region = canvas.region(organs.prostate_box)
    distance = canvas.distance(organs.prostate, region)
    inner = np.maximum(canvas.distance(organs.transition_zone, region), distance + np.float32(2.0))
    outer_zone, inner_zone = anatomy.tissues["peripheral_zone"], anatomy.tissues["prostate"]
    nodules = np.tanh(1.2 * coarse[region])
    canvas.fill(region, distance, outer_zone.hu, 0.45 * outer_zone.mr)
    canvas.fill(region, distance + np.float32(1.0), outer_zone.hu, outer_zone.mr * (1.0 + 0.10 * fine[region]))
    canvas.fill(region, inner, inner_zone.hu + 2.0 * nodules, inner_zone.mr * (1.0 + 0.35 * nodules))
    mask = _whole(canvas, region, distance < 0.0)
    _paint_specks(canvas, anatomy, mask, rng)
    return mask


def _paint_specks(canvas: Canvas, anatomy: PelvisAnatomy, prostate: Mask, rng: np.random.Generator) -> None:
    """Gold seeds and calcifications."""
    count_stones = int(rng.integers(1, 6)) if rng.random() < _CALCIFICATION_SHARE else 0
    shares = rng.random(3 + count_stones)
    inside = np.flatnonzero(prostate)
    for number, share in enumerate(shares.tolist()):
        is_seed = number < 3
        if not len(inside) or (is_seed and not anatomy.has_markers):
            continue
        voxel = np.unravel_index(inside[int(share * len(inside))], prostate.shape)
        z, y, x = (float(axis[voxel]) for axis in canvas.at)
        radius, hu = (_GOLD_MM, _GOLD_HU) if is_seed else (float(0.8 + share), 350.0)
        box: Box = ((z - 4, y - 4, x - 4), (z + 4, y + 4, x + 4))
        canvas.paint(Ellipsoid((z, y, x), (radius,) * 3), box, hu, 30.0)


def _paint_rectum(
    canvas: Canvas, anatomy: PelvisAnatomy, organs: PelvisOrgans, coarse: Field, rng: np.random.Generator
) -> Mask:
    region = canvas.region(organs.rectum_box)
    distance = canvas.distance(organs.rectum, region)
    wall, stool, muscle = (anatomy.tissues[name] for name in ("rectum_wall", "stool", "muscle"))
    waves = rng.uniform(0.0, 2 * np.pi, 2)
    lengths = rng.uniform([70.0, 32.0], [130.0, 50.0])
    canvas.fill(region, distance, wall.hu, wall.mr)
    # Mottled: bubbles of gas make part of the stool dark.
    bubbles = 1.0 / (1.0 + np.exp(-4.0 * (coarse[region] - 1.3)))
    held = stool if anatomy.has_stool else wall
    lumen = distance + np.float32(_RECTUM_WALL_MM)
    canvas.fill(region, lumen, held.hu - (350.0 * bubbles if anatomy.has_stool else 0.0), held.mr * (1 - 0.5 * bubbles))
    canal = np.maximum(distance + np.float32(2.0), canvas.at[0][region] + np.float32(36.0))
    canvas.fill(region, canal, muscle.hu - 5.0, muscle.mr)

    def gas(at: Coordinates) -> Field:
        z, y, _ = at
        fullness = 0.75 * np.sin(2 * np.pi * z / lengths[0] + waves[0]) + 0.25 * np.sin(
            2 * np.pi * z / lengths[1] + waves[1]
        )
        share = 2.0 * anatomy.rectum_gas * (0.5 + 0.7 * fullness) - 0.15
        heights = np.linspace(organs.rectum.z[0], organs.rectum.z[-1], 256)
        middle, _, radius, _ = organs.rectum.at_height(heights)
        front = np.interp(z, heights, middle - radius)
        depth = np.interp(z, heights, 2 * radius)
        # Gas lies in front, with a level surface: the patient is supine.
        level = front + _RECTUM_WALL_MM + np.clip(share, -0.3, 1.0) * (depth - 2 * _RECTUM_WALL_MM)
        return np.asarray(np.maximum(y - level, -36 - z), np.float32)

    pocket = np.maximum(lumen, canvas.distance(gas, region))
    canvas.fill(region, pocket, AIR_HU + 20.0, 8.0)
    return _whole(canvas, region, distance < 0.0)
