"""Small lesions of known contrast, planted into a CT, and what a reconstruction makes of them: kept, erased, invented.

Images are [row, column] in HU with square pixels; places are (row, column) in pixels, a whole number at the middle of
a pixel. Pixels on the rim of a lesion get the part of its contrast that they are covered by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Hu, Mask

Shape: TypeAlias = Literal["disc", "plus"]
"""A disc; or two bars that cross, which no anatomy looks like."""
Plane: TypeAlias = NDArray[np.float64]
"""[row, column]."""

DIAMETER_MM = 5.0
INVENTED_ABOVE_HU = 25.0
"""Half of what is planted: what would be taken for a lesion that is half as strong."""
SOFT_TISSUE_HU = (-160.0, 240.0)

_FINER = 8
"""Points for each pixel along either axis, to find the covered part of a pixel."""
_BAR_SHARE = 1.0 / 3.0
"""Width of the bars of a plus, of its length."""
_CENTRAL = 0.5
"""Part of a lesion's diameter that its contrast is read from: the rim belongs to the sharpness."""
_FLAT_HU, _FLAT_SIGMA_MM = 50.0, 2.0
"""Truth that varies less than this over twice the width of a lesion, without its fine noise, has no edge there."""
_CLEAR_MM = 6.0
"""Around the middle of a lesion there is nothing but soft tissue."""
_APART_MM = 20.0
_RING = (1.0, 2.0)
"""Diameters of the ring that is called surroundings, of the lesion's diameter; the truth has no edge in it."""


@dataclass(frozen=True)
class Lesion:
    """One lesion."""

    row: float
    column: float
    contrast_hu: float
    shape: Shape = "disc"


@dataclass(frozen=True)
class Invented:
    """Blobs in the difference of a reconstruction to the truth; there is no such lesion, or no longer."""

    invented: int
    """The reconstruction stands out more from its surroundings than the truth does."""
    erased: int
    """It stands out less: something that the truth has, noise of its own scan among it, is missing."""

    @property
    def blobs(self) -> int:
        """Both."""
        return self.invented + self.erased


def soft_places(truth: NDArray[Any], region: Mask, pixel_mm: float, clear_mm: float = _CLEAR_MM) -> Mask:
    """Pixels of the region around which, as far as `clear_mm`, all is soft tissue of the region."""
    soft = region & (truth > SOFT_TISSUE_HU[0]) & (truth < SOFT_TISSUE_HU[1])
    padded = np.pad(soft, 1)
    return np.asarray(ndimage.distance_transform_edt(padded)[1:-1, 1:-1] * pixel_mm > clear_mm)


def placed(
    places: Mask, kinds: Sequence[tuple[Shape, float]], pixel_mm: float, rng: np.random.Generator
) -> list[Lesion]:
    """Lesions of these kinds (shape, contrast in HU) at random places, 20 mm apart; fewer where there is no room."""
    free = places.copy()
    rows, columns = np.indices(places.shape)
    lesions: list[Lesion] = []
    for shape, contrast_hu in kinds:
        candidates = np.argwhere(free)
        if not len(candidates):
            break
        row, column = candidates[rng.integers(len(candidates))] + rng.uniform(-0.5, 0.5, 2)
        lesions.append(Lesion(float(row), float(column), contrast_hu, shape))
        free &= np.hypot(rows - row, columns - column) * pixel_mm >= _APART_MM
    return lesions


def planted(hu: NDArray[Any], lesions: Sequence[Lesion], pixel_mm: float, diameter_mm: float = DIAMETER_MM) -> Hu:
    """The image with lesions added to it."""
    added = sum(
        (lesion.contrast_hu * coverage(lesion, hu.shape, pixel_mm, diameter_mm) for lesion in lesions),
        start=np.zeros(hu.shape),
    )
    return np.asarray(hu + added, np.float32)


