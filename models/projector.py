"""Two-dimensional parallel-beam projector: a sparse matrix, its exact transpose, and filtered backprojection.

Images are [row, column] with square pixels, sinograms [view, detector]; many slices at once have a leading axis. Row
index grows towards posterior (y), column index towards left (x), both measured in mm from the centre of the image. View
angle t runs over half a turn; the ray of detector u is the line x cos t + y sin t = u.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse


@dataclass(frozen=True)
class ParallelGeometry:
    """Where the rays run."""

    pixels: int
    """Rows, and columns, of the square image."""
    pixel_mm: float
    views: int
    """Equally spaced over 180 degrees."""
    detectors: int
    detector_mm: float
    """Distance between neighbouring rays."""

    def angles_rad(self) -> NDArray[np.float64]:
        """Angle of every view, radian."""
        return np.asarray(np.arange(self.views) * (np.pi / self.views), np.float64)

    def detector_positions_mm(self) -> NDArray[np.float64]:
        """Signed distance of every ray of a view from the centre, mm."""
        return np.asarray((np.arange(self.detectors) - (self.detectors - 1) / 2.0) * self.detector_mm, np.float64)


def covering_geometry(pixels: int, pixel_mm: float, views: int, detector_mm: float | None = None) -> ParallelGeometry:
    """Geometry whose rays cover the whole image, corners included; one pixel apart unless said otherwise."""
    spacing_mm = detector_mm or pixel_mm
    detectors = int(np.ceil(pixels * np.sqrt(2.0) * pixel_mm / spacing_mm)) + 1
    return ParallelGeometry(pixels, pixel_mm, views, detectors, spacing_mm)


@lru_cache(maxsize=2)
def system_matrix(geometry: ParallelGeometry) -> sparse.csr_array:
    """Line integrals by Joseph's method: (views * detectors, pixels * pixels), float32, mm.

    A ray steps from row to row (or column to column, whichever it crosses more steeply) and interpolates linearly
    between the two nearest pixels of each.

    References
    ----------
    Joseph, IEEE Trans Med Imaging 1982, doi 10.1109/TMI.1982.4307572
    """
    views = [_view_matrix(geometry, float(angle)) for angle in geometry.angles_rad()]
    return sparse.csr_array(sparse.vstack(views, format="csr"))


@lru_cache(maxsize=2)
def _transposed_matrix(geometry: ParallelGeometry) -> sparse.csr_array:
    return sparse.csr_array(system_matrix(geometry).T.tocsr())


def projected(images: NDArray[Any], geometry: ParallelGeometry) -> NDArray[np.float32]:
    """Line integrals A x: ([slice,] row, column) -> ([slice,] view, detector); unit of x times mm."""
    columns = np.ascontiguousarray(images.reshape(-1, geometry.pixels**2).T, np.float32)
    rays = system_matrix(geometry) @ columns
    return np.ascontiguousarray(rays.T).reshape(*images.shape[:-2], geometry.views, geometry.detectors)


def backprojected(sinograms: NDArray[Any], geometry: ParallelGeometry) -> NDArray[np.float32]:
    """Exact transpose A' y: ([slice,] view, detector) -> ([slice,] row, column)."""
    columns = np.ascontiguousarray(sinograms.reshape(-1, geometry.views * geometry.detectors).T, np.float32)
    pixels = _transposed_matrix(geometry) @ columns
    return np.ascontiguousarray(pixels.T).reshape(*sinograms.shape[:-2], geometry.pixels, geometry.pixels)


def filtered_backprojection(
    sinograms: NDArray[Any], geometry: ParallelGeometry, hann: bool = False
) -> NDArray[np.float32]:
    """Image from its line integrals: ramp filter (with a Hann window on request), then backprojection.

    ([slice,] view, detector) in the unit of line integrals -> ([slice,] row, column) per mm.

    References
    ----------
    Kak and Slaney, Principles of Computerized Tomographic Imaging, 1988, section 3.3
    """
    length = fft.next_fast_len(2 * geometry.detectors, real=True)
    spectrum = fft.rfft(np.asarray(sinograms, np.float32), length, axis=-1)
    filtered = fft.irfft(spectrum * _ramp(geometry, length, hann), length, axis=-1)[..., : geometry.detectors]
    # The matrix carries lengths in mm; a ray's footprint on the image is detector_mm wide and pixel_mm^2 each.
    scale = np.pi / geometry.views * geometry.detector_mm / geometry.pixel_mm**2
    return backprojected(filtered * np.float32(scale), geometry)


def _ramp(geometry: ParallelGeometry, length: int, hann: bool) -> NDArray[np.float32]:
    """Spectrum of the band-limited ramp, sampled in space so that its mean is right; per mm."""
    index = np.arange(length)
    distance = np.minimum(index, length - index)
    odd = distance % 2 == 1
    kernel = np.zeros(length)
    kernel[odd] = -1.0 / (np.pi * distance[odd]) ** 2
    kernel[0] = 0.25
    response = fft.rfft(kernel).real / geometry.detector_mm
    if hann:
        response *= 0.5 + 0.5 * np.cos(np.pi * np.linspace(0.0, 1.0, len(response)))
    return response.astype(np.float32)


def _view_matrix(geometry: ParallelGeometry, angle_rad: float) -> sparse.csr_array:
    """Rows of the system matrix that belong to one view: (detectors, pixels * pixels)."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    steps_rows = abs(cosine) >= abs(sine)
    along, across = (sine, cosine) if steps_rows else (cosine, sine)
    n = geometry.pixels
    line_mm = (np.arange(n) - (n - 1) / 2.0) * geometry.pixel_mm
    crossing = (geometry.detector_positions_mm()[:, None] - line_mm * along) / across  # (detector, line), mm
    position = crossing / geometry.pixel_mm + (n - 1) / 2.0
    low = np.floor(position).astype(np.int64)
    fraction = position - low
    length_mm = geometry.pixel_mm / abs(across)
    parts = [
        _entries(geometry, steps_rows, low + step, weight * length_mm)
        for step, weight in ((0, 1.0 - fraction), (1, fraction))
    ]
    ray, pixel, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return sparse.csr_array(sparse.coo_array((value, (ray, pixel)), shape=(geometry.detectors, n * n)))


def _entries(
    geometry: ParallelGeometry, steps_rows: bool, index: NDArray[np.int64], value: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Ray, pixel and length (mm) of the matrix entries that fall on the image; `index` is (detector, line)."""
    n = geometry.pixels
    ray, line = np.nonzero((index >= 0) & (index < n) & (value > 0.0))
    other = index[ray, line]
    pixel = line * n + other if steps_rows else other * n + line
    return ray.astype(np.int32), pixel.astype(np.int32), value[ray, line].astype(np.float32)
