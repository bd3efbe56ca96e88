"""Megavoltage and cone-beam CT simulated from planning CT by physics, so that the truth is exact and on the same grid.

HU become linear attenuation at another energy, line integrals are measured with a finite number of photons by
detectors of finite sharpness, and the image is reconstructed again. Volumes are [slice, row, column], HU float32.

Megavoltage CT is computed slice by slice with parallel rays: the helical scan of a fan beam, resorted and without its
interpolation between slices. Cone-beam CT has the geometry of a linear accelerator's imager.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.cone_beam import ConeBeamGeometry, Projections, forward_projected, reconstructed
from models.flat_panel import FlatPanel
from models.grid import has_square_pixels
from models.intensity import AIR_HU, Hu, Mask
from models.materials import MATERIALS, kv_hu_to_mv_hu, water_and_bone
from models.projector import ParallelGeometry, covering_geometry, filtered_backprojection, projected
from models.xray_beam import (
    Beam,
    Tube,
    bow_tie_aluminium_mm,
    hardened_beam,
    monochromatic_beam,
)

_FWHM_PER_SD = 2.3548
_SLICES_AT_ONCE = 16


@dataclass(frozen=True)
class MvctSettings:
    """A helical megavoltage CT, seen slice by slice; the defaults are the sampling of the TomoTherapy unit."""

    views: int = 400
    """Over 180 degrees. The unit takes 800 over 360; opposite views measure the same lines, so their parallel-beam
    equivalent is half as many with twice the photons."""
    detector_mm: float | None = 400.0 / 528.0
    """Distance of neighbouring rays: 528 over a field of view of 400 mm. As many as cover the image are computed, also
    where it is wider. None: 1.2 mm, or half a pixel where pixels are coarse."""
    noise_sd_hu: float = 35.0
    """Noise in the middle of a water cylinder of 180 mm; clinical MVCT has about 25 to 45 HU."""
    photons_per_ray: float | None = None
    """Unattenuated photons of one detector in one view; None: as many as give `noise_sd_hu` at this pixel size."""
    blur_fwhm_mm: float = 1.2
    """Blur of the detector signal along the detector row."""
    kernel_fwhm_mm: float = 1.4
    """Smoothing by the reconstruction kernel, of signal and noise."""


COARSE_MVCT = MvctSettings(views=160, detector_mm=None)
"""Sampling that follows the pixels; for training and demonstrations on coarse images."""


SOURCE_ISOCENTER_MM = 1000.0
HALF_FAN_OVERLAP_MM = 50.0
"""How far a displaced panel reaches beyond the central ray."""


@dataclass(frozen=True)
class Motion:
    """The patient lies elsewhere in some of the views: once for a swallow, in many cycles for breathing."""

    shift_zyx_mm: tuple[float, float, float]
    """Of everything in the field of view, rigidly."""
    share: float = 0.3
    """Part of every cycle, its last, in which the patient is shifted."""
    cycles: int = 1

    def shifted_views(self, views: int) -> Mask:
        """Which views see the patient shifted: (view,)."""
        phase = (np.arange(views) + 0.5) / views * self.cycles % 1.0
        return np.asarray(phase > 1.0 - self.share, np.bool_)


@dataclass(frozen=True)
class CbctSettings:
    """A kilovoltage cone-beam CT of a linear accelerator; the defaults are a head-and-neck scan."""

    views: int = 360
    arc_deg: float = 200.0
    """Less than 360 is a short scan, possible with a full fan only."""
    is_half_fan: bool = False
    """The panel is displaced, so that a full turn sees a wider field."""
    lateral_field_mm: float = 250.0
    """Diameter of the field of view."""
    axial_field_mm: float = 198.0
    """Length of the field of view on the axis of rotation; the cone makes it shorter towards the rim."""
    source_detector_mm: float = 1500.0
    pixels_per_voxel: float = 0.6
    """Detector pixels at the isocenter, in voxels; 0.5 to 1."""
    tube: Tube | None = field(default_factory=lambda: Tube(peak_kv=100.0))
    """None: photons of one energy, so that nothing hardens."""
    bow_tie_mm: float | None = 220.0
    """Diameter of the water cylinder that the bow-tie filter evens out by half; None: no filter."""
    panel: FlatPanel = field(default_factory=FlatPanel)
    scatter_left: float = 0.15
    """Part of the scatter that the scanner's own correction leaves; 1 is none corrected."""
    motion: Motion | None = None
    hann_cut: float = 1.0
    """End of the Hann window of the reconstruction, as a fraction of the Nyquist frequency of the panel."""
    truncation_pad: float = 0.1
    """How far rows that the panel's edge cuts off are continued before they are filtered; fraction of their length."""


