"""What differs between made-up male pelves: sizes, fillings, tissues, drawn from anatomical ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import ndtr, ndtri

from models.pelvis_canvas import Pose

Hip: TypeAlias = Literal["L", "R"]

PROSTATE_ML = (20.0, 100.0)
SEMINAL_VESICLES_ML = (4.0, 15.0)
BLADDER_ML = (60.0, 500.0)
RECTUM_RADIUS_MM = (12.0, 30.0)
"""Mean radius of the ampulla."""
HEAD_RADIUS_MM = (21.5, 28.5)

_METAL_SHARE = 0.1
_CONTRAST_SHARE = 0.2
_MARKER_SHARE = 0.2


@dataclass(frozen=True)
class Tissue:
    """What a tissue looks like."""

    hu: float
    mr: float
    """T2-weighted signal, no unit."""


@dataclass(frozen=True)
class PelvisAnatomy:
    """One patient.

    References
    ----------
    Prostate of men treated for cancer: Davis et al. 2014, doi 10.4172/2167-7964.S1-001.
    Seminal vesicles (mean 6.5 mL in young men): Barrett et al. 2017, doi 10.1007/s00330-017-4905-x.
    Bladder (49 to 246 mL when told to empty, 159 to 626 mL to fill): doi 10.1111/1754-9485.70139; see also Cramp et al.
    2016, doi 10.1002/jmrs.162.
    Rectum (large above 120 mL, or 12 cm2 on average): Pinkawa et al. 2006, doi 10.1016/j.radonc.2006.10.028; what gas
    and stool in it do: de Crevoisier et al. 2005, doi 10.1016/j.ijrobp.2004.11.032.
    Femoral heads and necks: Soodmand et al. 2019, doi 10.1111/os.12416.
    HU from the composition of tissues: Schneider et al. 1996, doi 10.1088/0031-9155/41/1/009.
    Zones of the prostate on T2-weighted MR: Turkbey et al. 2019 (PI-RADS 2.1), doi 10.1016/j.eururo.2019.02.033.

    Widths of the distributions, the size of the body, and where muscles, vessels and bowel lie were set by eye.
    """

    adiposity: float
    """0 to 1; with it the body grows from 340 to 460 mm in width and from 180 to 300 mm in depth."""
    half_width_mm: float
    half_depth_mm: float
    skeleton_scale: float
    """Of bones and the muscles on them."""
    muscle_scale: float
    head_radius_mm: float
    sacrum_shift_mm: float
    """Of the sacral hollow to posterior."""
    prostate_ml: float
    prostate_apex_mm: float
    """Height over the centres of the femoral heads."""
    retropubic_mm: float
    """Between symphysis and prostate."""
    apex_taper: float
    seminal_vesicles_ml: float
    bladder_ml: float
    bladder_wall_mm: float
    rectum_radius_mm: float
    rectum_top_mm: float
    rectum_gas: float
    """0 to 1, the share of the lumen's depth that gas takes where there is most of it."""
    has_stool: bool
    metal_hips: tuple[Hip, ...]
    has_contrast: bool
    has_markers: bool
    """Three gold seeds in the prostate."""
    noise_sd_hu: float
    noise_mm: float
    """Size of the grains of the CT noise, SD of a Gaussian."""
    tissues: Mapping[str, Tissue]
    pose: Pose

    @staticmethod
    def drawn(rng: np.random.Generator) -> "PelvisAnatomy":
        """Draw a patient; every number is normal, cut at its range."""
        adiposity = float(rng.beta(2.0, 2.2))
        bladder_ml = float(np.exp(_cut(rng, np.log(190.0), 0.65, *np.log(BLADDER_ML))))
        return PelvisAnatomy(
            adiposity=adiposity,
            half_width_mm=175.0 + 50.0 * adiposity + _cut(rng, 0.0, 4.0, -6.0, 6.0),
            half_depth_mm=96.0 + 48.0 * adiposity + _cut(rng, 0.0, 4.0, -6.0, 6.0),
            skeleton_scale=_cut(rng, 1.0, 0.04, 0.92, 1.06),
            muscle_scale=_cut(rng, 1.0, 0.08, 0.84, 1.14),
            head_radius_mm=_cut(rng, 25.5, 1.6, *HEAD_RADIUS_MM),
            sacrum_shift_mm=_cut(rng, 0.0, 6.0, -10.0, 12.0),
            prostate_ml=float(np.exp(_cut(rng, np.log(42.0), 0.42, *np.log(PROSTATE_ML)))),
            prostate_apex_mm=_cut(rng, -38.0, 5.0, -48.0, -26.0),
            retropubic_mm=_cut(rng, 13.0, 4.0, 5.0, 24.0),
            apex_taper=_cut(rng, 0.3, 0.1, 0.1, 0.5),
            seminal_vesicles_ml=float(np.exp(_cut(rng, np.log(8.5), 0.35, *np.log(SEMINAL_VESICLES_ML)))),
            bladder_ml=bladder_ml,
            bladder_wall_mm=_cut(rng, 5.2 - bladder_ml / 250.0, 0.6, 2.5, 6.5),
            rectum_radius_mm=_cut(rng, 17.5, 4.5, *RECTUM_RADIUS_MM),
            rectum_top_mm=_cut(rng, 74.0, 10.0, 55.0, 98.0),
            rectum_gas=float(rng.beta(0.8, 1.2)),
            has_stool=bool(rng.random() < 0.7),
            metal_hips=_metal_hips(rng),
            has_contrast=bool(rng.random() < _CONTRAST_SHARE),
            has_markers=bool(rng.random() < _MARKER_SHARE),
            noise_sd_hu=float(rng.uniform(8.0, 25.0)),
            noise_mm=float(rng.uniform(0.6, 1.5)),
            tissues=_tissues(rng),
            pose=_pose(rng),
        )


