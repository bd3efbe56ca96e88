"""The parts of the mean head as functions of place: brain and skull, ventricles, deep grey matter, tracts.

Places and sizes are those of an adult in the space of the commissures, to some millimetres, simplified to ellipsoids
and tubes. Every shape is of the mean head; what is a person's own comes with the coordinates (`head_anatomy`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from models.implicit_shapes import Chain, Coordinates, Ellipsoid, Field, Point, Shape, mirrored, smooth_minimum, united

_ROUNDING_MM = 12.0
_CEREBRUM = Ellipsoid((12.0, 12.0, 0.0), (58.0, 80.0, 65.0), 2.3)
_CEREBELLUM = Ellipsoid((-36.0, 48.0, 0.0), (25.0, 32.0, 50.0), 2.2)
_BRAINSTEM = Chain(((-8.0, 10.0, 0.0), (-35.0, 8.0, 0.0), (-90.0, 25.0, 0.0)), (16.0, 14.0, 8.0))
_FLOOR_Z_MM, _FLOOR_Y_MM, _FLOOR_SLOPE = -22.0, -20.0, 0.35
"""The base of the skull falls from the orbits to the back; the cerebrum lies above it."""
TENTORIUM_Z_MM = -16.0


@dataclass(frozen=True)
class Part:
    """A body in the mean head and a box around it."""

    shape: Shape
    box: tuple[Point, Point]
    """Lowest and highest corner, mm."""


def intracranial(at: Coordinates) -> Field:
    """Distance to the inner table of the skull, mm, negative inside; below the foramen magnum, to the spinal canal."""
    z, y, _ = at
    above_floor = np.float32(_FLOOR_Z_MM) - np.float32(_FLOOR_SLOPE) * (y - np.float32(_FLOOR_Y_MM)) - z
    cerebrum = np.maximum(_CEREBRUM(at), above_floor / np.float32(np.hypot(1.0, _FLOOR_SLOPE)))
    below = smooth_minimum(_CEREBELLUM(at), _BRAINSTEM(at), _ROUNDING_MM)
    return smooth_minimum(np.asarray(cerebrum, np.float32), below, _ROUNDING_MM)


def hindbrain(at: Coordinates) -> Field:
    """Distance to cerebellum and brainstem below the tentorium, mm."""
    below = smooth_minimum(_CEREBELLUM(at), _BRAINSTEM(at), _ROUNDING_MM)
    return np.asarray(np.maximum(below, at[0] - np.float32(TENTORIUM_Z_MM)), np.float32)


def ventricles(scale: float) -> Part:
    """Lateral, third and fourth ventricle, radii as many times those of the mean."""
    lateral = Chain(
        (
            (4.0, -30.0, 9.0), (14.0, -20.0, 9.0), (21.0, 0.0, 9.0), (20.0, 20.0, 14.0), (10.0, 38.0, 22.0),
            (8.0, 56.0, 22.0),
        ),
        tuple(scale * radius for radius in (3.0, 4.5, 4.0, 5.0, 6.0, 2.0)),
    )  # fmt: skip
    third = Ellipsoid((1.0, 3.0, 0.0), (10.0, 14.0, 2.4 * scale))
    fourth = Ellipsoid((-34.0, 26.0, 0.0), (11.0, 5.0 * scale, 6.0 * scale))
    return Part(united([lateral, mirrored(lateral), third, fourth]), ((-50.0, -42.0, -35.0), (36.0, 66.0, 35.0)))


def _tilted(part: Ellipsoid, degrees: float) -> Shape:
    """The body turned in the axial plane about its centre, front towards the midline where positive."""
    cosine, sine = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    centre_y, centre_x = np.float32(part.centre[1]), np.float32(part.centre[2])

    def distance(at: Coordinates) -> Field:
        z, y, x = at
        v, u = y - centre_y, x - centre_x
        return part((z, cosine * v + sine * u + centre_y, cosine * u - sine * v + centre_x))

    return distance


def _both(shape: Shape, low: Point, high: Point) -> Part:
    """A body and its mirror image; the box is given for the left."""
    return Part(united([shape, mirrored(shape)]), ((low[0], low[1], -high[2]), high))


_CAUDATE = Chain(((2.0, -19.0, 13.0), (8.0, -15.0, 15.0), (17.0, -4.0, 17.0), (23.0, 12.0, 20.0)), (6.5, 7.0, 4.5, 2.8))
_CALLOSUM_Y = (-40.0, -34.0, -20.0, 0.0, 20.0, 38.0, 44.0)
_CALLOSUM_Z = (3.0, 14.0, 25.0, 29.0, 28.0, 18.0, 8.0)
_CALLOSUM_HALF_WIDTH_MM = 13.0
_CALLOSUM_LINE = Chain(
    tuple((z, y, 0.0) for z, y in zip(_CALLOSUM_Z, _CALLOSUM_Y, strict=True)), (4.5, 4.5, 3.5, 3.5, 3.5, 5.0, 5.0)
)


def _callosum(at: Coordinates) -> Field:
    """An arch of one profile, as wide as it is far from one ventricle to the other."""
    z, y, x = at
    beyond = np.maximum(np.abs(x) - np.float32(_CALLOSUM_HALF_WIDTH_MM), 0.0)
    return _CALLOSUM_LINE((z, y, beyond))


_PUTAMEN = _tilted(Ellipsoid((3.0, -3.0, 26.0), (10.0, 17.0, 5.5)), -12.0)
_PALLIDUM = _tilted(Ellipsoid((0.0, 0.0, 18.5), (6.0, 9.0, 3.0)), -25.0)
_THALAMUS = Ellipsoid((6.0, 11.0, 10.5), (10.0, 15.0, 7.5))
_ANTERIOR_LIMB = Chain(((4.0, -2.0, 16.5), (8.0, -16.0, 22.0)), (2.5, 2.5))


def _posterior_limb(at: Coordinates) -> Field:
    """A sheet between thalamus and lentiform nucleus, 5 mm thick, from the genu backwards and outwards."""
    z, y, x = at
    along = (y - np.float32(10.0)) * np.float32(0.83) + (x - np.float32(20.0)) * np.float32(0.56)
    across = (x - np.float32(20.0)) * np.float32(0.83) - (y - np.float32(10.0)) * np.float32(0.56)
    sides = (np.abs(across) - 2.7, np.abs(along) - 9.0, np.abs(z - np.float32(5.0)) - 11.0)
    return np.asarray(np.maximum(np.maximum(sides[0], sides[1]), sides[2]), np.float32)


CORPUS_CALLOSUM, CAUDATE, PUTAMEN, PALLIDUM = "corpus_callosum", "caudate", "putamen", "pallidum"
THALAMUS, POSTERIOR_LIMB, ANTERIOR_LIMB = "thalamus", "posterior_limb", "anterior_limb"

DEEP_PARTS: Mapping[str, Part] = MappingProxyType({
    CORPUS_CALLOSUM: Part(_callosum, ((-8.0, -52.0, -24.0), (40.0, 56.0, 24.0))),
    CAUDATE: _both(_CAUDATE, (-8.0, -30.0, 4.0), (30.0, 18.0, 26.0)),
    PUTAMEN: _both(_PUTAMEN, (-10.0, -24.0, 14.0), (16.0, 18.0, 38.0)),
    PALLIDUM: _both(_PALLIDUM, (-8.0, -14.0, 10.0), (8.0, 14.0, 28.0)),
    THALAMUS: _both(_THALAMUS, (-6.0, -6.0, 1.0), (18.0, 28.0, 20.0)),
    ANTERIOR_LIMB: _both(_ANTERIOR_LIMB, (-1.0, -22.0, 12.0), (13.0, 4.0, 27.0)),
    POSTERIOR_LIMB: _both(_posterior_limb, (-8.0, -2.0, 10.0), (18.0, 22.0, 30.0)),
})  # fmt: skip
"""In the order in which they are painted: later ones cover earlier ones."""
DEEP_GREY = (CAUDATE, PUTAMEN, THALAMUS)
