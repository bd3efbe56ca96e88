"""An atlas of the brain: where deep grey matter, tracts and cortex lie in the mean head of `head_shapes`.

It is the mean anatomy of our own made-up heads and not of patients: regions are ellipsoids and tubes at places that
textbooks give. On a patient they meet the structures only as far as the registration carries them there, and nobody has
measured that on patients. It is code, so no file and no licence of others comes with it.
"""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import numpy as np

from models import head_shapes
from models.head_anatomy import HeadAnatomy
from models.head_phantom import head_phantom
from models.head_shapes import DEEP_PARTS, intracranial, ventricles
from models.implicit_shapes import Coordinates, Field
from models.intensity import Mask
from models.placed_image import PlacedImage

CAUDATE, PUTAMEN, THALAMUS = head_shapes.CAUDATE, head_shapes.PUTAMEN, head_shapes.THALAMUS
POSTERIOR_LIMB, CORPUS_CALLOSUM = head_shapes.POSTERIOR_LIMB, head_shapes.CORPUS_CALLOSUM
MEDIAL_CORTEX, CENTRUM_SEMIOVALE = "medial_cortex", "centrum_semiovale"

_SHAPE_ZYX, _VOXEL_MM = (92, 112, 92), 2.0
_FAR_MM = 120.0
_MEAN = HeadAnatomy(atrophy=0.4)
_HIGH_Z_MM = (38.0, 60.0)
_MEDIAL_X_MM = (2.5, 7.5)
_CENTRUM_X_MM = (14.0, 34.0)
_CENTRUM_DEPTH_MM = 20.0
"""Below the folds."""


def _medial_cortex(at: Coordinates) -> Field:
    z, _, x = at
    return _within(_slab(z, _HIGH_Z_MM), _slab(np.abs(x), _MEDIAL_X_MM), intracranial(at) + 6.0)


def _centrum_semiovale(at: Coordinates) -> Field:
    z, _, x = at
    return _within(
        _slab(z, _HIGH_Z_MM), _slab(np.abs(x), _CENTRUM_X_MM), intracranial(at) + np.float32(_CENTRUM_DEPTH_MM)
    )


_REGIONS: Mapping[str, Callable[[Coordinates], Field]] = MappingProxyType({
    **{name: part.shape for name, part in DEEP_PARTS.items()},
    MEDIAL_CORTEX: _medial_cortex,
    CENTRUM_SEMIOVALE: _centrum_semiovale,
})  # fmt: skip
REGIONS = (CAUDATE, PUTAMEN, THALAMUS, POSTERIOR_LIMB, CORPUS_CALLOSUM, MEDIAL_CORTEX, CENTRUM_SEMIOVALE)
"""Those that are measured, both sides together."""


@cache
def atlas_image() -> PlacedImage:
    """The mean head without folds as a CT of 2 mm voxels; the atlas's frame is LPS mm from between the commissures."""
    spacing = (_VOXEL_MM, _VOXEL_MM, _VOXEL_MM)
    phantom = head_phantom(_SHAPE_ZYX, spacing, _MEAN)
    affine = np.diag([_VOXEL_MM, _VOXEL_MM, _VOXEL_MM, 1.0])
    affine[:3, 3] = -_VOXEL_MM * (np.array(_SHAPE_ZYX[::-1]) - 1) / 2.0
    return PlacedImage(phantom.hu_zyx, affine)


def atlas_regions(at: Coordinates, inset_mm: float = 0.0) -> dict[str, Mask]:
    """Regions by name at places of the atlas's frame, (z, y, x) in mm, each drawn in by `inset_mm`.

    Where two meet, the later one of the painting order has the place, as in the made-up heads. Nothing lies beyond
    120 mm from the middle.
    """
    near = (np.abs(at[0]) < _FAR_MM) & (np.abs(at[1]) < _FAR_MM) & (np.abs(at[2]) < _FAR_MM)
    regions = {}
    for name, inside in _regions((at[0][near], at[1][near], at[2][near]), inset_mm).items():
        regions[name] = np.zeros(near.shape, np.bool_)
        regions[name][near] = inside
    return regions


def _regions(at: Coordinates, inset_mm: float) -> dict[str, Mask]:
    distances = {name: shape(at) for name, shape in _REGIONS.items()}
    taken = ventricles(_MEAN.ventricle_scale).shape(at) < np.float32(inset_mm)
    regions: dict[str, Mask] = {}
    for name in reversed(distances):
        regions[name] = (distances[name] < np.float32(-inset_mm)) & ~taken
        taken |= distances[name] < np.float32(inset_mm)
    return {name: regions[name] for name in REGIONS}


def _slab(along: Field, ends_mm: tuple[float, float]) -> Field:
    return np.asarray(np.maximum(np.float32(ends_mm[0]) - along, along - np.float32(ends_mm[1])), np.float32)


def _within(*distances: Field) -> Field:
    """Of all of the bodies at once."""
    return np.asarray(np.max(np.broadcast_arrays(*distances), axis=0), np.float32)
