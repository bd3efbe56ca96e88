"""How far an image has to be deformed to lie on another: a check that an enhancement kept the anatomy where it was."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask
from models.stability_measures import Spacing

_itk: Any = SimpleITK  # it carries no types

_FINEST_MM = 2.0
_RANGE_HU = (-500.0, 200.0)
_SMOOTHING_PIXELS = 1.0
_ITERATIONS = ((4, 80), (2, 60), (1, 15))
"""Shrink factor and iterations, coarse to fine."""
_FIELD_SMOOTHING_PIXELS = 2.0
_MARGIN_PIXELS = 6
_HISTOGRAM_LEVELS, _MATCH_POINTS = 256, 15


@dataclass(frozen=True)
class Deformation:
    """Length of the displacement inside the body, mm."""

    mean_mm: float
    p95_mm: float


def deformation(
    input_hu_zyx: NDArray[Any], output_hu_zyx: NDArray[Any], body: Mask, spacing_zyx_mm: Spacing
) -> Deformation:
    """Displacement that registers the output to the input, inside the body.

    Demons with fast symmetric forces in three resolutions, on a grid shrunk by whole factors to at most 2 mm; the field
    is smoothed by 2 pixels after each step. Both images are clipped to -500 to 200 HU, as a change of bone would
    outweigh all else, and smoothed by one pixel against noise. Demons compare intensities, so the histogram of the
    output is first matched to that of the input: a change of contrast that keeps the order of tissues is then hardly
    motion. Noise and a change of sharpness still give some displacement; register two noise realisations of one image,
    or an image whose anatomy is known to be the same, to learn how much.

    Raises
    ------
    ValueError
        If the body is empty.

    References
    ----------
    Vercauteren et al., NeuroImage 2009, doi 10.1016/j.neuroimage.2008.10.040
    """
    field = displacement_zyx_mm(input_hu_zyx, output_hu_zyx, body, spacing_zyx_mm)
    lengths_mm = np.sqrt(np.square(field[body]).sum(axis=-1))
    return Deformation(float(lengths_mm.mean()), float(np.percentile(lengths_mm, 95)))


def displacement_zyx_mm(
    input_hu_zyx: NDArray[Any], output_hu_zyx: NDArray[Any], body: Mask, spacing_zyx_mm: Spacing
) -> NDArray[np.float32]:
    """Displacement u(x) with output(x + u(x)) like input(x), mm: [slice, row, column, (slice, row, column)].

    It is 0 far outside the body. Settings and errors as in `deformation`.
    """
    if not body.any():
        raise ValueError("the body is empty")
    part = _around(body)
    fixed, moving = (_prepared(array[part], spacing_zyx_mm) for array in (input_hu_zyx, output_hu_zyx))
    matched = _itk.HistogramMatching(moving, fixed, _HISTOGRAM_LEVELS, _MATCH_POINTS, False)
    field = _registered(fixed, matched)
    full = _itk.Resample(field, _image(input_hu_zyx[part], spacing_zyx_mm), _itk.Transform(), _itk.sitkLinear)
    found = np.zeros((*body.shape, 3), np.float32)
    # ITK has vectors in (x, y, z).
    found[part] = _itk.GetArrayFromImage(full)[..., ::-1]
    return found


def _around(body: Mask) -> tuple[slice, ...]:
    """Bounding box of the body with a margin."""
    box = ndimage.find_objects(body.astype(np.uint8))[0]
    return tuple(
        slice(max(side.start - _MARGIN_PIXELS, 0), min(side.stop + _MARGIN_PIXELS, n))
        for side, n in zip(box, body.shape, strict=True)
    )


def _image(hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing) -> Any:
    image = _itk.GetImageFromArray(np.clip(hu_zyx, *_RANGE_HU).astype(np.float32))
    image.SetSpacing(tuple(float(mm) for mm in reversed(spacing_zyx_mm)))
    return image


def _prepared(hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing) -> Any:
    image = _image(hu_zyx, spacing_zyx_mm)
    return _shrunk(image, [max(1, int(_FINEST_MM / mm)) for mm in image.GetSpacing()])


def _shrunk(image: Any, factors: list[int]) -> Any:
    """Smoothed by one pixel of the coarser grid, then every n-th pixel; axes too short to shrink stay."""
    factors = [factor if size >= 4 * factor else 1 for factor, size in zip(factors, image.GetSize(), strict=True)]
    sigma_mm = [_SMOOTHING_PIXELS * f * mm for f, mm in zip(factors, image.GetSpacing(), strict=True)]
    variance = [sigma * sigma for sigma in sigma_mm]
    return _itk.Shrink(_itk.DiscreteGaussian(image, variance, 32, 0.01, True), factors)


def _registered(fixed: Any, moving: Any) -> Any:
    """Displacement field on the grid of `fixed`, mm in (x, y, z)."""
    demons = _itk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetStandardDeviations(_FIELD_SMOOTHING_PIXELS)
    demons.SetNumberOfThreads(1)
    field: Any = None
    for factor, iterations in _ITERATIONS:
        small_fixed, small_moving = fixed, moving
        if factor > 1:
            small_fixed, small_moving = (_shrunk(image, [factor] * 3) for image in (fixed, moving))
        demons.SetNumberOfIterations(iterations)
        if field is None:
            field = demons.Execute(small_fixed, small_moving)
        else:
            start = _itk.Resample(field, small_fixed, _itk.Transform(), _itk.sitkLinear, 0.0, field.GetPixelID())
            field = demons.Execute(small_fixed, small_moving, start)
    return field
