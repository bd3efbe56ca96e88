"""Made-up courses of treatment with a known hazard: a tumour in the chest that answers to its treatment, more or less.

Every patient has a response r, drawn from a standard normal distribution. At position p of the course a part
exp(-k p) of the tumour's volume is left, k = 0.7 exp(0.6 r), and what is left is less dense and more uneven, the more
of it is gone. The true linear predictor of the hazard is -effect x r: who responds well lives longer. With an effect
of 0 images and outcomes have nothing to do with each other.

The chest is coarse, and the cone-beam CT is a look and no physics (scale, offset, cupping, blur, noise; for physics see
`models.simulate`), because a hundred patients have to be drawn in minutes. Setup errors are real motions of the body.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from models.delta_features import course_position
from models.implicit_shapes import Chain, Coordinates, Ellipsoid, Shape
from models.intensity import AIR_HU, Hu, Mask
from models.rigid_motion import Matrix
from models.survival.cohort import Cohort, Floats, cohort

_FAT_HU, _SOFT_HU, _LUNG_HU, _BONE_HU, _BLOOD_HU = -95.0, 35.0, -780.0, 420.0, 45.0
_EDEMA_HU = -40.0
"""What fills the room that a tumour leaves."""
_TUMOUR_HU = 52.0
_LOSS_HU = 40.0
"""How much less dense a tumour is that is nearly gone."""
_TEXTURE_SD_HU = 9.0
_WAVES = 24


class ResponseSettings(BaseModel):
    """What the patients and their images are like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape_zyx: tuple[int, int, int] = (26, 80, 80)
    spacing_zyx_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)
    fractions: int = Field(default=5, ge=2)
    """Images of the course, the first and the last fraction among them."""
    effect: float = 1.0
    """Logarithm of the hazard ratio for one standard deviation of the response; 0: no effect."""
    setup_sd_mm: float = Field(default=2.5, ge=0.0)
    noise_sd_hu: float = Field(default=22.0, ge=0.0)
    """White, before the blur of the reconstruction."""
    drift_sd_hu: float = Field(default=4.0, ge=0.0)
    """Of the offset from one session to the next."""
    shape: float = Field(default=1.2, gt=0.0)
    scale_d: float = Field(default=900.0, gt=0.0)
    watched_d: tuple[float, float] = (300.0, 2500.0)
    """Hazard and censoring as in `models.survival.simulated`."""


@dataclass(frozen=True)
class SimulatedCourse:
    """One patient; all images on one grid, [slice, row, column], HU."""

    response: float
    planning_hu_zyx: Hu
    gtv_zyx: Mask
    """On the planning CT."""
    fractions_hu_zyx: tuple[Hu, ...]
    setups: tuple[Matrix, ...]
    """For each fraction where the patient lies: image = matrix @ planning, LPS mm from the centre of the grid."""


@dataclass(frozen=True)
class SimulatedOutcomes:
    """What became of the patients, and the risk that nobody knows; times in days."""

    responses: Floats
    risk: Floats
    """(n,) true linear predictor."""
    time_d: Floats
    event: NDArray[np.bool_]

    def cohort(self) -> Cohort:
        """With the true linear predictor as the only feature."""
        return cohort(self.risk[:, None], ["true_risk"], self.time_d, self.event)


@dataclass(frozen=True)
class _Chest:
    """One body; coordinates (z, y, x) in mm from its centre, y towards the back."""

    soft: Shape
    fat_mm: float
    lungs: tuple[Shape, ...]
    bones: tuple[Shape, ...]
    blood: tuple[Shape, ...]
    trachea: Shape
    tumour: Ellipsoid
    waves_zyx: NDArray[np.float32]
    """(n, 3), radians per mm."""
    phases: NDArray[np.float32]


def simulated_outcomes(patients: int, settings: ResponseSettings, random: np.random.Generator) -> SimulatedOutcomes:
    """Draw responses, and times with the hazard that they make (Bender et al., doi 10.1002/sim.2059)."""
    responses = random.standard_normal(patients)
    risk = -settings.effect * responses
    times = settings.scale_d * (random.exponential(size=patients) * np.exp(-risk)) ** (1.0 / settings.shape)
    censored = random.uniform(*settings.watched_d, size=patients)
    return SimulatedOutcomes(responses, risk, np.maximum(np.minimum(times, censored), 1.0), times <= censored)


