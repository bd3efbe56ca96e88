"""Body outline, muscles, vessels, bowel and other soft tissue of a made-up male pelvis, painted on a canvas."""

from collections.abc import Sequence

import numpy as np

from models.implicit_shapes import (
    Chain,
    Coordinates,
    Ellipsoid,
    Field,
    Point,
    Shape,
    mirrored,
    scaled,
    shell,
    smooth_minimum,
    united,
)
from models.intensity import AIR_HU
from models.pelvis_anatomy import PelvisAnatomy, Tissue
from models.pelvis_canvas import Box, Canvas
from models.pelvis_organs import PelvisOrgans

BODY_MIDDLE_Y_MM = 9.0
_PERINEUM_MM = -78.0
_SKIN_MM = 2.0
_GAS = Tissue(AIR_HU + 30.0, 8.0)


def body_outline(anatomy: PelvisAnatomy) -> Shape:
    """Trunk, narrower at the waist, and both thighs."""
    a, b = anatomy.half_width_mm, anatomy.half_depth_mm
    leg_x, leg_a, leg_b = 0.5 * a, 0.5 * a - 2.0, 0.82 * b

    def distance(at: Coordinates) -> Field:
        z, y, x = at
        waist = 1 - np.float32(0.10) * np.clip((z - 40) / 120, 0, 1) - np.float32(0.03) * np.clip(-z / 80, 0, 1)
        back = np.asarray(y - np.float32(BODY_MIDDLE_Y_MM), np.float32)
        cleft = np.float32(14.0) * np.exp(-((x / 9) ** 2)) * np.clip((55 - z) / 60, 0, 1) * (back > 0)
        trunk = _superellipse(back, np.asarray(x / waist, np.float32), b, a, 2.4) + cleft
        trunk = np.maximum(trunk, np.float32(_PERINEUM_MM) - z)
        thinner = 1 - np.float32(0.0012) * np.clip(-60 - z, 0, 250)
        legs = _superellipse(back, np.asarray(np.abs(x) - leg_x, np.float32), leg_b, leg_a, 2.1) + (1 - thinner) * leg_a
        legs = np.maximum(legs, z + 20)
        return smooth_minimum(trunk, legs, 16.0)

    return distance


def paint_body(canvas: Canvas, anatomy: PelvisAnatomy, texture: Field) -> Field:
    """Skin, fat and the muscles inside; returns the distance from the skin. `texture` has SD 1."""
    outline = body_outline(anatomy)
    everything = (slice(0, canvas.hu.shape[0]), slice(0, canvas.hu.shape[1]), slice(0, canvas.hu.shape[2]))
    body = canvas.distance(outline, everything)
    skin, fat = anatomy.tissues["skin"], anatomy.tissues["fat"]
    canvas.fill(everything, body, skin.hu, skin.mr)
    canvas.fill(everything, body + np.float32(_SKIN_MM), fat.hu + 10.0 * np.maximum(texture - 0.5, 0), fat.mr)
    _paint_genitals(canvas, anatomy)
    muscle = anatomy.tissues["muscle"]
    for shape, box in _muscles(anatomy):
        region = canvas.region(box)
        # Fat streaks run through the muscle; none reaches the skin.
        distance = canvas.distance(shape, region) + np.maximum(texture[region] - 1.1, 0) * np.float32(2.5)
        distance = np.maximum(distance, body[region] + np.float32(_SKIN_MM + 3.0))
        canvas.fill(region, distance, muscle.hu, muscle.mr)
    return body


def paint_between_organs(
    canvas: Canvas, anatomy: PelvisAnatomy, organs: PelvisOrgans, texture: Field, rng: np.random.Generator
) -> None:
    """Levator, penile bulb, vessels, bowel: what lies beside the organs and is none of them."""
    _paint_strands(canvas, anatomy, organs, texture)
    _paint_levator(canvas, anatomy, organs)
    bulb = anatomy.tissues["bulb"]
    apex_z, s = anatomy.prostate_apex_mm, anatomy.skeleton_scale
    size = rng.uniform(0.8, 1.2)
    bulb_y = float(rng.uniform(-4.0, 6.0))
    for shape in (
        Ellipsoid((apex_z - 18.0, bulb_y, 0.0), (9.0 * size, 14.0 * size, 9.0 * size)),
        Chain(((apex_z - 18, bulb_y, 0), (apex_z - 22, bulb_y - 35, 0), (apex_z - 20, -75, 0)), (8, 7, 9)),
        united([_crus, mirrored(_crus)]),
        # The membranous urethra with its sphincter goes on from the apex.
        Chain(((apex_z + 4, bulb_y - 8, 0), (apex_z - 16, bulb_y - 4, 0)), (6, 5)),
    ):
        canvas.paint(shape, ((-130, -110, -60), (0, 60, 60)), bulb.hu, bulb.mr)
    _paint_vessels(canvas, anatomy, s, rng)
    _paint_bowel(canvas, anatomy, organs, texture, rng)