HEAD_AND_NECK_CBCT = CbctSettings()
"""Full fan, 100 kV, 200 degrees, field of 250 mm."""

PELVIS_CBCT = CbctSettings(
    views=655,
    arc_deg=360.0,
    is_half_fan=True,
    lateral_field_mm=450.0,
    tube=Tube(peak_kv=125.0),
    bow_tie_mm=450.0,
    panel=FlatPanel(photons_per_mm2=4.0e5),
    truncation_pad=0.0,
)
"""Half fan, 125 kV, full turn, field of 450 mm; for pelvis and thorax."""


@dataclass(frozen=True)
class SimulatedCbct:
    """What the scanner shows, on the grid of the CT; [slice, row, column]."""

    hu_zyx: Hu
    """Air outside the field of view."""
    seen: Mask
    """Voxels inside the field of view: a circle, cut by the cone at both ends."""


@dataclass(frozen=True)
class CentralPlaneSettings:
    """A kilovoltage cone-beam CT reduced to its central plane: scatter, noise and few views."""

    views: int = 120
    photons_per_ray: float = 3.0e5
    scatter_left: float = 0.3
    """Scatter that the scanner's own correction left, relative to the primary behind the thickest part of the view."""
    blur_fwhm_mm: float = 1.0
    kernel_fwhm_mm: float = 1.0


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
    geometry = mvct_geometry(hu_zyx, spacing_zyx_mm, settings.views, settings.detector_mm)
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
) -> SimulatedCbct:
    """Cone-beam CT of the same patient on the same grid, with the isocenter in the middle of the volume.

    Attenuation, scatter and noise are those of `models.xray_beam` and `models.flat_panel`; of the scatter S the scanner
    takes (1 - scatter_left) S away again, and keeps its noise. The line integrals are corrected for the hardening in
    water and reconstructed by Feldkamp's method. The patient is taken to go on at both ends as in the last slice.

    Raises
    ------
    ConeBeamUnavailable
        If the library for cone-beam geometry is not installed.
    """
    geometry = cbct_geometry(spacing_zyx_mm, settings)
    beam = _cbct_beam(geometry, settings)
    primary = beam.transmitted(*_paths_mm(hu_zyx, spacing_zyx_mm, geometry, settings.motion))
    corrected = _panel_signal(primary, beam, geometry, settings, rng)
    seen = geometry.seen(hu_zyx.shape, spacing_zyx_mm)
    water = _water_density(beam.as_water_mm(corrected), geometry, seen, spacing_zyx_mm, settings)
    return SimulatedCbct(np.where(seen, 1000.0 * (water - 1.0), AIR_HU).astype(np.float32), seen)


def cbct_geometry(spacing_zyx_mm: tuple[float, float, float], settings: CbctSettings) -> ConeBeamGeometry:
    """Panel and gantry of the settings; the detector pixels follow the voxels unless the settings say otherwise."""
    to_panel = settings.source_detector_mm / SOURCE_ISOCENTER_MM
    slice_mm, pixel_mm = spacing_zyx_mm[0], min(spacing_zyx_mm[1:])
    row_mm, column_mm = (settings.pixels_per_voxel * to_panel * mm for mm in (slice_mm, pixel_mm))
    outer_mm = settings.source_detector_mm * np.tan(np.arcsin(settings.lateral_field_mm / 2.0 / SOURCE_ISOCENTER_MM))
    inner_mm = HALF_FAN_OVERLAP_MM if settings.is_half_fan else outer_mm
    return ConeBeamGeometry(
        rows=int(np.ceil(settings.axial_field_mm * to_panel / row_mm)),
        columns=int(np.ceil((outer_mm + inner_mm) / column_mm)),
        row_mm=row_mm,
        column_mm=column_mm,
        views=settings.views,
        arc_deg=settings.arc_deg,
        offset_mm=float(outer_mm - inner_mm) / 2.0,
        source_isocenter_mm=SOURCE_ISOCENTER_MM,
        source_detector_mm=settings.source_detector_mm,
    )


