"""Where the atlas lies on a patient: rigid, then affine, then smoothly bent, by the inside of the skull.

What is compared is the brain alone in a narrow window of HU, with a step at the skull, so that form and ventricles
lead and neither bone nor face. The same images give the same result, bit for bit: one thread, no chance.

References
----------
Thirion, Med Image Anal 1998, doi 10.1016/S1361-8415(98)80022-4 (demons)
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from models.brain_atlas import atlas_image
from models.implicit_shapes import Coordinates
from models.intensity import Hu, Mask
from models.intracranial import Intracranial, NoWholeBrain, intracranial
from models.placed_image import PlacedImage

_itk: Any = SimpleITK  # it carries no types

_VOXEL_MM = 3.0
_MARGIN_MM = 12.0
_SMOOTHING_MM = 1.8
_WINDOW_HU = (0.0, 60.0)
_OUTSIDE = -30.0
"""In the place of HU outside of the skull's inner table."""
_DEMONS_STEPS = 25
_BEND_MM = 12.0
"""SD of the smoothing of the displacement: bends are no finer."""
_SAMPLED = 0.35
_SEED = 20250106
_AFFINE_STEPS_MM = (2.0, 0.5)
"""First steps of the affine search, each tried where the one before has lost the brain."""
_LEAST_DICE = 0.9
_FAR_MM = 1e3


@dataclass(frozen=True)
class AtlasOnPatient:
    """The atlas laid over a patient's images, and how well it fits."""

    at: Coordinates
    """(z, y, x) in the atlas's frame, mm, of every voxel of the patient's grid; 1000 outside the skull."""
    brain: Intracranial
    """Of the patient."""
    dice: float
    """Of the inside of the skull, atlas against patient."""
    bend_mm: float
    """95th percentile of the displacement by the bending in the brain."""
    size_change: float
    """How much the affine part changes volumes: the logarithm of the ratio patient to atlas."""


@dataclass(frozen=True)
class _Prepared:
    """Brain in the window on a coarse grid, and the inside of the skull on it."""

    image: Any
    mask: Any


def atlas_on_patient(patient: PlacedImage) -> AtlasOnPatient:
    """Lay the atlas over a head CT whose axes run, about, to the head, to posterior and to the patient's left.

    Raises
    ------
    NoWholeBrain
        If no skull encloses a brain, a part of it is cut off, or the atlas does not fit it.
    """
    brain = intracranial(patient.hu_zyx, patient.spacing_zyx_mm)
    fixed, moving = _prepared(patient, brain.mask), _atlas()
    affine = _affine(fixed, moving)
    bent = _bent(fixed, moving, affine)
    both = _itk.CompositeTransform([affine, bent])
    dice = _dice(fixed, moving, both)
    if dice < _LEAST_DICE:
        raise NoWholeBrain("The atlas can not be laid over the brain on the images")
    displacement, bend_mm = _displacements(fixed, affine, both)
    return AtlasOnPatient(
        at=_places(patient, brain.mask, fixed, displacement),
        brain=brain,
        dice=dice,
        bend_mm=bend_mm,
        size_change=-float(np.log(abs(np.linalg.det(np.array(affine.GetMatrix()).reshape(3, 3))))),
    )


@cache
def _atlas() -> _Prepared:
    image = atlas_image()
    return _prepared(image, intracranial(image.hu_zyx, image.spacing_zyx_mm).mask)


def _prepared(image: PlacedImage, mask: Mask) -> _Prepared:
    spacing = np.array(image.spacing_zyx_mm)
    hu = np.where(mask, np.clip(image.hu_zyx, *_WINDOW_HU), _OUTSIDE).astype(np.float32)
    # Slices thicker than the kernel are not smoothed along the patient: they were by the scanner.
    kernel = np.where(spacing < 2.0 * _SMOOTHING_MM, _SMOOTHING_MM / spacing, 0.0)
    smooth = _itk_image(ndimage.gaussian_filter(hu, kernel, truncate=3.0), image.affine)
    grid = _grid(image, mask)
    return _Prepared(
        _itk.Resample(smooth, grid, _itk.Transform(), _itk.sitkLinear, _OUTSIDE),
        _itk.Resample(_itk_image(mask.astype(np.float32), image.affine), grid, _itk.Transform(), _itk.sitkLinear, 0.0),
    )


def _grid(image: PlacedImage, mask: Mask) -> Any:
    """Coarse voxels along the patient's axes around the brain."""
    corners = np.array(
        [[side.start, side.stop - 1] for side in reversed(ndimage.find_objects(mask.astype(np.int8))[0])]
    )
    points = np.array(np.meshgrid(*corners, indexing="ij"), np.float64).reshape(3, -1).T
    lps = points @ image.affine[:3, :3].T + image.affine[:3, 3]
    low, high = lps.min(axis=0) - _MARGIN_MM, lps.max(axis=0) + _MARGIN_MM
    size = np.ceil((high - low) / _VOXEL_MM).astype(int)
    grid = _itk.Image(size.tolist(), _itk.sitkFloat32)
    grid.SetSpacing([_VOXEL_MM] * 3)
    grid.SetOrigin(low.tolist())
    return grid