def _superellipse(y: Field, x: Field, b: float, a: float, power: float) -> Field:
    return Ellipsoid((0.0, 0.0, 0.0), (1e6, b, a), power)((np.zeros((1, 1, 1), np.float32), y, x))


def _paint_genitals(canvas: Canvas, anatomy: PelvisAnatomy) -> None:
    bulb, front = anatomy.tissues["bulb"], BODY_MIDDLE_Y_MM - anatomy.half_depth_mm
    scrotum = Ellipsoid((-92.0, front + 22.0, 0.0), (34.0, 26.0, 34.0))
    canvas.paint(scrotum, ((-140, -180, -60), (-40, 30, 60)), 20.0, anatomy.tissues["fat"].mr)
    testis = Ellipsoid((-98.0, front + 20.0, 16.0), (20.0, 13.0, 13.0))
    canvas.paint(united([testis, mirrored(testis)]), ((-140, -180, -60), (-40, 30, 60)), bulb.hu, bulb.mr)


def _muscles(anatomy: PelvisAnatomy) -> list[tuple[Shape, Box]]:
    s, m = anatomy.skeleton_scale, anatomy.muscle_scale
    back = BODY_MIDDLE_Y_MM + anatomy.half_depth_mm - 26.0 - 22.0 * anatomy.adiposity
    left: list[tuple[Shape, Box]] = [
        (_gluteus_maximus(back, m), ((-90, 20, -5), (110, 150, 175))),
        (Ellipsoid((55.0, -4.0, 128.0 * s), (62.0, 46.0 * m, 19.0 * m), 2.3), ((-20, -65, 90), (125, 55, 175))),
        (Chain(((180, 12, 42), (110, 4, 62), (40, -34, 84), (-30, -24, 98)), _by(m, 24, 27, 19, 11)), _sided(200)),
        (_obturator(s, m), ((-60, -50, 30), (55, 60, 85))),
        (Chain(((48, 66, 38), (30, 54, 82), (12, 34, 130)), _by(m, 11, 13, 7)), ((0, 10, 20), (80, 100, 160))),
        (Ellipsoid((-40.0, -30.0, 52.0), (22.0, 22.0, 34.0 * m)), ((-75, -65, 5), (0, 10, 95))),
        (Ellipsoid((-14.0, -42.0, 98.0), (30.0, 17.0 * m, 27.0 * m)), ((-60, -75, 55), (30, 0, 140))),
        (Chain(((-30, 38, 68), (-26, 34, 122)), _by(m, 13, 10)), ((-55, 10, 45), (0, 70, 145))),
        (Chain(((6, 44, 52), (-4, 46, 84), (-2, 30, 132)), _by(m, 9, 9, 7)), ((-25, 5, 35), (25, 70, 150))),
        (
            Chain(((-70, -36, 112), (-20, -48, 112), (50, -46, 122)), _by(m, 20, 15, 9)),
            ((-100, -90, 80), (70, -10, 150)),
        ),
        (Ellipsoid((10.0, -22.0, 148.0), (46.0, 28.0 * m, 14.0 * m)), ((-50, -70, 120), (75, 30, 180))),
        (Chain(((-150, -8, 84), (-60, -10, 66), (-34, -22, 40)), _by(m, 50, 34, 16)), _sided(0)),
        (Chain(((-260, 5, 104), (-100, -8, 124), (-30, 2, 136)), _by(m, 58, 46, 30)), _sided(0)),
        (Chain(((-260, 50, 92), (-110, 52, 80), (-60, 36, 66)), _by(m, 40, 30, 16)), _sided(0)),
        (Chain(((200, 96, 28), (120, 100, 26), (70, 104, 18)), _by(m, 26, 22, 9)), ((40, 60, 0), (240, 150, 70))),
    ]
    front = BODY_MIDDLE_Y_MM - anatomy.half_depth_mm + 12.0 + 24.0 * anatomy.adiposity
    rectus = Chain(((220, front, 34), (60, front + 2, 24), (-2, -60, 12)), (13 * m, 12 * m, 7))
    flank = _abdominal_wall(anatomy)
    left += [(rectus, ((-20, -160, -5), (240, -30, 70))), (flank, ((60, -150, 20), (240, 120, 210)))]
    both: list[tuple[Shape, Box]] = []
    for shape, (low, high) in left:
        both += [(shape, (low, high)), (mirrored(shape), ((low[0], low[1], -high[2]), (high[0], high[1], -low[2])))]
    return both


