"""A made-up prostate with urethra and rectum, implanted with I-125 seeds: planned in needles, placed with error.

Every length is in mm in a frame like the patient's LPS with its origin in the middle of the prostate: x to the left,
y to posterior, z to the head. Seeds are planned on a template of 5 mm, every second hole of it, one seed each 10 mm of
a needle, none next to the urethra. Their common strength is what gives the planned dose. Placed, the implant has
shifted as a whole, each needle by itself and each seed along its needle; some seeds are lost, and in some patients a
part of the gland has hardly any.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.intensity import Mask
from models.seed_dose import implant_dose_gy
from models.survival.cohort import Floats

URETHRA_RADIUS_MM = 3.0
URETHRA_SPARED_MM = 6.5
"""No seed is planned nearer to the middle of the urethra."""
TEMPLATE_MM = 5.0
SEED_STEP_MM = 10.0
SAMPLE_MM = 1.5
"""Of the samples that the true measures of an implant are of."""
_EXPONENT = 2.3
"""Of the superellipsoid: a little fuller than an ellipsoid."""
_FLATTER_BEHIND = 0.85
Range: TypeAlias = tuple[float, float]


class ImplantSettings(BaseModel):
    """What implants are like; each range is of an even draw for every patient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prescription_gy: float = Field(145.0, gt=0.0)
    volume_ml: Range = (18.0, 45.0)
    planned_d90: Range = (1.28, 1.52)
    """Of the prescription, of the implant as it was planned."""
    placement_mm: Range = (1.0, 3.0)
    """Standard deviation of the place of a needle, and of a seed along it."""
    lost_part: Range = (0.0, 0.04)
    """Of the seeds."""
    gap_part: float = Field(0.5, ge=0.0, le=1.0)
    """Of the patients, those in whom a part of the gland lacks seeds."""
    gap_mm: Range = (6.0, 13.0)
    """Radius around a place on the surface within which seeds lie a gap's width off."""


@dataclass(frozen=True)
class Prostate:
    """Shape of a made-up prostate."""

    half_axes_xyz_mm: tuple[float, float, float]
    rectum_radius_mm: float

    def level(self, points_mm: Floats) -> Floats:
        """Of (..., 3) points: below 1 inside the prostate, 1 on its surface."""
        x, y, z = np.moveaxis(points_mm, -1, 0)
        a, b, c = self.half_axes_xyz_mm
        # Narrower towards the apex, which is the end at the feet.
        narrow = 1.0 + 0.15 * np.clip(z / c, -1.0, 1.0)
        behind = np.where(y > 0.0, _FLATTER_BEHIND, 1.0)
        parts = (np.abs(x) / (a * narrow), np.abs(y) / (b * behind * narrow), np.abs(z) / c)
        return np.asarray(sum(part**_EXPONENT for part in parts))

    def inside(self, points_mm: Floats) -> Mask:
        """Which points lie in the prostate."""
        return np.asarray(self.level(points_mm) < 1.0)

    def urethra_distance_mm(self, points_mm: Floats) -> Floats:
        """From the middle of the urethra, which runs from bladder to apex in an arc."""
        x, y, z = np.moveaxis(points_mm, -1, 0)
        _, b, c = self.half_axes_xyz_mm
        middle = -0.15 * b + 0.25 * b * np.clip(z / c, -1.0, 1.0) ** 2
        return np.asarray(np.hypot(x, y - middle))

    def in_urethra(self, points_mm: Floats) -> Mask:
        """Which points lie in the part of the urethra that runs through the prostate."""
        within = np.abs(points_mm[..., 2]) <= self.half_axes_xyz_mm[2]
        return np.asarray((self.urethra_distance_mm(points_mm) < URETHRA_RADIUS_MM) & within)

    def in_rectum(self, points_mm: Floats) -> Mask:
        """Which points lie in the rectum, its content included, behind the prostate and a little beyond its ends."""
        x, y, z = np.moveaxis(points_mm, -1, 0)
        _, b, c = self.half_axes_xyz_mm
        middle = b * _FLATTER_BEHIND + 2.0 + self.rectum_radius_mm
        return np.asarray((np.hypot(x, y - middle) < self.rectum_radius_mm) & (np.abs(z) <= c + 4.0))


@dataclass(frozen=True)
class Implant:
    """One made-up patient."""

    prostate: Prostate
    prescription_gy: float
    strength_u: float
    """Air-kerma strength of each seed."""
    planned_mm: Floats
    """(m, 3), where the seeds were meant to be."""
    seeds_mm: Floats
    """(k, 3), where those are that were not lost."""

    def dose_gy(self, points_mm: Floats) -> Floats:
        """Of (..., 3) points."""
        flat = points_mm.reshape(-1, 3)
        return implant_dose_gy(flat, self.seeds_mm, self.strength_u).reshape(points_mm.shape[:-1])