def _affine(fixed: _Prepared, moving: _Prepared) -> Any:
    rigid = _itk.Euler3DTransform()
    center = _center_lps(fixed)
    rigid.SetCenter(center.tolist())
    rigid.SetTranslation((_center_lps(moving) - center).tolist())
    rigid = _found(fixed, moving, rigid, (4, 2), 80)
    least = _dice(fixed, moving, rigid)
    for first_step_mm in _AFFINE_STEPS_MM:
        affine = _found(fixed, moving, _as_affine(rigid), (2, 1), 120, first_step_mm)
        # Now and then a first step leaps to a tiny part of the atlas that looks alike.
        if _dice(fixed, moving, affine) >= least:
            return affine
    return _as_affine(rigid)


def _as_affine(rigid: Any) -> Any:
    affine = _itk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    return affine


def _found(
    fixed: _Prepared, moving: _Prepared, start: Any, shrinking: tuple[int, int], steps: int, first_step_mm: float = 2.0
) -> Any:
    method = _method(sampled=1.0 if shrinking[1] > 1 else _SAMPLED)
    method.SetOptimizerAsRegularStepGradientDescent(first_step_mm, 0.01, steps, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(shrinking)
    method.SetSmoothingSigmasPerLevel([3.0, 1.0])
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed.image, moving.image)
    return start


def _bent(fixed: _Prepared, moving: _Prepared, affine: Any) -> Any:
    """A smooth displacement that is applied before the affine part, in the patient's frame."""
    demons = _itk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfThreads(1)
    demons.SetNumberOfIterations(_DEMONS_STEPS)
    demons.SetStandardDeviations(_BEND_MM / _VOXEL_MM)
    demons.SetSmoothDisplacementField(True)
    laid = _itk.Resample(moving.image, fixed.image, affine, _itk.sitkLinear, _OUTSIDE)
    return _itk.DisplacementFieldTransform(demons.Execute(_like(fixed, laid), laid))


def _like(fixed: _Prepared, laid: Any) -> Any:
    """The patient's image with the brightness of the atlas: swelling and calibration are no reason to bend."""
    values, atlas = _itk.GetArrayFromImage(fixed.image), _itk.GetArrayViewFromImage(laid)
    inside = (_itk.GetArrayViewFromImage(fixed.mask) > 0.99) & (atlas > 0.0)
    values[inside] += np.median(atlas[inside]) - np.median(values[inside])
    image = _itk.GetImageFromArray(values)
    image.CopyInformation(fixed.image)
    return image


def _method(sampled: float) -> Any:
    method = _itk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsCorrelation()
    if sampled < 1.0:
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(sampled, _SEED)
    method.SetInterpolator(_itk.sitkLinear)
    return method


def _center_lps(image: _Prepared) -> NDArray[np.float64]:
    inside = _itk.GetArrayViewFromImage(image.mask) > 0.5
    center = np.array(ndimage.center_of_mass(inside))[::-1]
    return np.asarray(np.array(image.mask.GetOrigin()) + center * _VOXEL_MM)


def _displacements(fixed: _Prepared, affine: Any, both: Any) -> tuple[NDArray[np.float64], float]:
    """Of coarse voxels into the atlas, LPS mm, (z, y, x, 3); and the 95th percentile of the bending in the brain."""
    fields = [_field(fixed.image, transform) for transform in (affine, both)]
    inside = _itk.GetArrayViewFromImage(fixed.mask) > 0.5
    bend = np.linalg.norm((fields[1] - fields[0])[inside], axis=-1)
    return fields[1], float(np.percentile(bend, 95.0))


def _field(grid: Any, transform: Any) -> NDArray[np.float64]:
    field = _itk.TransformToDisplacementField(
        transform, _itk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )
    return np.asarray(_itk.GetArrayFromImage(field), np.float64)


def _dice(fixed: _Prepared, moving: _Prepared, transform: Any) -> float:
    laid = _itk.GetArrayViewFromImage(_itk.Resample(moving.mask, fixed.image, transform, _itk.sitkLinear, 0.0)) > 0.5
    own = _itk.GetArrayViewFromImage(fixed.mask) > 0.5
    return 2.0 * float((own & laid).sum()) / float(own.sum() + laid.sum())


def _places(patient: PlacedImage, brain: Mask, fixed: _Prepared, displacement: NDArray[np.float64]) -> Coordinates:
    box = tuple(slice(max(0, side.start - 2), side.stop + 2) for side in ndimage.find_objects(brain.astype(np.int8))[0])
    axes = [np.arange(part.start, min(part.stop, n)) for part, n in zip(box, brain.shape, strict=True)]
    k, j, i = np.meshgrid(*axes, indexing="ij")
    lps = np.stack([i, j, k], axis=-1) @ patient.affine[:3, :3].T + patient.affine[:3, 3]
    coarse = ((lps - np.array(fixed.image.GetOrigin())) / _VOXEL_MM)[..., ::-1]
    where = np.moveaxis(coarse, -1, 0)
    places: list[Hu] = []
    for axis in (2, 1, 0):
        moved = ndimage.map_coordinates(displacement[..., axis], where, order=1, mode="nearest")
        whole = np.full(brain.shape, _FAR_MM, np.float32)
        whole[box] = np.where(brain[box], lps[..., axis] + moved, _FAR_MM)
        places.append(whole)
    return places[0], places[1], places[2]


def _itk_image(array_zyx: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    image = _itk.GetImageFromArray(np.ascontiguousarray(array_zyx))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image
