"""What speaks for and against the features of a head CT; by name, larger is worse, and limits come from training.

The names are the keys of the limits in the model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.atlas_registration import AtlasOnPatient
from models.implicit_shapes import Point

UNITS: Mapping[str, str] = {
    "atlas_misfit": "1",
    "atlas_bend_mm": "mm",
    "size_departure": "1",
    "slice_spacing_mm": "mm",
    "slices_per_cm": "/cm",
    "noise_hu": "[hnsf'U]",
    "bright_share": "1",
    "metal_ml": "mL",
    "feature_distance": "1",
}
"""UCUM code of every measure."""
WHAT: Mapping[str, str] = {
    "atlas_misfit": "Part of the inside of the skull in which atlas and patient do not agree",
    "atlas_bend_mm": "How far the atlas had to be bent, in mm",
    "size_departure": "Size of the brain against that of the atlas, as the logarithm of the ratio of volumes",
    "slice_spacing_mm": "Distance of the slices, in mm",
    "slices_per_cm": "Slices in a centimetre",
    "noise_hu": "Noise in the brain, in HU",
    "bright_share": "Part of the brain brighter than grey matter is, as with contrast medium or blood",
    "metal_ml": "Metal in the slices of the brain, in mL",
    "feature_distance": "Distance of the features from those of the training patients",
}
"""What each is, for people."""

_BRIGHT_HU = (60.0, 130.0)
_METAL_HU = 2600.0
_SD_PER_MEDIAN = 1.4826


def brain_measures(hu_zyx: NDArray[Any], spacing_zyx_mm: Point, atlas: AtlasOnPatient) -> dict[str, float]:
    """All but the distance of the features, which the model knows."""
    brain = atlas.brain.mask
    inside = hu_zyx[brain]
    return {
        "atlas_misfit": 1.0 - atlas.dice,
        "atlas_bend_mm": atlas.bend_mm,
        "size_departure": abs(atlas.size_change),
        "slice_spacing_mm": round(spacing_zyx_mm[0], 2),
        "slices_per_cm": round(10.0 / spacing_zyx_mm[0], 2),
        "noise_hu": _noise_hu(hu_zyx, brain),
        "bright_share": float(np.mean((inside > _BRIGHT_HU[0]) & (inside < _BRIGHT_HU[1]))),
        "metal_ml": float((hu_zyx[brain.any(axis=(1, 2))] > _METAL_HU).sum() * np.prod(spacing_zyx_mm) / 1000.0),
    }


def _noise_hu(hu_zyx: NDArray[Any], brain: NDArray[np.bool_]) -> float:
    """From second differences along rows, on which edges have little hold; of correlated noise only its fine part."""
    second = 2.0 * hu_zyx[..., 1:-1] - hu_zyx[..., :-2] - hu_zyx[..., 2:]
    inside = brain[..., 1:-1] & brain[..., :-2] & brain[..., 2:]
    return float(np.median(np.abs(second[inside])) * _SD_PER_MEDIAN / np.sqrt(6.0))