def coverage(lesion: Lesion, shape: tuple[int, ...], pixel_mm: float, diameter_mm: float = DIAMETER_MM) -> Plane:
    """Part of every pixel that the lesion covers, 0 to 1: (row, column)."""
    covered = np.zeros(shape)
    reach = int(np.ceil(diameter_mm / 2.0 / pixel_mm)) + 1
    row, column = round(lesion.row), round(lesion.column)
    part = tuple(
        slice(max(at - reach, 0), min(at + reach + 1, size)) for at, size in zip((row, column), shape, strict=True)
    )
    y, x = ((_points(side) - at) * pixel_mm for side, at in zip(part, (lesion.row, lesion.column), strict=True))
    inside = _is_inside(lesion.shape, y[:, None], x[None, :], diameter_mm)
    sizes = (len(y) // _FINER, _FINER, len(x) // _FINER, _FINER)
    covered[part] = inside.reshape(sizes).mean(axis=(1, 3))
    return covered


def contrast_recovery(
    with_lesions: NDArray[Any], without: NDArray[Any], lesion: Lesion, pixel_mm: float, diameter_mm: float = DIAMETER_MM
) -> float:
    """Mean contrast in the central half of a lesion over the contrast that was planted there; 1 is all of it.

    The contrast is the reconstruction with the lesions minus that of the same slice without them, from rays with the
    same noise: anatomy and noise, as far as the method treats both scans alike, fall out.
    """
    centre = coverage(lesion, with_lesions.shape, pixel_mm, _CENTRAL * diameter_mm)
    true = lesion.contrast_hu * coverage(lesion, with_lesions.shape, pixel_mm, diameter_mm)
    found = np.asarray(with_lesions, np.float64) - without
    return float((centre * found).sum() / (centre * true).sum())


def invented(
    image: NDArray[Any],
    truth: NDArray[Any],
    region: Mask,
    pixel_mm: float,
    above_hu: float = INVENTED_ABOVE_HU,
    diameter_mm: float = DIAMETER_MM,
) -> Invented:
    """Count blobs, bright or dark, in the difference to the truth, averaged over the disc of a lesion, beyond a limit.

    Only where all that the disc touches is soft tissue of the truth, and the truth, smoothed by 2 mm, varies by less
    than 50 HU over twice the disc: an edge which is less sharp is no blob. Pixels next to each other are one blob,
    and it is judged at its strongest one.
    """
    image, truth = np.asarray(image, np.float64), np.asarray(truth, np.float64)
    places = soft_places(truth, region, pixel_mm, diameter_mm / 2.0 + pixel_mm) & _flat(truth, pixel_mm, diameter_mm)
    difference = np.where(places, _disc_mean(image - truth, pixel_mm, diameter_mm), 0.0)
    soft = region & (truth > SOFT_TISSUE_HU[0]) & (truth < SOFT_TISSUE_HU[1])
    own, true = (np.abs(_standing_out(plane, soft, pixel_mm, diameter_mm)) for plane in (image, truth))
    counts = [0, 0]
    for sign in (1.0, -1.0):
        labels, count = ndimage.label(sign * difference > above_hu, np.ones((3, 3)))
        for place in ndimage.maximum_position(sign * difference, labels, np.arange(1, count + 1)):
            counts[int(own[place] <= true[place])] += 1
    return Invented(*counts)


def _flat(truth: Plane, pixel_mm: float, diameter_mm: float) -> Mask:
    smooth = ndimage.gaussian_filter(truth, _FLAT_SIGMA_MM / pixel_mm)
    around = _disc(pixel_mm, 2.0 * diameter_mm) > 0.5
    highest, lowest = (f(smooth, footprint=around) for f in (ndimage.maximum_filter, ndimage.minimum_filter))
    return np.asarray(highest - lowest < _FLAT_HU)


def _points(pixels: slice) -> Plane:
    """Positions inside the pixels of one axis."""
    count = (pixels.stop - pixels.start) * _FINER
    return np.asarray(pixels.start - 0.5 + (np.arange(count) + 0.5) / _FINER)


def _is_inside(shape: Shape, y_mm: Plane, x_mm: Plane, diameter_mm: float) -> Mask:
    radius_mm = diameter_mm / 2.0
    if shape == "disc":
        return np.asarray(np.hypot(y_mm, x_mm) <= radius_mm)
    lengthwise, across = np.maximum(np.abs(y_mm), np.abs(x_mm)), np.minimum(np.abs(y_mm), np.abs(x_mm))
    return np.asarray((lengthwise <= radius_mm) & (across <= _BAR_SHARE * radius_mm))


def _disc(pixel_mm: float, diameter_mm: float) -> Plane:
    reach = int(np.ceil(diameter_mm / 2.0 / pixel_mm)) + 1
    side = 2 * reach + 1
    return coverage(Lesion(reach, reach, 1.0), (side, side), pixel_mm, diameter_mm)


def _disc_mean(plane: Plane, pixel_mm: float, diameter_mm: float) -> Plane:
    disc = _disc(pixel_mm, diameter_mm)
    return np.asarray(ndimage.convolve(plane, disc / disc.sum(), mode="nearest"))


def _standing_out(plane: Plane, soft: Mask, pixel_mm: float, diameter_mm: float) -> Plane:
    """Mean over the disc minus mean over the soft tissue of the ring about it."""
    outer = _disc(pixel_mm, _RING[1] * diameter_mm)
    inner = _disc(pixel_mm, _RING[0] * diameter_mm)
    margin = (len(outer) - len(inner)) // 2
    ring = outer - np.pad(inner, margin)
    weight = ndimage.convolve(soft.astype(np.float64), ring, mode="constant")
    around = ndimage.convolve(np.where(soft, plane, 0.0), ring, mode="constant") / np.maximum(weight, 1e-9)
    return _disc_mean(plane, pixel_mm, diameter_mm) - around