def remaining(response: float, position: float) -> float:
    """Part of the tumour's volume that is left at a position of the course, 0 to 1."""
    return float(np.exp(-0.7 * np.exp(0.6 * response) * position))


def simulated_course(response: float, settings: ResponseSettings, random: np.random.Generator) -> SimulatedCourse:
    """Draw a chest with a tumour, its planning CT and the cone-beam CT of every fraction."""
    chest = _chest(random)
    still = _coordinates(settings)
    planning = _painted(chest, still, 1.0) + random.normal(0.0, 8.0, settings.shape_zyx)
    gtv = np.asarray(chest.tumour(still) <= 0.0)
    session = _Session.of(random)
    fractions, setups = [], []
    for number in range(1, settings.fractions + 1):
        setup = _setup(settings, random)
        left = remaining(response, course_position(number, settings.fractions))
        truth = _painted(chest, _coordinates(settings, setup), left)
        fractions.append(_as_cone_beam(truth, session, settings, random))
        setups.append(setup)
    return SimulatedCourse(response, planning.astype(np.float32), gtv, tuple(fractions), tuple(setups))


def simulated_courses(
    responses: Floats, settings: ResponseSettings, seed: int
) -> Iterator[SimulatedCourse]:  # fmt: skip
    """One patient after the other; each is the same whoever else is drawn."""
    for index, response in enumerate(responses):
        yield simulated_course(float(response), settings, np.random.default_rng([seed, index]))


def _chest(random: np.random.Generator) -> _Chest:
    size = random.uniform(0.92, 1.08)
    back, right = random.uniform(-4.0, 4.0), random.uniform(-6.0, 6.0)
    radii = tuple(random.uniform(low, high) for low, high in ((20.0, 32.0), (12.0, 17.0), (13.0, 19.0)))
    waves = random.normal(0.0, 1.0, (_WAVES, 3)).astype(np.float32)
    waves *= (2.0 * np.pi / random.uniform(10.0, 26.0, (_WAVES, 1)) / np.linalg.norm(waves, axis=1)[:, None]).astype(
        "f4"
    )
    tilt = random.uniform(-5.0, 5.0)
    return _Chest(
        soft=Ellipsoid((0.0, 0.0, 0.0), (240.0, 96.0 * size, 142.0 * size), 2.6),
        fat_mm=random.uniform(7.0, 15.0),
        lungs=(
            Ellipsoid((10.0, 0.0, -72.0 * size), (95.0, 66.0 * size, 46.0 * size), 2.3),
            Ellipsoid((16.0, 2.0, 74.0 * size), (90.0, 62.0 * size, 42.0 * size), 2.3),
        ),
        bones=(
            Chain([(-100.0, 62.0 * size + tilt, 0.0), (100.0, 62.0 * size - tilt, 0.0)], [15.0, 15.0]),
            Chain([(-30.0, -80.0 * size, 0.0), (100.0, -78.0 * size, 0.0)], [8.0, 8.0]),
            *_ribs(size),
        ),
        blood=(
            Chain([(-100.0, 42.0, 22.0), (100.0, 38.0, 18.0)], [11.0, 11.0]),
            Ellipsoid((-45.0, -30.0, 14.0), (52.0, 38.0, 44.0)),
        ),
        trachea=Chain([(10.0, 4.0, 0.0), (100.0, -8.0, 0.0)], [8.0, 8.0]),
        tumour=Ellipsoid((random.uniform(-14.0, 14.0), 25.0 + back, right), radii),  # type: ignore[arg-type]
        waves_zyx=waves,
        phases=random.uniform(0.0, 2.0 * np.pi, _WAVES).astype(np.float32),
    )


def _ribs(size: float) -> list[Shape]:
    """On each side a few that slope to the front; what tells a registration how far up or down the patient lies."""
    return [
        Chain(
            [
                (z, 60.0 * size, side * 30.0),
                (z - 6.0, 20.0, side * 122.0 * size),
                (z - 20.0, -60.0 * size, side * 70.0),
            ],
            [5.0, 5.0, 5.0],
        )
        for z in range(-60, 100, 36)
        for side in (-1.0, 1.0)
    ]


def _setup(settings: ResponseSettings, random: np.random.Generator) -> Matrix:
    """A shift in any direction and a small turn about the patient's axis."""
    turn = np.radians(random.normal(0.0, 0.8))
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = random.normal(0.0, settings.setup_sd_mm, 3)
    return matrix


