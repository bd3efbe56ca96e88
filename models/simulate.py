"""Megavoltage and cone-beam CT simulated from planning CT by physics, so that the truth is exact and on the same grid.

HU become linear attenuation at another energy, line integrals are measured with a finite number of photons by
detectors of finite sharpness, and the image is reconstructed again. Volumes are [slice, row, column], HU float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import AIR_HU, Hu
from models.projector import ParallelGeometry, covering_geometry, filtered_backprojection, projected

_FWHM_PER_SD = 2.3548
_SLICES_AT_ONCE = 16


@dataclass(frozen=True)
class Material:
    """A tissue: density, and mass attenuation at the effective energy of a 120 kV beam (70 keV) and at 1 MeV."""

    density_g_cm3: float
    kv_cm2_g: float
    mv_cm2_g: float

    def kv_per_mm(self) -> float:
        """Linear attenuation at 70 keV, 1/mm."""
        return 0.1 * self.density_g_cm3 * self.kv_cm2_g

    def mv_per_mm(self) -> float:
        """Linear attenuation at 1 MeV, 1/mm."""
        return 0.1 * self.density_g_cm3 * self.mv_cm2_g


# Densities and mass attenuation of the ICRU-44 materials from Hubbell and Seltzer, NIST X-Ray Mass Attenuation
# Coefficients (NISTIR 5632, doi 10.18434/T4D01F); 70 keV is the geometric mean of the table's 60 and 80 keV. 1 MeV is
# about the mean energy of the 3.5 MV imaging beam of TomoTherapy (Jeraj et al., Med Phys 2004, doi 10.1118/1.1639148).
MATERIALS: Mapping[str, Material] = {
    "air": Material(0.001205, np.sqrt(0.1875 * 0.1662), 0.06358),
    "fat": Material(0.95, np.sqrt(0.1974 * 0.1800), 0.07078),
    "water": Material(1.0, np.sqrt(0.2059 * 0.1837), 0.07072),
    "muscle": Material(1.05, np.sqrt(0.2048 * 0.1823), 0.07010),
    "bone": Material(1.92, np.sqrt(0.3148 * 0.2229), 0.06566),
}


@dataclass(frozen=True)
class MvctSettings:
    """A helical megavoltage CT, seen slice by slice."""

    views: int = 160
    """Over 180 degrees; clinical scans have 800 over 360 at four times the matrix."""
    noise_sd_hu: float = 35.0
    """Noise in the middle of a water cylinder of 180 mm; clinical MVCT has about 25 to 45 HU."""
    photons_per_ray: float | None = None
    """Unattenuated photons of one detector in one view; None: as many as give `noise_sd_hu` at this pixel size."""
    blur_fwhm_mm: float = 1.2
    """Blur of the detector signal along the detector row."""
    kernel_fwhm_mm: float = 1.4
    """Smoothing by the reconstruction kernel, of signal and noise."""


@dataclass(frozen=True)
class CbctSettings:
    """A kilovoltage cone-beam CT, reduced to its central plane: scatter, noise and few views."""

    views: int = 120
    photons_per_ray: float = 3.0e5
    scatter_left: float = 0.3
    """Scatter that the scanner's own correction left, relative to the primary behind the thickest part of the view."""
    blur_fwhm_mm: float = 1.0
    kernel_fwhm_mm: float = 1.0


def kv_hu_to_mv_hu(hu: NDArray[Any]) -> Hu:
    """HU that a noiseless megavoltage scanner would show; any shape.

    Every voxel is a mixture of the two materials next to it on the scale air, fat, water, muscle, bone; denser than
    cortical bone continues the last mixture.
    """
    water = MATERIALS["water"]
    kv_hu = [1000.0 * (m.kv_per_mm() / water.kv_per_mm() - 1.0) for m in MATERIALS.values()]
    mv_hu = [1000.0 * (m.mv_per_mm() / water.mv_per_mm() - 1.0) for m in MATERIALS.values()]
    beyond_bone = np.maximum(hu - kv_hu[-1], 0.0) * (mv_hu[-1] - mv_hu[-2]) / (kv_hu[-1] - kv_hu[-2])
    return np.asarray(np.interp(hu, kv_hu, mv_hu) + beyond_bone, np.float32)


def simulated_mvct(
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    settings: MvctSettings,
    rng: np.random.Generator,
) -> Hu:
    """Megavoltage CT of the same patient on the same grid, HU.

    Raises
    ------
    ValueError
        If the pixels are not square.
    """
    water_per_mm = MATERIALS["water"].mv_per_mm()
    geometry = mvct_geometry(hu_zyx, spacing_zyx_mm, settings.views)
    photons = settings.photons_per_ray or photons_for_noise(settings, geometry)
    output = np.empty((len(hu_zyx), geometry.pixels, geometry.pixels), np.float32)
    for start in range(0, len(hu_zyx), _SLICES_AT_ONCE):
        part = slice(start, start + _SLICES_AT_ONCE)
        attenuation = _attenuation(kv_hu_to_mv_hu(hu_zyx[part]), water_per_mm, geometry)
        signal = _smoothed(np.exp(-projected(attenuation, geometry)), settings.blur_fwhm_mm, geometry)
        output[part] = _measured(signal, photons, settings.kernel_fwhm_mm, water_per_mm, geometry, rng)
    return output[:, : hu_zyx.shape[1], : hu_zyx.shape[2]]


