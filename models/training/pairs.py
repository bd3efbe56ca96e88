"""Simulated pairs: a planning CT and the MVCT or CBCT that a scanner would have made of the same patient."""

import zlib
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.flat_panel import FlatPanel
from models.intensity import Hu, Mask, body_mask
from models.simulate import (
    COARSE_MVCT,
    HEAD_AND_NECK_CBCT,
    PELVIS_CBCT,
    CbctSettings,
    Motion,
    mvct_geometry,
    noise_texture,
    simulated_cbct,
    simulated_mvct,
)
from models.training.volumes import TrainingVolume

Modality: TypeAlias = Literal["mvct", "cbct"]
"""What takes the images that are to be enhanced."""

MODALITY_NAMES: dict[Modality, str] = {"mvct": "MVCT", "cbct": "CBCT"}

_LEAST_BODY_FRACTION = 0.02
"""Slices with less body than this (the ends of the scan) teach nothing."""
_LEAST_SEEN = 0.9
"""Slices of which the cone shows less than this part of what it shows of the middle one are left out."""
_NOISE_SLICES = 4
_TYPICAL_CBCT_KERNEL_MM = 1.0
_FULL_FAN_BELOW_MM = 240.0
"""Bodies that are wider on the median slice are scanned with the half fan."""


@dataclass(frozen=True)
class Scans:
    """Which scanner is simulated, and how much its scans differ from patient to patient; ranges are uniform."""

    modality: Modality = "mvct"
    noise_sd_hu: tuple[float, float] = (20.0, 50.0)
    """MVCT: noise in the middle of a water cylinder of 180 mm; clinical scans have about 25 to 45 HU."""
    cbct_dose: tuple[float, float] = (0.3, 1.5)
    """CBCT: photons, relative to the preset."""
    cbct_scatter_left: tuple[float, float] = (0.05, 0.3)
    """CBCT: part of the scatter that the scanner's own correction leaves."""
    cbct_motion_share: float = 0.3
    """CBCT: part of the patients who swallow or move by up to `cbct_motion_mm` along each axis."""
    cbct_motion_mm: float = 2.0


CLINICAL_SCANS: dict[Modality, Scans] = {
    "mvct": Scans("mvct", noise_sd_hu=(25.0, 45.0)),
    "cbct": Scans("cbct", cbct_dose=(0.5, 1.0), cbct_scatter_left=(0.1, 0.25)),
}
"""What a model is measured on: narrower than what it is trained on."""


@dataclass(frozen=True)
class SimulatedPair:
    """A planning CT and the image simulated from it; same grid, [slice, row, column], HU."""

    volume: TrainingVolume
    """The planning CT, without the slices that the scanner did not see."""
    sparse_hu_zyx: Hu
    """MVCT or CBCT."""
    body: Mask
    """The body, as far as the scanner saw it."""
    noise_zyx: Hu
    """Noise of the same scanner in a uniform object, SD 1; a few slices."""

    def useful_slices(self) -> NDArray[np.intp]:
        """Indices of the slices that show enough of the body."""
        return useful_slices(self.body)


@dataclass(frozen=True)
class _Scan:
    """What the scanner made of the patient, and of a uniform object."""

    volume: TrainingVolume
    hu_zyx: Hu
    noise_zyx: Hu
    seen: Mask | None = field(default=None)


def useful_slices(body: Mask) -> NDArray[np.intp]:
    """Indices of the slices that show enough of the body; [slice, row, column]."""
    return np.flatnonzero(body.mean(axis=(1, 2)) > _LEAST_BODY_FRACTION)


def simulated_pair(
    volume: TrainingVolume, scans: Scans, seed: int, noise_seed: int | None = None
) -> SimulatedPair:  # fmt: skip
    """Simulate one patient; the scan differs within the ranges, and is the same for the same patient and seed.

    With a seed for the noise, it is the same scan (dose, scatter, motion) with other noise.

    Raises
    ------
    models.cone_beam.ConeBeamUnavailable
        If a CBCT is asked for and the library for cone-beam geometry is not installed.
    """
    rng = _generator(volume, seed)
    scanned = _mvct if scans.modality == "mvct" else _cbct
    scan = scanned(volume, scans, rng, None if noise_seed is None else _generator(volume, noise_seed))
    body = body_mask(scan.volume.hu_zyx)
    return SimulatedPair(scan.volume, scan.hu_zyx, body if scan.seen is None else body & scan.seen, scan.noise_zyx)


