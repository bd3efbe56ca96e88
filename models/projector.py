"""Two-dimensional parallel-beam projector: a sparse matrix, its exact transpose, and filtered backprojection.

Images are [row, column] with square pixels, sinograms [view, detector]; many slices at once have a leading axis. Row
index grows towards posterior (y), column index towards left (x), both measured in mm from the centre of the image. View
angle t runs over half a turn; the ray of detector u is the line x cos t + y sin t = u.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from models.scan_geometry import Floats, ImageGrid


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
    shape = (geometry.views, geometry.detectors)
    normals_rad = np.broadcast_to(geometry.angles_rad()[:, None], shape)
    distances_mm = np.broadcast_to(geometry.detector_positions_mm(), shape)
    return joseph_matrix(ImageGrid(geometry.pixels, geometry.pixels, geometry.pixel_mm), normals_rad, distances_mm)


def joseph_matrix(
    grid: ImageGrid, normals_rad: Floats, distances_mm: Floats, dtype: type[np.floating[Any]] = np.float32
) -> sparse.csr_array:
    """Line integrals of an image by Joseph's method, as `system_matrix`, along any lines x cos p + y sin p = s.

    Normal angles p (radian) and distances s (mm) are (view, detector); rays and pixels in the order of the arrays. A
    ray runs through the whole image: sources lie outside.
    """
    views = [_view_matrix(grid, *line, dtype) for line in zip(normals_rad, distances_mm, strict=True)]
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
    filtered = fft.irfft(spectrum * ramp_response(length, geometry.detector_mm, hann), length, axis=-1)[
        ..., : geometry.detectors
    ]
    # The matrix carries lengths in mm; a ray's footprint on the image is detector_mm wide and pixel_mm^2 each.
    scale = np.pi / geometry.views * geometry.detector_mm / geometry.pixel_mm**2
    return backprojected(filtered * np.float32(scale), geometry)


def ramp_response(length: int, pitch: float, hann: bool, stretch: Floats | None = None) -> NDArray[np.float32]:
    """Spectrum of the band-limited ramp, sampled in space so that its mean is right; per unit of the pitch.

    `stretch` (length,) multiplies the kernel, which begins at distance 0 and ends with the shortest negative one.
    """
    index = np.arange(length)
    distance = np.minimum(index, length - index)
    odd = distance % 2 == 1
    kernel = np.zeros(length)
    kernel[odd] = -1.0 / (np.pi * distance[odd]) ** 2
    kernel[0] = 0.25
    if stretch is not None:
        kernel *= stretch
    response = fft.rfft(kernel).real / pitch
    if hann:
        response *= 0.5 + 0.5 * np.cos(np.pi * np.linspace(0.0, 1.0, len(response)))
    return response.astype(np.float32)


def _view_matrix(
    grid: ImageGrid, normals_rad: Floats, distances_mm: Floats, dtype: type[np.floating[Any]]
) -> sparse.csr_array:
    """Rows of the system matrix that belong to one view: (detectors, pixels)."""
    cosine, sine = np.cos(normals_rad), np.sin(normals_rad)
    steps_rows = np.abs(cosine) >= np.abs(sine)
    parts = []
    for chosen, by_rows in ((np.flatnonzero(steps_rows), True), (np.flatnonzero(~steps_rows), False)):
        along, across = (sine, cosine) if by_rows else (cosine, sine)
        crossing = _Crossing(grid, by_rows, distances_mm[chosen], along[chosen], across[chosen])
        parts += [(chosen[ray], pixel, value.astype(dtype)) for ray, pixel, value in crossing.entries()]
    ray, pixel, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    shape = (len(normals_rad), grid.rows * grid.columns)
    entries = (value, (ray.astype(np.int32), pixel.astype(np.int32)))
    return sparse.csr_array(sparse.coo_array(entries, shape=shape))


@dataclass(frozen=True)
class _Crossing:
    """Rays that step the same way: from row to row, or from column to column."""

    grid: ImageGrid
    by_rows: bool
    distance_mm: Floats
    along: Floats
    """Component of the ray's normal along the steps."""
    across: Floats
    """Component of the ray's normal along the row, or column, in which a step interpolates."""

    def entries(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
        """Ray, pixel and length (mm) of the matrix entries that fall on the image."""
        axes_mm = (self.grid.row_positions_mm(), self.grid.column_positions_mm())
        line_mm, cells_mm = axes_mm if self.by_rows else axes_mm[::-1]
        middle_mm = self.grid.centre_mm[1 if self.by_rows else 0]
        crossing_mm = (self.distance_mm[:, None] - line_mm * self.along[:, None]) / self.across[:, None]
        position = (crossing_mm - middle_mm) / self.grid.pixel_mm + (len(cells_mm) - 1) / 2.0  # (ray, line)
        low = np.floor(position).astype(np.int64)
        fraction = position - low
        length_mm = (self.grid.pixel_mm / np.abs(self.across))[:, None]
        for step, weight in ((0, 1.0 - fraction), (1, fraction)):
            cell = low + step
            ray, line = np.nonzero((cell >= 0) & (cell < len(cells_mm)) & (weight > 0.0))
            other = cell[ray, line]
            pixel = line * self.grid.columns + other if self.by_rows else other * self.grid.columns + line
            yield ray, pixel, (weight * length_mm)[ray, line]