def simulated_cbct(
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    settings: CbctSettings,
    rng: np.random.Generator,
) -> Hu:
    """Cone-beam CT of the same patient on the same grid, HU: cupping from scatter, streaks, noise.

    Raises
    ------
    ValueError
        If the pixels are not square.
    """
    water_per_mm = MATERIALS["water"].kv_per_mm()
    geometry = mvct_geometry(hu_zyx, spacing_zyx_mm, settings.views)
    output = np.empty((len(hu_zyx), geometry.pixels, geometry.pixels), np.float32)
    for start in range(0, len(hu_zyx), _SLICES_AT_ONCE):
        part = slice(start, start + _SLICES_AT_ONCE)
        attenuation = _attenuation(hu_zyx[part], water_per_mm, geometry)
        primary = _smoothed(np.exp(-projected(attenuation, geometry)), settings.blur_fwhm_mm, geometry)
        # Scatter is nearly flat over the detector; where little primary arrives it weighs most: cupping.
        thickest = primary.min(axis=-1, keepdims=True)
        signal = (primary + settings.scatter_left * thickest) / (1.0 + settings.scatter_left * thickest)
        photons, kernel_mm = settings.photons_per_ray, settings.kernel_fwhm_mm
        output[part] = _measured(signal, photons, kernel_mm, water_per_mm, geometry, rng)
    return output[:, : hu_zyx.shape[1], : hu_zyx.shape[2]]


def noise_texture(
    geometry: ParallelGeometry, kernel_fwhm_mm: float, slices: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Reconstruct a sinogram of white noise of SD 1: [slice, row, column], per mm.

    This is the noise of a uniform object with this scanner and kernel, as a physicist would take it from a phantom.
    """
    white = rng.standard_normal((slices, geometry.views, geometry.detectors), np.float32)
    return filtered_backprojection(_smoothed(white, kernel_fwhm_mm, geometry), geometry)


def photons_for_noise(settings: MvctSettings, geometry: ParallelGeometry, cylinder_mm: float = 180.0) -> float:
    """Unattenuated photons per ray that give the noise of the settings in the middle of a water cylinder.

    A line integral from N detected photons has the SD 1 / sqrt(N); what the reconstruction makes of it is measured.
    """
    water_per_mm = MATERIALS["water"].mv_per_mm()
    noise_per_mm = settings.noise_sd_hu / 1000.0 * water_per_mm
    detected = (_noise_gain_per_mm(geometry, settings.kernel_fwhm_mm) / noise_per_mm) ** 2
    return float(detected * np.exp(water_per_mm * cylinder_mm))


def mvct_geometry(hu_zyx: NDArray[Any], spacing_zyx_mm: tuple[float, float, float], views: int) -> ParallelGeometry:
    """Rays that cover every slice of the volume; detectors of 1.2 mm, or half a pixel where pixels are coarse.

    Raises
    ------
    ValueError
        If the pixels are not square.
    """
    _, row_mm, column_mm = spacing_zyx_mm
    if abs(row_mm - column_mm) > 0.01 * row_mm:
        raise ValueError(f"pixels of {row_mm} x {column_mm} mm are not square")
    detector_mm = min(row_mm, max(row_mm / 2.0, 1.2))
    return covering_geometry(max(hu_zyx.shape[1:]), row_mm, views, detector_mm)


@lru_cache(maxsize=64)
def _noise_gain_per_mm(geometry: ParallelGeometry, kernel_fwhm_mm: float) -> float:
    """SD in the middle of the image of reconstructed white noise of SD 1."""
    texture = noise_texture(geometry, kernel_fwhm_mm, 4, np.random.default_rng(0))
    quarter = geometry.pixels // 4
    return float(texture[:, quarter:-quarter, quarter:-quarter].std())


def _attenuation(hu_zyx: NDArray[Any], water_per_mm: float, geometry: ParallelGeometry) -> NDArray[np.float32]:
    """Linear attenuation, 1/mm, on the square grid of the geometry; what is added is air."""
    _, rows, columns = hu_zyx.shape
    margin = ((0, 0), (0, geometry.pixels - rows), (0, geometry.pixels - columns))
    padded = np.pad(np.maximum(hu_zyx, AIR_HU).astype(np.float32), margin, constant_values=AIR_HU)
    return padded * np.float32(water_per_mm / 1000.0) + np.float32(water_per_mm)


def _smoothed(signal: NDArray[np.float32], fwhm_mm: float, geometry: ParallelGeometry) -> NDArray[np.float32]:
    """Gaussian blur along the detector axis."""
    sigma = fwhm_mm / _FWHM_PER_SD / geometry.detector_mm
    return np.asarray(ndimage.gaussian_filter1d(signal, sigma, axis=-1, mode="nearest"), np.float32)


def _measured(
    signal: NDArray[np.float32],
    photons: float,
    kernel_fwhm_mm: float,
    water_per_mm: float,
    geometry: ParallelGeometry,
    rng: np.random.Generator,
) -> Hu:
    """HU from a relative signal (1 without a patient) measured with Poisson noise; on the square grid."""
    counted = np.maximum(rng.poisson(signal * photons), 1.0)
    line_integrals = -np.log(counted / photons).astype(np.float32)
    attenuation = filtered_backprojection(_smoothed(line_integrals, kernel_fwhm_mm, geometry), geometry)
    return (1000.0 * (attenuation / np.float32(water_per_mm) - 1.0)).astype(np.float32)
