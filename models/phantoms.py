"""Digital patients by arithmetic: CT, organ masks with TG-263 names and a dose, with the truth known everywhere.

Axes of every array are [slice, row, column]. The slice index grows towards the head, the row index towards posterior,
the column index towards the patient's left: with head first supine, i j k run along L P S. Millimetres are measured
from the centre of the volume along the same directions.

The head and neck are ellipsoids of typical size, with HU rounded from ICRU Report 44 compositions at 120 kV; the pelvis
is that of `models.pelvis_phantom`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import AIR_HU, Hu, Mask
from models.pelvis_phantom import parametric_pelvis

Triple: TypeAlias = tuple[float, float, float]
"""(superior, posterior, left), mm."""

FAT_HU, MUSCLE_HU, WATER_HU, BRAIN_HU, GLAND_HU, MARROW_HU, BONE_HU = -95, 55, 5, 38, 25, 250, 750
_TEXTURE_SD_HU = 8.0
_TEXTURE_MM = 2.5


@dataclass(frozen=True)
class Phantom:
    """One digital patient on one day."""

    hu_zyx: Hu
    spacing_zyx_mm: Triple
    masks: Mapping[str, Mask]
    """By TG-263 name; `External` is the body."""
    dose_gy_zyx: NDArray[np.float32]
    mr_zyx: Hu | None = None
    """T2-weighted MR of the planning day on the grid of the CT, where there is one; no unit."""


@dataclass(frozen=True)
class _Ellipsoid:
    """One organ; later ones overwrite the HU of earlier ones."""

    name: str
    """TG-263 name of the mask it belongs to; empty: no mask."""
    hu: float
    centre_mm: Triple
    radii_mm: Triple
    power: float = 2.0
    """2 is an ellipsoid; more comes nearer to a box."""


_HEAD_AND_NECK = (
    _Ellipsoid("", FAT_HU, (-60, 5, 0), (95, 62, 66), 3),
    _Ellipsoid("", FAT_HU, (55, 0, 0), (75, 92, 72), 2.5),
    _Ellipsoid("", FAT_HU, (-25, -38, 0), (48, 56, 60), 3),
    _Ellipsoid("", FAT_HU, (-150, 15, 0), (50, 85, 170), 3),
    _Ellipsoid("", MUSCLE_HU, (-60, 8, 0), (94, 55, 58), 3),
    _Ellipsoid("", MUSCLE_HU, (-25, -38, 0), (44, 48, 52), 3),
    _Ellipsoid("", MUSCLE_HU, (-150, 15, 0), (46, 72, 155), 3),
    _Ellipsoid("", MUSCLE_HU, (10, -10, 0), (40, 68, 58), 2.5),
    _Ellipsoid("", BONE_HU, (65, 2, 0), (61, 83, 65), 2.3),
    _Ellipsoid("Brain", BRAIN_HU, (65, 2, 0), (56, 78, 60), 2.3),
    _Ellipsoid("Brainstem", BRAIN_HU + 4, (14, 26, 0), (24, 12, 13)),
    _Ellipsoid("Eye_L", WATER_HU + 8, (25, -66, 32), (12, 12, 12)),
    _Ellipsoid("Eye_R", WATER_HU + 8, (25, -66, -32), (12, 12, 12)),
    _Ellipsoid("", AIR_HU, (4, -58, 0), (18, 26, 10), 3),
    _Ellipsoid("Mandible", BONE_HU + 100, (-42, -46, 30), (12, 34, 7), 2.5),
    _Ellipsoid("Mandible", BONE_HU + 100, (-42, -46, -30), (12, 34, 7), 2.5),
    _Ellipsoid("Mandible", BONE_HU + 100, (-46, -72, 0), (10, 8, 30), 2.5),
    _Ellipsoid("Mandible", BONE_HU + 100, (-20, -14, 47), (26, 8, 5), 2.5),
    _Ellipsoid("Mandible", BONE_HU + 100, (-20, -14, -47), (26, 8, 5), 2.5),
    _Ellipsoid("", AIR_HU, (-60, -22, 0), (95, 7, 9), 4),
    _Ellipsoid("Parotid_L", GLAND_HU - 30, (-14, 8, 52), (24, 15, 9)),
    _Ellipsoid("Parotid_R", GLAND_HU - 30, (-14, 8, -52), (24, 15, 9)),
    _Ellipsoid("", MARROW_HU, (-90, 22, 0), (100, 12, 14), 4),
    _Ellipsoid("", BONE_HU - 300, (-90, 42, 0), (100, 15, 13), 4),
    _Ellipsoid("SpinalCord", BRAIN_HU, (-90, 40, 0), (98, 6, 7), 6),
    _Ellipsoid("GTVp", MUSCLE_HU + 12, (-38, -8, 18), (20, 14, 14)),
)


@dataclass(frozen=True)
class _Plan:
    """How the target is treated."""

    target: str
    """Name of the mask that the PTV surrounds."""
    ptv: str
    margin_mm: float
    prescription_gy: float


_HEAD_AND_NECK_PLAN = _Plan("GTVp", "PTV_High", 8.0, 70.0)
_PELVIS_PLAN = _Plan("Prostate", "PTV_High", 7.0, 78.0)
_PROSTATE_Z_MM = -10.0
"""Low in the image, so that the bladder above it is seen too."""


def head_and_neck_phantom(shape_zyx: tuple[int, int, int], spacing_zyx_mm: Triple, rng: np.random.Generator) -> Phantom:
    """Head and neck with brainstem, cord, parotids, mandible, eyes and an oropharyngeal tumour left of the midline.

    Sizes vary by 5 % and places by 1 mm from patient to patient, as `rng` has it.
    """
    hu, masks = _painted(_HEAD_AND_NECK, shape_zyx, spacing_zyx_mm, rng)
    textured = _with_texture(hu, masks["External"], spacing_zyx_mm, rng)
    return _planned(Phantom(textured, spacing_zyx_mm, masks, np.zeros(shape_zyx, np.float32)), _HEAD_AND_NECK_PLAN)


def pelvis_phantom(shape_zyx: tuple[int, int, int], spacing_zyx_mm: Triple, rng: np.random.Generator) -> Phantom:
    """Male pelvis with prostate, seminal vesicles, bladder, rectum and femoral heads, in CT and MR.

    The middle of the prostate lies 10 mm below the middle of the image; all else differs from patient to patient as
    `models.pelvis_anatomy` tells. An organ that the image misses has no mask.

    Raises
    ------
    ValueError
        If the image does not show the prostate.
    """
    pelvis = parametric_pelvis(shape_zyx, spacing_zyx_mm, rng, prostate_z_mm=_PROSTATE_Z_MM)
    masks = {name: mask for name, mask in pelvis.masks.items() if mask.any()}
    if _PELVIS_PLAN.target not in masks:
        raise ValueError(f"an image of {shape_zyx} voxels of {spacing_zyx_mm} mm does not show the prostate")
    dose_gy = np.zeros(shape_zyx, np.float32)
    return _planned(Phantom(pelvis.hu_zyx, spacing_zyx_mm, masks, dose_gy, pelvis.mr_zyx), _PELVIS_PLAN)


def fraction_of(phantom: Phantom, fraction_number: int, rng: np.random.Generator) -> Phantom:
    """Make the patient of treatment day `fraction_number` (1 is the first): shifted, and with a smaller target.

    The whole body moves by a rigid setup error of 1.5 mm (SD) in each direction, as after image guidance on bone; the
    GTV loses 1 % of its diameter with each fraction, down to 60 %, and fat-like tissue takes its place. The dose stays
    where the machine delivers it; no MR is taken on that day.
    """
    shrunk = _with_smaller_target(phantom, max(0.6, 1.0 - 0.01 * (fraction_number - 1)))
    shift_mm = rng.normal(0.0, 1.5, 3)
    shift_voxels = shift_mm / np.array(phantom.spacing_zyx_mm)
    hu = ndimage.shift(shrunk.hu_zyx, shift_voxels, order=1, mode="nearest")
    masks = {name: _shifted(mask, shift_voxels) for name, mask in shrunk.masks.items()}
    return replace(shrunk, hu_zyx=hu.astype(np.float32), masks=masks, mr_zyx=None)


def _painted(
    organs: Sequence[_Ellipsoid], shape_zyx: tuple[int, int, int], spacing_zyx_mm: Triple, rng: np.random.Generator
) -> tuple[Hu, dict[str, Mask]]:
    """HU without texture, and the masks."""
    grid_mm = _grid_mm(shape_zyx, spacing_zyx_mm)
    hu = np.full(shape_zyx, AIR_HU, np.float32)
    masks: dict[str, Mask] = {}
    external = np.zeros(shape_zyx, bool)
    scale = rng.normal(1.0, 0.05, 3).clip(0.9, 1.1)
    for organ in organs:
        inside = _inside(organ, grid_mm, scale, rng.normal(0.0, 1.0, 3))
        hu[inside] = organ.hu
        external |= inside
        if organ.name:
            masks[organ.name] = masks.get(organ.name, np.zeros(shape_zyx, bool)) | inside
    masks["External"] = external
    return hu, masks


def _planned(phantom: Phantom, plan: _Plan) -> Phantom:
    """The patient with a PTV and the dose of a plan."""
    external, spacing_mm = phantom.masks["External"], phantom.spacing_zyx_mm
    ptv = _grown(phantom.masks[plan.target], plan.margin_mm, spacing_mm) & external
    dose_gy = _conformal_dose_gy(ptv, external, plan.prescription_gy, spacing_mm)
    return replace(phantom, masks={**phantom.masks, plan.ptv: ptv}, dose_gy_zyx=dose_gy)


def _grid_mm(shape_zyx: tuple[int, int, int], spacing_zyx_mm: Triple) -> list[NDArray[np.float32]]:
    """Coordinates of the voxel centres from the centre of the volume; three arrays that broadcast."""
    axes = [
        ((np.arange(n) - (n - 1) / 2.0) * mm).astype(np.float32)
        for n, mm in zip(shape_zyx, spacing_zyx_mm, strict=True)
    ]
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def _inside(
    organ: _Ellipsoid, grid_mm: list[NDArray[np.float32]], scale: NDArray[np.float64], shift_mm: NDArray[np.float64]
) -> Mask:
    """|z/a|^p + |y/b|^p + |x/c|^p <= 1 about the centre of the organ."""
    total = np.float32(0.0)
    for axis, (coordinate, centre, radius) in enumerate(zip(grid_mm, organ.centre_mm, organ.radii_mm, strict=True)):
        centred = coordinate - np.float32(centre * scale[axis] + shift_mm[axis])
        total = total + np.abs(centred / np.float32(radius * scale[axis])) ** organ.power
    return np.asarray(total <= 1.0)


def _grown(mask: Mask, margin_mm: float, spacing_zyx_mm: Triple) -> Mask:
    """Mask with a margin of the same width in all directions."""
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing_zyx_mm) <= margin_mm)


def _conformal_dose_gy(
    ptv: Mask, external: Mask, prescription_gy: float, spacing_zyx_mm: Triple
) -> NDArray[np.float32]:
    """Prescription inside the PTV; outside it falls by half within 12 mm, onto a bath of 15 % in the body."""
    distance_mm = ndimage.distance_transform_edt(~ptv, sampling=spacing_zyx_mm)
    relative = 0.15 * np.exp(-distance_mm / 120.0) + 0.85 * np.exp(-((distance_mm / 14.4) ** 2))
    return np.where(external, prescription_gy * relative, 0.0).astype(np.float32)


def _with_texture(hu: Hu, external: Mask, spacing_zyx_mm: Triple, rng: np.random.Generator) -> Hu:
    """Soft edges of 0.5 mm, and in the body a correlated texture of 8 HU."""
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), [_TEXTURE_MM / mm for mm in spacing_zyx_mm])
    noise *= _TEXTURE_SD_HU / max(float(noise.std()), 1e-9)
    tissue = external & (hu > AIR_HU / 2)
    smooth = ndimage.gaussian_filter(hu, [0.5 / mm for mm in spacing_zyx_mm])
    return (smooth + np.where(tissue, noise, 0.0)).astype(np.float32)


def _with_smaller_target(phantom: Phantom, diameter_fraction: float) -> Phantom:
    """Shrink the GTV about its centroid; a phantom without one (the prostate does not shrink) stays."""
    target = phantom.masks.get("GTVp")
    if target is None or not target.any() or diameter_fraction >= 1.0:
        return phantom
    centre = np.array(ndimage.center_of_mass(target))
    matrix = np.full(3, 1.0 / diameter_fraction)
    offset = centre - centre * matrix
    smaller = ndimage.affine_transform(target.astype(np.float32), matrix, offset, order=1) > 0.5
    lost = target & ~smaller
    return replace(
        phantom,
        hu_zyx=np.where(lost, np.float32(FAT_HU), phantom.hu_zyx).astype(np.float32),
        masks={**phantom.masks, "GTVp": smaller & target},
    )


def _shifted(mask: Mask, shift_voxels: NDArray[np.float64]) -> Mask:
    return np.asarray(ndimage.shift(mask.astype(np.float32), shift_voxels, order=1, mode="nearest") > 0.5)