def _by(factor: float, *radii: float) -> Sequence[float]:
    return [factor * radius for radius in radii]


def _sided(top: float) -> Box:
    return (-330.0, -110.0, 0.0), (top, 130.0, 190.0)


def _gluteus_maximus(back: float, m: float) -> Shape:
    """A thick sheet from sacrum to femur, behind everything."""

    def distance(at: Coordinates) -> Field:
        z, y, x = at
        bent = y + np.float32(0.0032) * (x - 30) ** 2 + np.float32(0.10) * (z - 20)
        return Ellipsoid((8.0, back - 2.0, 76.0), (84.0, 26.0 * m, 70.0), 2.4)((z, bent, x)) * np.float32(0.8)

    return distance


def _obturator(s: float, m: float) -> Shape:
    """Obturator internus: a sheet inside the wall of the small pelvis."""

    def distance(at: Coordinates) -> Field:
        z, y, x = at
        bent = x + np.float32(0.005) * (y - 2) ** 2 - np.float32(0.14) * z
        return Ellipsoid((0.0, 4.0, 58.0), (44.0, 44.0, 9.5 * m), 2.6)((z, y, bent))

    return scaled(distance, s)


def _abdominal_wall(anatomy: PelvisAnatomy) -> Shape:
    """The flat muscles above the iliac crest: a layer under the fat."""
    outline, depth_mm = body_outline(anatomy), 12.0 + 26.0 * anatomy.adiposity

    def distance(at: Coordinates) -> Field:
        layer = shell(outline(at) + np.float32(depth_mm), 18.0 * anatomy.muscle_scale)
        return np.asarray(np.maximum(layer, np.maximum(70 - at[0], np.abs(at[1]) - 75)), np.float32)

    return distance


def _paint_strands(canvas: Canvas, anatomy: PelvisAnatomy, organs: PelvisOrgans, texture: Field) -> None:
    """Fascia and small veins that run through the fat around the organs, thickest beside and before the prostate."""
    fat, blood = anatomy.tissues["fat"], anatomy.tissues["blood"]
    box: Box = ((-50, -60, -55), (100, 85, 55))
    region = canvas.region(box)
    room = canvas.distance(Ellipsoid((20.0, 12.0, 0.0), (75.0, 62.0, 50.0), 2.5), region)
    is_fat = canvas.hu[region] < fat.hu + 40.0
    share = np.clip(1.2 * texture[region] - 1.2, 0.0, 0.8) * is_fat * (room < 0)
    plexus = canvas.distance(organs.prostate, region) if all(share.shape) else share
    share = np.maximum(share, np.clip(0.45 + 0.4 * texture[region], 0, 0.8) * (plexus < 5.0) * is_fat)
    for image, value in ((canvas.hu, blood.hu), (canvas.mr, 0.8 * fat.mr)):
        part = image[region]
        part += share.astype(np.float32) * (np.float32(value) - part)


def _paint_levator(canvas: Canvas, anatomy: PelvisAnatomy, organs: PelvisOrgans) -> None:
    """A sling of 4 mm around prostate and anal canal, open above and in front."""
    muscle = anatomy.tissues["muscle"]

    def distance(at: Coordinates) -> Field:
        z, y, x = at
        around = smooth_minimum(organs.prostate(at), organs.rectum((np.maximum(z, -56), y, x)), 30.0)
        funnel = around - np.float32(1.5) - np.clip(z + 25, 0, 60) * np.float32(0.3)
        layer = np.abs(funnel - 2) - 2
        return np.asarray(np.maximum(layer, np.maximum(np.maximum(z - 4, -60 - z), -28 - y)), np.float32)

    canvas.paint(distance, ((-65, -40, -75), (10, 110, 75)), muscle.hu, muscle.mr)


def _crus(at: Coordinates) -> Field:
    return Chain(((-58, 12, 42), (-50, -18, 24), (-48, -40, 8)), (6, 7, 6))(at)


