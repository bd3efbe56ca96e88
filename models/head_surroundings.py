"""What surrounds the brain on a CT: scalp, skull, face, neck, air in the sinuses; coarse, but nothing floats."""

import numpy as np

from models.head_anatomy import HeadAnatomy
from models.head_canvas import HeadCanvas
from models.head_shapes import Part
from models.implicit_shapes import Chain, Ellipsoid, Field, mirrored, united

_SOFT_HU, _FAT_HU, _EYE_HU, _AIR_HU = 35.0, -85.0, 10.0, -950.0
_SPONGY = 0.45
"""HU of the middle layer of the skull against those of its tables."""
_TABLE_MM = 1.8
_FACE = Ellipsoid((-58.0, -38.0, 0.0), (60.0, 50.0, 62.0), 2.3)
_NECK = Ellipsoid((-110.0, 28.0, 0.0), (85.0, 62.0, 62.0))
_CHEEKBONE = Chain(((-48.0, -72.0, 28.0), (-42.0, -45.0, 60.0), (-38.0, -10.0, 66.0)), (4.0, 4.0, 3.0))
_JAW = Chain(((-75.0, -8.0, 50.0), (-95.0, -30.0, 45.0), (-100.0, -75.0, 10.0)), (6.0, 7.0, 8.0))
_PALATE = Ellipsoid((-68.0, -55.0, 0.0), (5.0, 26.0, 24.0))
_ORBIT = Ellipsoid((-26.0, -62.0, 32.0), (15.0, 19.0, 16.0))
_EYE = Ellipsoid((-26.0, -69.0, 32.0), (12.0, 12.0, 12.0))
_MAXILLARY = Ellipsoid((-50.0, -56.0, 25.0), (14.0, 14.0, 12.0))
_ETHMOID = Ellipsoid((-30.0, -58.0, 0.0), (12.0, 18.0, 9.0))
_THROAT = Ellipsoid((-62.0, -18.0, 0.0), (22.0, 9.0, 10.0))
_MASTOID = Ellipsoid((-44.0, 36.0, 62.0), (11.0, 9.0, 6.0))
_PETROUS = Chain(((-34.0, 20.0, 64.0), (-31.0, -2.0, 24.0)), (9.0, 5.0))


def paint_head_around(canvas: HeadCanvas, anatomy: HeadAnatomy, inner: Field) -> None:
    """Scalp, face and neck; `inner` is the distance to the inner table, mm."""
    around = inner - np.float32(anatomy.skull_mm + anatomy.scalp_mm)
    for shape in (_FACE, _NECK):
        around = np.minimum(around, canvas.distance(shape))
    canvas.fill(np.asarray(around, np.float32), _FAT_HU)
    canvas.fill(np.asarray(around + np.float32(2.0), np.float32), _SOFT_HU)
    for body, hu in ((_CHEEKBONE, anatomy.bone_hu), (_JAW, anatomy.bone_hu), (_ORBIT, _FAT_HU), (_EYE, _EYE_HU)):
        canvas.fill(canvas.distance(united([body, mirrored(body)])), hu)
    canvas.fill(canvas.distance(_PALATE), 0.7 * anatomy.bone_hu)
    canvas.fill(canvas.distance(united([_MAXILLARY, mirrored(_MAXILLARY), _ETHMOID, _THROAT])), _AIR_HU)


def paint_skull(canvas: HeadCanvas, anatomy: HeadAnatomy, inner: Field) -> None:
    """Two tables and what lies between them."""
    canvas.fill(inner - np.float32(anatomy.skull_mm), anatomy.bone_hu)
    between = np.maximum(inner - np.float32(anatomy.skull_mm - _TABLE_MM), np.float32(_TABLE_MM) - inner)
    canvas.fill(np.asarray(between, np.float32), _SPONGY * anatomy.bone_hu)
    canvas.fill(canvas.distance(united([_MASTOID, mirrored(_MASTOID)])), _AIR_HU * 0.5)


def paint_bone_over_brain(canvas: HeadCanvas, anatomy: HeadAnatomy) -> None:
    """The petrous bones, which reach in between the parts of the brain."""
    bones = Part(united([_PETROUS, mirrored(_PETROUS)]), ((-50.0, -16.0, -80.0), (-15.0, 36.0, 80.0)))
    canvas.paint(bones, anatomy.bone_hu)
