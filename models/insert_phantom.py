"""HU of the sensitometry inserts of a CatPhan 504: what a scanner, or a model behind it, makes of known plastics.

The module CTP404 has seven rods on a circle of 58.7 mm around its middle (The Phantom Laboratory, manual of the CatPhan
504; the manual gives a range of HU for each, of which the middle is taken here, and -1000 for air). Volumes are [slice,
row, column], rows to posterior and columns to the patient's left, HU.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import BODY_THRESHOLD_HU


@dataclass(frozen=True)
class Insert:
    """One rod: HU at 120 kV, and where it is, clockwise from the patient's left as seen on the image."""

    hu: float
    angle_deg: float


INSERTS: Mapping[str, Insert] = {
    "air": Insert(-1000.0, -90.0),
    "pmp": Insert(-196.0, -120.0),
    "ldpe": Insert(-104.0, 180.0),
    "polystyrene": Insert(-47.0, 120.0),
    "acrylic": Insert(115.0, 60.0),
    "delrin": Insert(365.0, 0.0),
    "teflon": Insert(1000.0, -60.0),
}

_CIRCLE_MM = 58.7
_MEASURED_RADIUS_MM = 3.5
"""Of the rods' 6 mm, so that neither their edge nor a small error of the position matters."""
_PHANTOM_RADIUS_MM = (90.0, 110.0)
_ROLL_DEG = np.arange(-10.0, 10.1, 0.5)
_LEAST_CORRELATION = 0.98
"""Between the HU measured and expected, of the slice that shows the module; another phantom stays far below."""


@dataclass(frozen=True)
class InsertPlaces:
    """Where the module is in a volume."""

    slice_index: int
    centre_mm: tuple[float, float]
    """(row, column), from the middle of the first pixel."""
    roll_deg: float

    def measured(self, hu_zyx: NDArray[Any], spacing_zyx_mm: tuple[float, float, float]) -> Mapping[str, float]:
        """Mean HU of every insert."""
        _, row_mm, column_mm = spacing_zyx_mm
        means = _means(hu_zyx[self.slice_index], self.centre_mm, self.roll_deg, (row_mm, column_mm))
        return dict(zip(INSERTS, means, strict=True))


def insert_places(hu_zyx: NDArray[Any], spacing_zyx_mm: tuple[float, float, float]) -> InsertPlaces | None:
    """Find the module by the pattern of its seven HU; None where no slice shows it.

    A phantom lies within 10 degrees of roll. A pattern is what matters here, so wrong HU do not hide the module.
    """
    _, row_mm, column_mm = spacing_zyx_mm
    candidates = [
        (_correlation(hu_zyx[index], centre, roll, (row_mm, column_mm)), InsertPlaces(index, centre, float(roll)))
        for index, centre in _discs(hu_zyx, (row_mm, column_mm))
        for roll in _ROLL_DEG
    ]
    best = max(candidates, key=lambda candidate: candidate[0], default=(0.0, None))
    return best[1] if best[0] >= _LEAST_CORRELATION else None


def _discs(hu_zyx: NDArray[Any], pixel_mm: tuple[float, float]) -> Iterator[tuple[int, tuple[float, float]]]:
    """Slices whose largest object is as large as the phantom, with its centre."""
    for index, plane in enumerate(hu_zyx):
        labels, count = ndimage.label(ndimage.binary_fill_holes(plane > BODY_THRESHOLD_HU))
        if not count:
            continue
        largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
        radius_mm = float(np.sqrt(largest.sum() * pixel_mm[0] * pixel_mm[1] / np.pi))
        if _PHANTOM_RADIUS_MM[0] <= radius_mm <= _PHANTOM_RADIUS_MM[1]:
            row, column = ndimage.center_of_mass(largest)
            yield index, (float(row) * pixel_mm[0], float(column) * pixel_mm[1])


def _correlation(
    plane: NDArray[Any], centre_mm: tuple[float, float], roll_deg: float, pixel_mm: tuple[float, float]
) -> float:
    means = _means(plane, centre_mm, roll_deg, pixel_mm)
    if np.ptp(means) == 0.0:
        return 0.0
    return float(np.corrcoef(means, [insert.hu for insert in INSERTS.values()])[0, 1])


def _means(
    plane: NDArray[Any], centre_mm: tuple[float, float], roll_deg: float, pixel_mm: tuple[float, float]
) -> list[float]:
    """Mean HU of the inserts in their order."""
    offsets = [np.arange(-_MEASURED_RADIUS_MM, _MEASURED_RADIUS_MM + 0.01, 0.5)] * 2
    around = np.stack(np.meshgrid(*offsets, indexing="ij"), -1).reshape(-1, 2)
    around = around[np.hypot(*around.T) <= _MEASURED_RADIUS_MM]
    means = []
    for insert in INSERTS.values():
        angle = np.radians(insert.angle_deg + roll_deg)
        middle = np.array(centre_mm) + _CIRCLE_MM * np.array([np.sin(angle), np.cos(angle)])
        positions = ((middle + around) / np.array(pixel_mm)).T
        means.append(float(ndimage.map_coordinates(np.asarray(plane, np.float32), positions, order=1).mean()))
    return means
