"""Who a made-up head belongs to: sizes, how it lies, what its tissues are worth in HU, and how swollen its brain is.

Ranges are those that textbooks of anatomy and of head CT give for adults; they are no statistics of patients. Axes are
(z, y, x): towards the head, to posterior, to the patient's left; mm from the middle between the commissures.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.implicit_shapes import Coordinates, Field, Point

Wave: TypeAlias = tuple[NDArray[np.float64], float]
"""Wave vector (z, y, x) in 1/mm, and phase."""

_LARGEST_TURN_DEG = 8.0
_SULCUS_MM = 28.0
"""Wavelength of the folds: from one sulcus to the next but one."""
_FOLD_WAVES = 14
_WARP_MM = 2.0

GREY_LOST_HU = 10.0
"""What the worst swelling takes from grey matter; white matter loses a tenth of it."""
WHITE_LOST_HU = 1.0


@dataclass(frozen=True)
class HeadAnatomy:
    """One person. Lengths in mm, tissues in HU before the swelling."""

    scale: Point = (1.0, 1.0, 1.0)
    """Size against the mean head, by axis."""
    rotation: NDArray[np.float64] = None  # type: ignore[assignment]
    """From the image to the head, (3, 3), axes z y x; None: none."""
    shift_mm: Point = (0.0, 0.0, 0.0)
    """Where the head's origin lies, from the middle of the image."""
    warp: tuple[tuple[float, float], ...] = ()
    """Wavelength in mm and phase of the bends of each axis."""
    folds: tuple[Wave, ...] = ()
    """Of the cortex; empty: a brain without folds, whose cortex is the mean of what lies in it."""
    atrophy: float = 0.0
    """0 is a young brain; 1 has sulci and ventricles of old age."""
    oedema: float = 0.0
    """0 to 1: grey matter darkens towards white, sulci and ventricles close."""
    skull_mm: float = 6.5
    scalp_mm: float = 5.0
    grey_hu: float = 37.5
    deep_grey_hu: float = 38.5
    white_hu: float = 29.0
    csf_hu: float = 7.0
    bone_hu: float = 1100.0

    @classmethod
    def drawn(cls, random: np.random.Generator, oedema: float = 0.0) -> "HeadAnatomy":
        """A person from the ranges, with that much swelling."""
        size = random.normal(1.0, 0.03)
        grey = random.normal(37.5, 0.8)
        return cls(
            scale=_point(size * random.normal(1.0, 0.025, 3)),
            rotation=_turned(random),
            shift_mm=_point(random.uniform(-6.0, 6.0, 3)),
            warp=tuple((float(random.uniform(90.0, 160.0)), float(random.uniform(0.0, 2 * np.pi))) for _ in range(3)),
            folds=tuple(_wave(random) for _ in range(_FOLD_WAVES)),
            atrophy=float(random.beta(1.5, 2.0)),
            oedema=oedema,
            skull_mm=float(random.uniform(5.0, 8.0)),
            scalp_mm=float(random.uniform(3.5, 7.0)),
            grey_hu=grey,
            deep_grey_hu=grey + random.normal(1.0, 0.4),
            white_hu=grey / random.normal(1.29, 0.03),
            csf_hu=float(random.uniform(4.0, 10.0)),
            bone_hu=float(random.uniform(900.0, 1300.0)),
        )

    def without_oedema(self) -> "HeadAnatomy":
        """The same person before the arrest."""
        return replace(self, oedema=0.0)

    @property
    def seen_grey_hu(self) -> float:
        """Cortex, with the swelling."""
        return self.grey_hu - GREY_LOST_HU * self.oedema

    @property
    def seen_deep_grey_hu(self) -> float:
        """Caudate, putamen and thalamus, with the swelling."""
        return self.deep_grey_hu - GREY_LOST_HU * self.oedema

    @property
    def seen_white_hu(self) -> float:
        """White matter, with the swelling."""
        return self.white_hu - WHITE_LOST_HU * self.oedema

    @property
    def sulcus_half_mm(self) -> float:
        """Half the width of a sulcus at the surface."""
        return (0.6 + 0.8 * self.atrophy) * (1.0 - 0.85 * self.oedema)

    @property
    def space_mm(self) -> float:
        """Cerebrospinal fluid between brain and skull."""
        return (1.2 + 2.0 * self.atrophy) * (1.0 - 0.7 * self.oedema)

    @property
    def ventricle_scale(self) -> float:
        """Radii of the ventricles against the mean."""
        return (0.85 + 0.5 * self.atrophy) * (1.0 - 0.35 * self.oedema)

    def coordinates(self, shape_zyx: tuple[int, int, int], spacing_zyx_mm: Point, height: float = 0.0) -> Coordinates:
        """Places of all voxels in the mean head, mm, `height` slices above their middles; three dense arrays."""
        axes = [
            ((np.arange(n) - (n - 1) / 2.0 + up) * mm - shift).astype(np.float32)
            for n, up, mm, shift in zip(shape_zyx, (height, 0.0, 0.0), spacing_zyx_mm, self.shift_mm, strict=True)
        ]
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        turn = (np.eye(3) if self.rotation is None else self.rotation).astype(np.float32)
        placed = [(turn[i, 0] * z + turn[i, 1] * y + turn[i, 2] * x) / np.float32(self.scale[i]) for i in range(3)]
        for axis, (wavelength, phase) in enumerate(self.warp):
            # Each axis bends along the next one.
            along = placed[(axis + 1) % 3] * np.float32(2 * np.pi / wavelength)
            placed[axis] = placed[axis] + np.float32(_WARP_MM) * np.sin(along + np.float32(phase))
        return placed[0], placed[1], placed[2]

    def fold_distance(self, at: Coordinates) -> Field:
        """About how far points are from the middle of the nearest sulcus, mm, were there sulci everywhere."""
        total = np.zeros(np.broadcast(*at).shape, np.float32)
        for vector, phase in self.folds:
            turns = sum(np.float32(v) * c for v, c in zip(vector, at, strict=True))
            total += np.sin(turns + np.float32(phase))
        steepness = np.float32(_SULCUS_MM / (2 * np.pi) / np.sqrt(len(self.folds) / 2.0))
        return np.asarray(np.abs(total) * steepness, np.float32)


def _wave(random: np.random.Generator) -> Wave:
    direction = random.standard_normal(3)
    length = 2 * np.pi / (_SULCUS_MM * random.uniform(0.85, 1.2))
    return direction / np.linalg.norm(direction) * length, float(random.uniform(0.0, 2 * np.pi))


def _turned(random: np.random.Generator) -> NDArray[np.float64]:
    angles = random.uniform(-_LARGEST_TURN_DEG, _LARGEST_TURN_DEG, 3)
    return np.asarray(Rotation.from_euler("zyx", angles, degrees=True).as_matrix(), np.float64)


def _point(values: NDArray[np.float64]) -> Point:
    z, y, x = (float(value) for value in values)
    return z, y, x