def made_up_implant(settings: ImplantSettings, random: np.random.Generator) -> Implant:
    """Draw a patient."""
    prostate = _prostate(settings, random)
    planned = _planned(prostate)
    strength = _strength(prostate, planned, settings.prescription_gy * random.uniform(*settings.planned_d90))
    return Implant(prostate, settings.prescription_gy, strength, planned, _placed(prostate, planned, settings, random))


def sample_points_mm(prostate: Prostate) -> tuple[Floats, Mask]:
    """A grid of `SAMPLE_MM` around a prostate, [slice, row, column, xyz], and which of its points lie inside."""
    half_zyx = prostate.half_axes_xyz_mm[::-1]
    # 1.15: the prostate is widest near its base.
    axes = [np.arange(-1.15 * half, 1.15 * half + SAMPLE_MM, SAMPLE_MM) for half in half_zyx]
    points = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1)
    return points, prostate.inside(points)


def _prostate(settings: ImplantSettings, random: np.random.Generator) -> Prostate:
    shape = np.array([1.15, 0.9, 1.0]) * random.uniform(0.93, 1.07, 3)
    unit = Prostate((float(shape[0]), float(shape[1]), float(shape[2])), 1.0)
    points = np.stack(np.meshgrid(*[np.linspace(-1.4, 1.4, 57)] * 3, indexing="ij"), axis=-1)
    ml = float(unit.inside(points).sum()) * (2.8 / 56) ** 3 / 1000.0
    scale = (random.uniform(*settings.volume_ml) / ml) ** (1.0 / 3.0)
    a, b, c = (float(half * scale) for half in shape)
    return Prostate((a, b, c), float(random.uniform(11.0, 16.0)))


def _planned(prostate: Prostate) -> Floats:
    c = prostate.half_axes_xyz_mm[2]
    i, j = np.meshgrid(np.arange(-12, 13), np.arange(-12, 13), indexing="ij")
    needles = np.stack([i, j], axis=-1)[(i + j) % 2 == 0] * TEMPLATE_MM
    found = []
    for number, (x, y) in enumerate(needles):
        # Neighbouring needles begin half a step apart, so that their seeds fill each other's gaps.
        first = -c + 3.0 + (SEED_STEP_MM / 2.0) * (number % 2)
        z = np.arange(first, c - 2.0, SEED_STEP_MM)
        found.append(np.column_stack([np.full(len(z), x), np.full(len(z), y), z]))
    places = np.concatenate(found)
    kept = (prostate.level(places) < 1.1) & (prostate.urethra_distance_mm(places) > URETHRA_SPARED_MM)
    return np.asarray(places[kept])


def _strength(prostate: Prostate, planned: Floats, d90_gy: float) -> float:
    points, inside = sample_points_mm(prostate)
    gy = implant_dose_gy(points[inside], planned, 1.0)
    return float(d90_gy / np.percentile(gy, 10.0))


def _placed(
    prostate: Prostate, planned: Floats, settings: ImplantSettings, random: np.random.Generator
) -> Floats:  # fmt: skip
    sd = random.uniform(*settings.placement_mm)
    _, needle = np.unique(planned[:, :2], axis=0, return_inverse=True)
    of_needles = random.normal(0.0, [sd, sd, 1.5 * sd], (int(needle.max()) + 1, 3))
    along = np.zeros_like(planned)
    along[:, 2] = random.normal(0.0, sd, len(planned))
    whole = random.normal(0.0, [0.7, 1.0, 1.5])
    placed = planned + whole + of_needles[needle.ravel()] + along
    kept = random.random(len(placed)) >= random.uniform(*settings.lost_part)
    return _without_gap(prostate, placed[kept], settings, random)


def _without_gap(
    prostate: Prostate, seeds: Floats, settings: ImplantSettings, random: np.random.Generator
) -> Floats:  # fmt: skip
    """The seeds around one place on the surface pushed away from it, in those patients who have such a place."""
    direction = random.normal(size=3)
    width = random.uniform(*settings.gap_mm)
    if random.random() >= settings.gap_part:
        return seeds
    direction /= np.linalg.norm(direction)
    surface = direction / float(prostate.level(direction)) ** (1.0 / _EXPONENT)
    away = seeds - surface
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    return np.asarray(np.where(distance < width, surface + away / np.maximum(distance, 0.1) * width, seeds))
