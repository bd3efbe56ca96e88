"""Failures that are planted into a result, or into the input that it is made from; arrays are [slice, row, column].

Sizes are in mm and chance is seeded, so that every run plants the same. HU of what is added are stated with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.input_faults import truncated_part
from models.intensity import AIR_HU, Hu, Mask, body_mask
from models.stability_measures import Spacing
from models.training.volumes import TrainingVolume

SOFT_BLOB_HU, FIRM_BLOB_HU = 150.0, 500.0
"""What a blob adds to the soft tissue that it lies in: as a vessel with contrast, as a calcification."""
ERASABLE: Mapping[str, tuple[str, ...]] = {
    "erased_firm": ("Bone_Mandible", "Larynx"),
    "erased_parotid": ("Parotid_L", "Parotid_R"),
    "erased_inner": ("Brainstem", "Esophagus"),
}
SMOOTHING_MM = 3.0
SCALE_ERROR = 0.05


def shifted(hu_zyx: NDArray[Any], spacing: Spacing, by_zyx_mm: tuple[float, float, float]) -> Hu:
    """Moved as a whole; cubic, so that it is hardly smoothed."""
    voxels = [mm / size for mm, size in zip(by_zyx_mm, spacing, strict=True)]
    moved = ndimage.shift(np.asarray(hu_zyx, np.float32), voxels, order=3, mode="nearest")
    return np.asarray(np.maximum(moved, AIR_HU), np.float32)


def direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """A direction in space."""
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def bent(hu_zyx: NDArray[Any], spacing: Spacing, by_mm: float, rng: np.random.Generator) -> Hu:
    """Displaced by so much at one place near the surface of the body, less around it (Gaussian, SD 20 mm)."""
    body = body_mask(hu_zyx)
    skin = body & ~ndimage.binary_erosion(body, iterations=3)
    centre = _place(skin & _middle_slices(body), rng)
    field = _gaussian(body.shape, centre, spacing, 20.0)
    grid = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in body.shape), indexing="ij")
    steps = direction(rng) * by_mm / np.array(spacing)
    where = [axis - np.float32(step) * field for axis, step in zip(grid, steps, strict=True)]
    return np.asarray(ndimage.map_coordinates(hu_zyx, where, order=1, mode="nearest"), np.float32)


def erased(hu_zyx: NDArray[Any], organ: Mask, spacing: Spacing, rng: np.random.Generator) -> Hu:
    """The organ becomes what lies around it: the values of voxels within 6 mm, drawn, and smoothed like tissue."""
    near = ndimage.distance_transform_edt(~organ, sampling=spacing)
    shell = (near > 0.0) & (near <= 6.0) & (hu_zyx > -300.0) & (hu_zyx < 200.0)
    tissue = hu_zyx[shell] if shell.any() else np.zeros(1, np.float32)
    result = np.array(hu_zyx, np.float32)
    drawn = np.full(hu_zyx.shape, np.median(tissue), np.float32)
    drawn += ndimage.gaussian_filter(rng.normal(0.0, 1.0, hu_zyx.shape), 0.7).astype(np.float32) * 40.0
    result[organ] = drawn[organ]
    return result


def with_blob(
    hu_zyx: NDArray[Any], spacing: Spacing, diameter_mm: float, adds_hu: float, rng: np.random.Generator
) -> Hu:
    """Add a ball in soft tissue; voxels that it fills in part get their part."""
    body = body_mask(hu_zyx)
    deep = ndimage.binary_erosion(body, iterations=4) & _middle_slices(body)
    soft = deep & (np.abs(ndimage.uniform_filter(np.asarray(hu_zyx, np.float32), 3)) < 150.0)
    return np.asarray(hu_zyx + adds_hu * _ball(hu_zyx.shape, _place(soft, rng), spacing, diameter_mm), np.float32)


def smoothed_away(hu_zyx: NDArray[Any], spacing: Spacing) -> Hu:
    """After a Gaussian of 3 mm SD."""
    sigma = [SMOOTHING_MM / mm for mm in spacing]
    return np.asarray(ndimage.gaussian_filter(np.asarray(hu_zyx, np.float32), sigma), np.float32)


def wrong_attenuation(hu_zyx: NDArray[Any]) -> Hu:
    """Attenuation 5 % too high: a slope that is wrong about -1000 HU, as a wrong water calibration makes it."""
    return np.asarray((hu_zyx - AIR_HU) * (1.0 + SCALE_ERROR) + AIR_HU, np.float32)


def wrong_hu_scale(hu_zyx: NDArray[Any]) -> Hu:
    """HU times 1.05: water stays, bone is off."""
    return np.asarray(hu_zyx * (1.0 + SCALE_ERROR), np.float32)


def turned_over(hu_zyx: NDArray[Any]) -> Hu:
    """Left and right exchanged."""
    return np.ascontiguousarray(hu_zyx[:, :, ::-1])


def reordered(hu_zyx: NDArray[Any], rng: np.random.Generator, run: int = 8) -> Hu:
    """A run of slices in the middle of the body in reverse."""
    shown = np.flatnonzero(_middle_slices(body_mask(hu_zyx)).any(axis=(1, 2)))
    start = int(rng.integers(shown[0], max(shown[0] + 1, shown[-1] + 2 - run)))
    result = np.array(hu_zyx, np.float32)
    result[start : start + run] = hu_zyx[start : start + run][::-1]
    return result


def exchanged(hu_zyx: NDArray[Any], rng: np.random.Generator) -> Hu:
    """Two neighbouring slices have changed places."""
    return reordered(hu_zyx, rng, run=2)


def fitted(hu_zyx: NDArray[Any], shape: tuple[int, ...]) -> Hu:
    """Another patient's image on this grid: cut off or filled up with air around the middle."""
    result = np.full(shape, AIR_HU, np.float32)
    pairs = [(min(a, b), (a - min(a, b)) // 2, (b - min(a, b)) // 2) for a, b in zip(hu_zyx.shape, shape, strict=True)]
    source = tuple(slice(begin, begin + size) for size, begin, _ in pairs)
    target = tuple(slice(begin, begin + size) for size, _, begin in pairs)
    result[target] = hu_zyx[source]
    return result


def with_metal(hu_zyx: NDArray[Any], spacing: Spacing, rng: np.random.Generator) -> Hu:
    """Two balls of 16 mm with 8000 HU in the body, as large fillings or an implant; to be scanned."""
    body = body_mask(hu_zyx)
    deep = ndimage.binary_erosion(body, iterations=4) & _middle_slices(body)
    first = _place(deep, rng)
    second = first + np.array([0.0, 0.0, 24.0 / spacing[2]])
    balls = [_ball(hu_zyx.shape, centre, spacing, 16.0) for centre in (first, second)]
    return np.asarray(np.maximum(hu_zyx, np.maximum(*balls) * 9000.0 - 1000.0), np.float32)


def truncated(hu_zyx: NDArray[Any]) -> Hu:
    """A round field of view that cuts off a quarter of the width of the body."""
    body = body_mask(hu_zyx).any(axis=0)
    columns = np.flatnonzero(body.any(axis=0))
    radius = 0.375 * (columns[-1] - columns[0] + 1)
    rows, width = body.shape
    y, x = np.ogrid[:rows, :width]
    outside = np.hypot(y - (rows - 1) / 2.0, x - (width - 1) / 2.0) > radius
    return np.asarray(np.where(outside, np.float32(AIR_HU), hu_zyx), np.float32)


def without_truncation(volume: TrainingVolume) -> TrainingVolume:
    """The longest run of slices whose body the field of view holds; others are no clean case."""
    body = body_mask(volume.hu_zyx)
    whole = [truncated_part(volume.hu_zyx[at : at + 1], body[at : at + 1]) < 0.01 for at in range(len(body))]
    runs = ndimage.find_objects(ndimage.label(whole)[0])
    longest = max((run[0] for run in runs), key=lambda one: one.stop - one.start, default=slice(None))
    return replace(volume, hu_zyx=volume.hu_zyx[longest])


def organ_to_erase(
    masks: Mapping[str, Mask], organs: Sequence[str], body: Mask, rng: np.random.Generator
) -> Mask | None:  # fmt: skip
    """One of these organs that was drawn, and that the image shows."""
    names = [name for name in organs if name in masks and (masks[name] & body).sum() > masks[name].sum() / 2]
    return masks[names[int(rng.integers(len(names)))]] if names else None


def coarsened(volume: TrainingVolume, number: int, slices: int = 48) -> TrainingVolume:
    """A part of the volume at twice the pixel size, of another height for each number."""
    start = number * 12 % max(1, len(volume.hu_zyx) - slices)
    part = volume.hu_zyx[start : start + slices]
    hu = part.reshape(len(part), part.shape[1] // 2, 2, part.shape[2] // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    slice_mm, row_mm, column_mm = volume.spacing_zyx_mm
    return replace(volume, hu_zyx=np.asarray(hu, np.float32), spacing_zyx_mm=(slice_mm, 2 * row_mm, 2 * column_mm))


def _middle_slices(body: Mask) -> Mask:
    slices = np.flatnonzero(body.any(axis=(1, 2)))
    middle = np.zeros(len(body), np.bool_)
    middle[slices[len(slices) // 5] : slices[-len(slices) // 5]] = True
    return np.broadcast_to(middle[:, None, None], body.shape)


def _place(where: Mask, rng: np.random.Generator) -> NDArray[np.float64]:
    points = np.argwhere(where)
    return np.asarray(points[int(rng.integers(len(points)))], np.float64)


def _squared_mm(shape: tuple[int, ...], centre: NDArray[np.float64], spacing: Spacing) -> NDArray[np.float32]:
    z, y, x = (
        (((np.arange(n) - middle) * mm) ** 2).astype(np.float32)
        for n, middle, mm in zip(shape, centre, spacing, strict=True)
    )
    return np.asarray(z[:, None, None] + y[:, None] + x, np.float32)


def _gaussian(
    shape: tuple[int, ...], centre: NDArray[np.float64], spacing: Spacing, sd_mm: float
) -> NDArray[np.float32]:  # fmt: skip
    return np.asarray(np.exp(-_squared_mm(shape, centre, spacing) / (2.0 * sd_mm**2)), np.float32)


def _ball(
    shape: tuple[int, ...], centre: NDArray[np.float64], spacing: Spacing, diameter_mm: float
) -> NDArray[np.float32]:
    """Part of each voxel inside the ball: mean over 5 x 5 x 5 points."""
    steps = (np.arange(5) - 2.0) / 5.0
    total = np.zeros(shape, np.float32)
    for z in steps:
        for y in steps:
            for x in steps:
                total += _squared_mm(shape, centre - np.array([z, y, x]), spacing) <= (diameter_mm / 2.0) ** 2
    return total / 125.0