def _cut(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """Normal, cut at both ends of a range."""
    share = rng.uniform(ndtr((low - mean) / sd), ndtr((high - mean) / sd))
    return float(np.clip(mean + sd * ndtri(share), low, high))


def _metal_hips(rng: np.random.Generator) -> tuple[Hip, ...]:
    has_metal, kind = rng.random() < _METAL_SHARE, rng.random()
    if not has_metal:
        return ()
    return ("L", "R") if kind < 0.3 else ("L",) if kind < 0.65 else ("R",)


_HU_RANGES: Mapping[str, tuple[float, float]] = {
    "skin": (0.0, 30.0),
    "fat": (-115.0, -90.0),
    "muscle": (45.0, 65.0),
    "marrow": (120.0, 300.0),
    "cortex": (650.0, 1000.0),
    "cartilage": (70.0, 110.0),
    "prostate": (30.0, 50.0),
    "seminal_vesicle": (20.0, 35.0),
    "urine": (0.0, 15.0),
    "bladder_wall": (28.0, 45.0),
    "rectum_wall": (30.0, 50.0),
    "stool": (10.0, 60.0),
    "bowel_wall": (30.0, 50.0),
    "bowel_fluid": (0.0, 35.0),
    "blood": (35.0, 50.0),
    "bulb": (40.0, 60.0),
}
_CONTRAST_HU = (110.0, 180.0)
_MR_SIGNALS: Mapping[str, float] = {
    "skin": 250.0,
    "fat": 520.0,
    "muscle": 130.0,
    "marrow": 400.0,
    "cortex": 25.0,
    "cartilage": 300.0,
    "prostate": 320.0,
    "peripheral_zone": 620.0,
    "seminal_vesicle": 560.0,
    "urine": 950.0,
    "bladder_wall": 170.0,
    "rectum_wall": 260.0,
    "stool": 240.0,
    "bowel_wall": 250.0,
    "bowel_fluid": 720.0,
    "blood": 70.0,
    "bulb": 650.0,
}


def _tissues(rng: np.random.Generator) -> dict[str, Tissue]:
    hu = {name: float(rng.uniform(low, high)) for name, (low, high) in _HU_RANGES.items()}
    hu["peripheral_zone"] = hu["prostate"] - float(rng.uniform(0.0, 6.0))
    mr = {name: signal * float(np.exp(rng.normal(0.0, 0.1))) for name, signal in _MR_SIGNALS.items()}
    return {name: Tissue(hu[name], mr[name]) for name in mr}


def _pose(rng: np.random.Generator) -> Pose:
    z, y, x = np.deg2rad([_cut(rng, 0.0, 2.0, -5.0, 5.0) for _ in range(3)])
    about_z = np.array([[1, 0, 0], [0, np.cos(z), -np.sin(z)], [0, np.sin(z), np.cos(z)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[np.cos(x), -np.sin(x), 0], [np.sin(x), np.cos(x), 0], [0, 0, 1]])
    up, back, left = (_cut(rng, 0.0, 6.0, -12.0, 12.0) for _ in range(3))
    waves, phases = rng.uniform(180.0, 320.0, 3).tolist(), rng.uniform(0.0, 2 * np.pi, 3).tolist()
    return Pose(
        about_z @ about_y @ about_x, (up, back, left), (waves[0], waves[1], waves[2]), (phases[0], phases[1], phases[2])
    )