def _paint_vessels(canvas: Canvas, anatomy: PelvisAnatomy, s: float, rng: np.random.Generator) -> None:
    blood = anatomy.tissues["blood"]
    artery_hu = float(rng.uniform(110.0, 180.0)) if anatomy.has_contrast else blood.hu
    vein_hu = float(rng.uniform(80.0, 120.0)) if anatomy.has_contrast else blood.hu
    for side in (1.0, -1.0):
        bend = rng.normal(0.0, 3.0, 3)
        paths: list[tuple[list[Point], float, float]] = [
            ([(190, 2, 22), (110, 14 + bend[0], 38), (50, -20, 62), (10, -58, 76), (-60, -52, 80)], 5.0, artery_hu),
            ([(190, 8, 26), (110, 24 + bend[1], 40), (50, -8, 58), (10, -58, 64), (-60, -46, 72)], 6.5, vein_hu),
            ([(110, 24, 40), (70, 50, 44), (40, 44, 52), (10, 40, 50)], 4.0, artery_hu),
            ([(104, 30, 40), (66, 56 + bend[2], 40), (30, 46, 48)], 4.5, vein_hu),
        ]
        for path, radius, hu in paths:
            placed = [(z * s, y * s, x * s * side) for z, y, x in path]
            low, high = np.min(placed, axis=0) - 10, np.max(placed, axis=0) + 10
            box: Box = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
            canvas.paint(Chain(placed, [radius] * len(placed)), box, hu, blood.mr)


def _paint_bowel(
    canvas: Canvas, anatomy: PelvisAnatomy, organs: PelvisOrgans, texture: Field, rng: np.random.Generator
) -> None:
    """Loops above bladder and rectum, and the sigmoid that goes on from the rectum; wall, fluid, stool, gas."""
    front = BODY_MIDDLE_Y_MM - anatomy.half_depth_mm + 42.0 + 20.0 * anatomy.adiposity
    top = anatomy.rectum_top_mm
    centre_y, centre_x, radius_y, radius_x = (float(v[0]) for v in organs.rectum.at_height(np.array([top])))
    upper = float(np.sqrt(radius_y * radius_x))
    turn = rng.normal(0.0, 8.0, 4)
    sigmoid = [
        (top - 2, centre_y, centre_x),
        (top + 16, centre_y - 12, centre_x + 8 + turn[0]),
        (top + 22 + turn[1], centre_y - 42, centre_x - 14),
        (top + 14 + turn[2], centre_y - 50, centre_x + 35),
        (top + 45, centre_y - 32 + turn[3], 78.0),
    ]
    _paint_loop(canvas, anatomy, sigmoid, upper, texture, rng)
    for _ in range(int(rng.integers(10, 19))):
        start = np.array([rng.uniform(40.0, 150.0), rng.uniform(front, 22.0), rng.uniform(-78.0, 78.0)])
        steps = np.cumsum(rng.normal(0.0, [10.0, 16.0, 22.0], (3, 3)), axis=0)
        low, high = (30.0, front, -84.0), (190.0, 34.0, 84.0)
        path = [(float(p[0]), float(p[1]), float(p[2])) for p in np.clip([start, *(start + steps)], low, high)]
        _paint_loop(canvas, anatomy, path, float(rng.uniform(8.0, 15.0)), texture, rng)


def _paint_loop(
    canvas: Canvas,
    anatomy: PelvisAnatomy,
    path: Sequence[Point],
    radius: float,
    texture: Field,
    rng: np.random.Generator,
) -> None:
    radii = (radius * rng.uniform(0.8, 1.2, len(path))).tolist()
    low, high = np.min(path, axis=0) - 22, np.max(path, axis=0) + 22
    region = canvas.region(((low[0], low[1], low[2]), (high[0], high[1], high[2])))
    distance = canvas.distance(Chain(path, radii), region)
    wall, fluid, stool = (anatomy.tissues[name] for name in ("bowel_wall", "bowel_fluid", "stool"))
    held = stool if rng.random() < 0.3 else fluid
    hu = float(held.hu + rng.normal(0.0, 6.0))
    gas_y = float(np.mean(path, axis=0)[1] + radius * rng.uniform(-3.0, 0.6))
    canvas.fill(region, distance, wall.hu, wall.mr)
    canvas.fill(region, distance + np.float32(rng.uniform(1.5, 3.0)), hu + texture[region] * 4, held.mr)
    gas = np.maximum(distance + np.float32(2.5), canvas.at[1][region] - np.float32(gas_y))
    canvas.fill(region, gas, _GAS.hu, _GAS.mr)
