"""What a flat panel makes of the primary beam: scatter, photon noise, blur, lag, electronic noise.

Signals are [view, row, column], relative to the middle of the panel without a patient.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_SD_PER_FWHM = 1.0 / 2.3548


@dataclass(frozen=True)
class FlatPanel:
    """The properties of one panel; every effect is switched off by 0."""

    photons_per_mm2: float = 1.0e5
    """Detected in the middle of the panel in one view without a patient."""
    electronic_photons: float = 10.0
    """SD of the electronic noise of 1 mm2, in photons; it grows with the root of the area of a pixel."""
    blur_fwhm_mm: float = 0.6
    """Spread of light in the scintillator."""
    lag: float = 0.02
    """Part r of the signal that a view inherits: y_k = (1 - r) x_k + r y_(k-1)."""
    scatter_per_path: float = 0.3
    """Scatter that a ray makes relative to its primary, for each unit of its line integral; behind a grid."""
    scatter_fwhm_mm: float = 400.0
    """Width of the scatter that one ray makes, on the panel."""

    def scattered(
        self, primary: NDArray[np.float32], flat: NDArray[np.float32], row_mm: float, column_mm: float
    ) -> NDArray[np.float32]:
        """Scatter S of the primary P: a broad kernel G over a P ln(flat / P); [view, row, column].

        The source term is that of the kernel superposition methods: a ray scatters by what it loses, and what it
        scatters is weakened like itself. Rays beside the panel are collimated and scatter nothing.

        References
        ----------
        Sun and Star-Lack, Phys Med Biol 2010, doi 10.1088/0031-9155/55/22/007
        """
        source = np.float32(self.scatter_per_path) * primary * np.log(flat / primary)
        sd_mm = self.scatter_fwhm_mm * _SD_PER_FWHM
        return _convolved(
            source, _gaussian(source.shape[1], sd_mm / row_mm), _gaussian(source.shape[2], sd_mm / column_mm)
        )

    def measured(
        self, signal: NDArray[np.float32], row_mm: float, column_mm: float, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """The signal with Poisson noise, blur, lag and electronic noise, in this order."""
        photons = self.photons_per_mm2 * row_mm * column_mm
        counted = (rng.poisson(signal * photons) / photons).astype(np.float32)
        sd_mm = self.blur_fwhm_mm * _SD_PER_FWHM
        rows, columns = (_gaussian(n, sd_mm / mm) for n, mm in zip(signal.shape[1:], (row_mm, column_mm), strict=True))
        edge = np.outer(rows.sum(axis=1), columns.sum(axis=1)).astype(np.float32)
        read = self._lagged(np.asarray(_convolved(counted, rows, columns) / edge, np.float32))
        electronic = self.electronic_photons * np.sqrt(row_mm * column_mm) / photons
        return read + np.float32(electronic) * rng.standard_normal(read.shape, np.float32)

    def _lagged(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        kept = np.float32(self.lag)
        for before, view in pairwise(signal):
            view += kept * (before - view)
        return signal


def _gaussian(count: int, sd: float) -> NDArray[np.float32]:
    """Convolution with a Gaussian of this SD, in pixels, as a matrix: (count, count)."""
    if sd < 0.05:
        return np.eye(count, dtype=np.float32)
    distance = np.arange(-(count + 4 * int(np.ceil(sd))), count + 4 * int(np.ceil(sd)) + 1)
    kernel = np.exp(-0.5 * (distance / sd) ** 2)
    kernel /= kernel.sum()
    index = np.arange(count)
    return np.asarray(kernel[index[:, None] - index[None, :] - distance[0]], np.float32)


def _convolved(
    signal: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.asarray(rows @ signal @ columns.T, np.float32)