def central_plane_cbct(
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    settings: CentralPlaneSettings,
    rng: np.random.Generator,
) -> Hu:
    """Cone-beam CT without the cone: every slice as the central plane with parallel rays; same grid, HU.

    Cupping from scatter, streaks and noise for demonstrations, where the library that `simulated_cbct` needs would be
    too large; nothing is trained or judged on it.

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


def mvct_geometry(
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    views: int,
    detector_mm: float | None = None,
) -> ParallelGeometry:
    """Rays that cover every slice of the volume; `views` and `detector_mm` as in `MvctSettings`.

    Raises
    ------
    ValueError
        If the pixels are not square.
    """
    _, row_mm, column_mm = spacing_zyx_mm
    if not has_square_pixels(spacing_zyx_mm):
        raise ValueError(f"pixels of {row_mm} x {column_mm} mm are not square")
    distance_mm = detector_mm or min(row_mm, max(row_mm / 2.0, 1.2))
    return covering_geometry(max(hu_zyx.shape[1:]), row_mm, views, distance_mm)


@lru_cache(maxsize=64)
def _noise_gain_per_mm(geometry: ParallelGeometry, kernel_fwhm_mm: float) -> float:
    """SD in the middle of the image of reconstructed white noise of SD 1."""
    texture = noise_texture(geometry, kernel_fwhm_mm, 4, np.random.default_rng(0))
    quarter = geometry.pixels // 4
    return float(texture[:, quarter:-quarter, quarter:-quarter].std())


def _cbct_beam(geometry: ConeBeamGeometry, settings: CbctSettings) -> Beam:
    open_mm = np.zeros(geometry.columns)
    distances_mm = geometry.axis_distances_mm()
    bow_tie_mm = bow_tie_aluminium_mm(distances_mm, settings.bow_tie_mm) if settings.bow_tie_mm else open_mm
    return hardened_beam(settings.tube, bow_tie_mm) if settings.tube else monochromatic_beam(bow_tie_mm)


def _paths_mm(
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    geometry: ConeBeamGeometry,
    motion: Motion | None,
) -> tuple[Projections, Projections]:
    """Millimetres of water and of cortical bone on every ray."""
    shifted = motion.shifted_views(geometry.views) if motion else np.zeros(geometry.views, np.bool_)
    moved = replace(geometry, isocenter_zyx_mm=_less(geometry.isocenter_zyx_mm, motion)) if motion else geometry
    # The beam is wider than the field of view: past the end of the scan it would meet air.
    margin = int(np.ceil(geometry.rows * geometry.row_mm / spacing_zyx_mm[0]))
    water, bone = (
        np.pad(density, ((margin, margin), (0, 0), (0, 0)), mode="edge") for density in water_and_bone(hu_zyx)
    )
    paths = tuple(np.empty((geometry.views, geometry.rows, geometry.columns), np.float32) for _ in range(2))
    for position, views in ((geometry, np.flatnonzero(~shifted)), (moved, np.flatnonzero(shifted))):
        for density, path in zip((water, bone), paths, strict=True):
            path[views] = forward_projected(density, spacing_zyx_mm, position, views) if len(views) else 0.0
    return paths[0], paths[1]


def _less(isocenter_zyx_mm: tuple[float, float, float], motion: Motion) -> tuple[float, float, float]:
    """The isocenter as a patient sees it who moves."""
    up, back, left = (at - by for at, by in zip(isocenter_zyx_mm, motion.shift_zyx_mm, strict=True))
    return up, back, left


def _panel_signal(
    primary: Projections,
    beam: Beam,
    geometry: ConeBeamGeometry,
    settings: CbctSettings,
    rng: np.random.Generator,
) -> Projections:
    """Primary signal as the scanner knows it after its scatter correction; never less than half a photon."""
    panel, pitch_mm = settings.panel, (geometry.row_mm, geometry.column_mm)
    scatter = panel.scattered(primary, beam.flat(), *pitch_mm)
    read = panel.measured(primary + scatter, *pitch_mm, rng)
    corrected = read - np.float32(1.0 - settings.scatter_left) * scatter
    return np.maximum(corrected, np.float32(0.5 / (panel.photons_per_mm2 * geometry.row_mm * geometry.column_mm)))


def _water_density(
    water_mm: Projections,
    geometry: ConeBeamGeometry,
    seen: Mask,
    spacing_zyx_mm: tuple[float, float, float],
    settings: CbctSettings,
) -> NDArray[np.float32]:
    """Density relative to water on the whole grid; reconstructed only where a voxel is seen, 0 elsewhere."""
    density = np.zeros(seen.shape, np.float32)
    box = ndimage.find_objects(seen.astype(np.int8))[0]
    middle = [
        ((part.start + part.stop) / 2.0 - n / 2.0) * mm
        for part, n, mm in zip(box, seen.shape, spacing_zyx_mm, strict=True)
    ]
    up, back, left = (at - by for at, by in zip(geometry.isocenter_zyx_mm, middle, strict=True))
    density[box] = reconstructed(
        water_mm,
        replace(geometry, isocenter_zyx_mm=(up, back, left)),
        density[box].shape,
        spacing_zyx_mm,
        hann_cut=settings.hann_cut,
        truncation_pad=settings.truncation_pad,
    )
    return density


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
