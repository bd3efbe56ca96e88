"""What a scanner would measure of a known CT: line integrals of a two-dimensional scan with the noise of its photons.

One energy, no scatter: HU and attenuation are the same thing on two scales, so that what a reconstruction loses is lost
by views and photons alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import AIR_HU, Hu
from models.iterative import Rays, inverse_variances
from models.projector import joseph_matrix
from models.scan_geometry import Floats, ImageGrid, ScanGeometry

KILOVOLT_WATER_PER_MM = 0.0193
"""Attenuation of water at 70 keV, the mean of a 120 kV beam (NIST XCOM)."""
MEGAVOLT_WATER_PER_MM = 0.00716
"""The same at 1 MeV, about the mean of a 3.5 MV beam."""

_FINER = 2
"""Pixels of the simulated patient for each pixel of the CT that it is made of, along either axis."""
_RAYS_PER_ELEMENT = 3
"""A detector element is as wide as its pitch; these rays lie side by side in it."""
_LEAST_PHOTONS = 0.5
"""What an element without a photon is taken to have counted, so that it has a logarithm."""


@dataclass(frozen=True)
class Exposure:
    """How well each ray is measured."""

    photons: float = 1e5
    """Incident on each element in each view (noise-equivalent quanta); infinite for no noise at all."""
    electronic_sd: float = 10.0
    """Noise of the readout, in photons."""
    water_per_mm: float = KILOVOLT_WATER_PER_MM


@dataclass(frozen=True)
class SimulatedScan:
    """Slices as measured."""

    line_integrals: Rays
    """[slice, view, detector]."""
    inverse_variance: Rays
    """Of each line integral; of the same shape."""


def simulated_scan(
    hu_zyx: NDArray[np.floating], geometry: ScanGeometry, exposure: Exposure, seed: int = 0, first_slice: int = 0
) -> SimulatedScan:
    """Measure slices (slice, row, column) that fill the grid of `geometry`; the noise of a slice is its own.

    The patient is finer than the grid and each element as wide as its pitch: what reconstructs with one ray for each
    element on the grid does not get its own model of the scan back.

    Raises
    ------
    ValueError
        If the slices are not on the grid.
    """
    if hu_zyx.ndim != 3 or hu_zyx.shape[1:] != geometry.image_shape:
        raise ValueError(f"{hu_zyx.shape} is not (slices, {geometry.grid.rows} rows, {geometry.grid.columns} columns)")
    exact = exact_line_integrals(attenuation_per_mm(hu_zyx, exposure.water_per_mm), geometry)
    return noisy_scan(exact, exposure, seed, first_slice)


def noisy_scan(exact: Rays, exposure: Exposure, seed: int = 0, first_slice: int = 0) -> SimulatedScan:
    """What the photons of an exposure make of exact line integrals [slice, view, detector], slice by slice."""
    noisy = np.stack([_measured(rays, exposure, [seed, first_slice + number]) for number, rays in enumerate(exact)])
    return SimulatedScan(noisy, _inverse_variance(noisy, exposure))


def attenuation_per_mm(hu: NDArray[np.floating], water_per_mm: float) -> NDArray[np.float32]:
    """HU to 1/mm; nothing attenuates less than nothing."""
    return np.asarray(np.maximum(hu / 1000.0 + 1.0, 0.0) * water_per_mm, np.float32)


def hu_of(attenuation: NDArray[np.floating], water_per_mm: float) -> Hu:
    """1/mm to HU."""
    return np.asarray((attenuation / water_per_mm - 1.0) * -AIR_HU, np.float32)


def exact_line_integrals(images: NDArray[np.float32], geometry: ScanGeometry) -> Rays:
    """What each element sees without noise: minus the logarithm of the mean of its rays' transmissions.

    (slice, row, column) in 1/mm -> (slice, view, detector).
    """
    finer = np.stack([_finer(image) for image in images])
    columns = np.ascontiguousarray(finer.reshape(len(finer), -1).T)
    grid = _finer_grid(geometry.grid)
    normals_rad, distances_mm = _finer_lines(geometry)
    seen = np.empty((len(images), *geometry.sinogram_shape), np.float32)
    # View by view: the whole matrix of the finer scan would take gigabytes.
    for view in range(geometry.views):
        matrix = joseph_matrix(grid, normals_rad[view : view + 1], distances_mm[view : view + 1])
        rays = np.asarray(matrix @ columns).reshape(geometry.detectors, _RAYS_PER_ELEMENT, len(images))
        seen[:, view] = -np.log(np.exp(-rays.astype(np.float64)).mean(axis=1)).T
    return seen


def _finer(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cubic, on pixels that divide those of the image; (row, column) -> (2 row, 2 column)."""
    zoomed = ndimage.zoom(image, _FINER, order=3, mode="nearest", grid_mode=True)
    return np.maximum(zoomed, np.float32(0.0))


def _finer_grid(grid: ImageGrid) -> ImageGrid:
    return ImageGrid(grid.rows * _FINER, grid.columns * _FINER, grid.pixel_mm / _FINER, grid.centre_mm)


def _finer_lines(geometry: ScanGeometry) -> tuple[Floats, Floats]:
    """Lines of the rays side by side in each element: both (view, detector * rays)."""
    fine = ScanGeometry(
        geometry.grid,
        geometry.angles_rad,
        geometry.detectors * _RAYS_PER_ELEMENT,
        geometry.detector_mm / _RAYS_PER_ELEMENT,
        geometry.centre() * _RAYS_PER_ELEMENT + (_RAYS_PER_ELEMENT - 1) / 2.0,
        geometry.fan,
    )
    return fine.lines()


def _measured(rays: NDArray[np.float32], exposure: Exposure, seed: list[int]) -> NDArray[np.float32]:
    """Line integrals of one slice from photons that were drawn and read out: (view, detector)."""
    if np.isinf(exposure.photons):
        return rays
    rng = np.random.default_rng(seed)
    counted = rng.poisson(exposure.photons * np.exp(-rays.astype(np.float64))) + rng.normal(
        0.0, exposure.electronic_sd, rays.shape
    )
    return np.asarray(np.log(exposure.photons / np.maximum(counted, _LEAST_PHOTONS)), np.float32)


def _inverse_variance(line_integrals: Rays, exposure: Exposure) -> Rays:
    if np.isinf(exposure.photons):
        return np.ones_like(line_integrals)
    return inverse_variances(line_integrals, exposure.photons, exposure.electronic_sd)