def scanner_noise(volume: TrainingVolume, scans: Scans, rng: np.random.Generator) -> Hu:
    """Noise of the scanner in a uniform object at the pixels of this volume, SD 1: a few [slice, row, column]."""
    kernel_mm = COARSE_MVCT.kernel_fwhm_mm if scans.modality == "mvct" else _TYPICAL_CBCT_KERNEL_MM
    geometry = mvct_geometry(volume.hu_zyx, volume.spacing_zyx_mm, COARSE_MVCT.views, COARSE_MVCT.detector_mm)
    texture = noise_texture(geometry, kernel_mm, _NOISE_SLICES, rng)
    return np.asarray(texture / texture.std(), np.float32)


def _generator(volume: TrainingVolume, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(volume.patient_id.encode())])


def _mvct(
    volume: TrainingVolume, scans: Scans, rng: np.random.Generator, noise_rng: np.random.Generator | None
) -> _Scan:  # fmt: skip
    # Rays that follow the pixels: at the 4 mm of coarse planning CT the unit's own sampling changes little but time. At
    # 1 mm the fewer views add some 5 HU of streaks to the noise of 20 to 50.
    settings = replace(COARSE_MVCT, noise_sd_hu=float(rng.uniform(*scans.noise_sd_hu)))
    hu_zyx = simulated_mvct(volume.hu_zyx, volume.spacing_zyx_mm, settings, noise_rng or rng)
    return _Scan(volume, hu_zyx, scanner_noise(volume, scans, rng))


def _cbct(
    volume: TrainingVolume, scans: Scans, rng: np.random.Generator, noise_rng: np.random.Generator | None
) -> _Scan:  # fmt: skip
    settings = _cbct_settings(volume, scans, rng)
    scan = simulated_cbct(volume.hu_zyx, volume.spacing_zyx_mm, settings, noise_rng or rng)
    area = scan.seen.sum(axis=(1, 2))
    shown = area >= _LEAST_SEEN * area.max()
    part = replace(volume, hu_zyx=volume.hu_zyx[shown])
    return _Scan(part, scan.hu_zyx[shown], scanner_noise(volume, scans, rng), scan.seen[shown])


def _cbct_settings(volume: TrainingVolume, scans: Scans, rng: np.random.Generator) -> CbctSettings:
    preset = HEAD_AND_NECK_CBCT if _median_width_mm(volume) < _FULL_FAN_BELOW_MM else PELVIS_CBCT
    # At the 4 mm of coarse planning CT, half the views with twice the photons make the same image in half the time.
    views = preset.views // 2
    photons = 2.0 * preset.panel.photons_per_mm2 * float(rng.uniform(*scans.cbct_dose))
    scatter_left = float(rng.uniform(*scans.cbct_scatter_left))
    panel: FlatPanel = replace(preset.panel, photons_per_mm2=photons)
    return replace(preset, views=views, panel=panel, scatter_left=scatter_left, motion=_motion(scans, rng))


def _motion(scans: Scans, rng: np.random.Generator) -> Motion | None:
    moves = rng.random() < scans.cbct_motion_share
    z_mm, y_mm, x_mm = (float(mm) for mm in rng.uniform(-scans.cbct_motion_mm, scans.cbct_motion_mm, 3))
    return Motion((z_mm, y_mm, x_mm), share=float(rng.uniform(0.1, 0.4))) if moves else None


def _median_width_mm(volume: TrainingVolume) -> float:
    """Width of the body from left to right, median over the slices that show it; 0 without a body."""
    columns = body_mask(volume.hu_zyx).any(axis=1).sum(axis=1)
    return float(np.median(columns[columns > 0])) * volume.spacing_zyx_mm[2] if columns.any() else 0.0