def _coordinates(settings: ResponseSettings, setup: Matrix | None = None) -> Coordinates:
    """Places in the patient, (z, y, x) in mm, that the voxels show; x to the patient's left, y to the back, z up."""
    sizes = zip(settings.shape_zyx, settings.spacing_zyx_mm, strict=True)
    z, y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2.0) * mm for n, mm in sizes), indexing="ij", sparse=True)
    if setup is None:
        return z.astype(np.float32), y.astype(np.float32), x.astype(np.float32)
    back = np.linalg.inv(setup)
    moved = [back[row, 0] * x + back[row, 1] * y + back[row, 2] * z + back[row, 3] for row in (2, 1, 0)]
    up, behind, left = (np.asarray(one, np.float32) for one in moved)
    return up, behind, left


def _painted(chest: _Chest, at: Coordinates, left: float) -> NDArray[np.float64]:
    """HU of the body with so much of the tumour left; edges are as wide as voxels are."""
    body = chest.soft(at)
    hu = np.full(np.broadcast_shapes(*(one.shape for one in at)), AIR_HU)
    _put(hu, body, _FAT_HU)
    _put(hu, body + np.float32(chest.fat_mm), _SOFT_HU)
    for shape in chest.lungs:
        _put(hu, shape(at), _LUNG_HU)
    for shape in chest.blood:
        _put(hu, shape(at), _BLOOD_HU)
    for shape in chest.bones:
        _put(hu, np.maximum(shape(at), body + np.float32(4.0)), _BONE_HU)
    _put(hu, chest.trachea(at), AIR_HU)
    _put_tumour(hu, chest, at, left)
    return hu


def _put(hu: NDArray[np.float64], distance: NDArray[np.float32], value: float | NDArray[np.float64]) -> None:
    share = np.clip(0.5 - distance / _EDGE_MM, 0.0, 1.0)
    hu += share * (value - hu)


_EDGE_MM = 4.0


def _put_tumour(hu: NDArray[np.float64], chest: _Chest, at: Coordinates, left: float) -> None:
    whole = np.broadcast_to(chest.tumour(at), hu.shape)
    _put(hu, whole, _EDEMA_HU)
    shrunk = Ellipsoid(chest.tumour.centre, tuple(left ** (1.0 / 3.0) * r for r in chest.tumour.radii))
    near = whole < _EDGE_MM
    value = np.full(hu.shape, _TUMOUR_HU - _LOSS_HU * (1.0 - left))
    value[near] += _TEXTURE_SD_HU * (1.0 + 1.5 * (1.0 - left)) * _texture(chest, at, near)
    _put(hu, shrunk(at), value)


def _texture(chest: _Chest, at: Coordinates, where: Mask) -> NDArray[np.float64]:
    """Plane waves of many lengths, SD 1; a function of the place, so that it moves with the patient."""
    points = np.stack([np.broadcast_to(one, where.shape)[where] for one in at], axis=1)
    waves = np.cos(points @ chest.waves_zyx.T + chest.phases)
    return np.asarray(waves.sum(axis=1) / np.sqrt(_WAVES / 2.0), np.float64)


@dataclass(frozen=True)
class _Session:
    """How the imager of one patient departs from HU, in all of his fractions."""

    scale: float
    cupping_hu: float

    @classmethod
    def of(cls, random: np.random.Generator) -> "_Session":
        return cls(random.uniform(0.92, 1.0), random.uniform(30.0, 70.0))


def _as_cone_beam(
    hu_zyx: NDArray[np.float64], session: _Session, settings: ResponseSettings, random: np.random.Generator
) -> Hu:
    blurred = ndimage.gaussian_filter(hu_zyx, [0.5, 0.4, 0.4])
    _, y, x = (
        np.linspace(-1.0, 1.0, n).reshape([-1 if axis == k else 1 for k in range(3)])
        for axis, n in enumerate(settings.shape_zyx)
    )
    density = np.clip(1.0 + blurred / 1000.0, 0.0, None)
    # Scatter weighs most in the middle, and where there is tissue.
    cupping = session.cupping_hu * np.clip(1.0 - x * x - y * y, 0.0, 1.0) * density
    noise = ndimage.gaussian_filter(random.standard_normal(settings.shape_zyx), [0.3, 0.6, 0.6])
    drift = random.normal(0.0, settings.drift_sd_hu)
    seen = 1000.0 * (session.scale * density - 1.0) - cupping + drift * density
    seen += noise / noise.std() * settings.noise_sd_hu
    return np.asarray(np.maximum(seen, AIR_HU), np.float32)
