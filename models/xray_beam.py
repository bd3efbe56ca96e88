"""A kilovoltage beam as a flat panel sees it: spectrum, bow-tie filter, hardening in water and bone, water correction.

Signals are relative to what the panel reads in the middle without a patient.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.materials import REFERENCE_KEV, linear_attenuation_per_mm

# Caesium iodide of the same source, on both sides of the K edges of iodine and caesium.
_CSI_KEV = (20.0, 30.0, 33.16, 33.17, 35.98, 35.99, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)
_CSI_CM2_G = (26.86, 9.045, 6.923, 21.22, 17.19, 30.27, 22.97, 12.87, 7.921, 3.677, 2.035, 0.729)
_CSI_G_CM2 = 0.2
"""About 0.6 mm of columnar crystals."""

_TUNGSTEN_LINES_KEV = (58.0, 59.3, 67.2)
_TUNGSTEN_LINES = (0.035, 0.06, 0.03)
"""K lines of the anode as fractions of all photons; they show above 69.5 kV only."""
_TUNGSTEN_K_EDGE_KEV = 69.5

_WATER_TABLE_MM = np.concatenate([np.linspace(-60.0, 0.0, 13), np.linspace(5.0, 1000.0, 200)])
"""Noise makes rays through air read less than nothing; the correction must not cut them off."""


@dataclass(frozen=True)
class Tube:
    """What leaves the tube and is seen by the panel."""

    peak_kv: float = 125.0
    aluminium_mm: float = 8.0
    """All filters in the middle of the beam, as aluminium."""

    def detected_spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies in steps of 1 keV, and the share of the panel's signal that each makes (sum 1).

        Kramers' law, K lines of tungsten, aluminium; the panel adds up the energy that 0.2 g/cm2 of CsI stops.

        References
        ----------
        Kramers, Phil Mag 1923, doi 10.1080/14786442308565244
        """
        energy_kev = np.arange(20.5, self.peak_kv)
        photons = self.peak_kv / energy_kev - 1.0
        photons /= photons.sum()
        if self.peak_kv > _TUNGSTEN_K_EDGE_KEV:
            for line_kev, share in zip(_TUNGSTEN_LINES_KEV, _TUNGSTEN_LINES, strict=True):
                photons[np.abs(energy_kev - line_kev).argmin()] += share
        photons *= np.exp(-self.aluminium_mm * linear_attenuation_per_mm("aluminium", energy_kev))
        stopped = -np.expm1(-_CSI_G_CM2 * np.exp(np.interp(energy_kev, _CSI_KEV, np.log(_CSI_CM2_G))))
        signal = photons * stopped * energy_kev
        return energy_kev, signal / signal.sum()


@dataclass(frozen=True)
class Beam:
    """Energy bins, and the signal of each behind the bow-tie filter without a patient, column by column."""

    energy_kev: NDArray[np.float64]
    """(bin,)"""
    signal: NDArray[np.float64]
    """(column, bin); the bins of a column that the bow-tie filter leaves open add up to 1."""

    def flat(self) -> NDArray[np.float32]:
        """Signal without a patient: (column,)."""
        return np.asarray(self.signal.sum(axis=1), np.float32)

    def transmitted(self, water_mm: NDArray[np.float32], bone_mm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Primary signal behind so much water and bone: (..., column).

        The sum over energies E of signal(E) exp(-mu_water(E) water_mm - mu_bone(E) bone_mm).
        """
        primary = np.zeros_like(water_mm)
        for energy_kev, signal in zip(self.energy_kev, self.signal.T, strict=True):
            water, bone = (np.float32(linear_attenuation_per_mm(name, energy_kev)) for name in ("water", "bone"))
            primary += signal.astype(np.float32) * np.exp(-(water * water_mm + bone * bone_mm))
        return primary

    def as_water_mm(self, primary: NDArray[Any]) -> NDArray[np.float32]:
        """Thickness of water that would let so much through; (..., column).

        This is the correction that scanners calibrate with water: what hardens more than water stays wrong.
        """
        thickness_mm = _WATER_TABLE_MM[:, None]
        through = self.transmitted(
            np.broadcast_to(thickness_mm, (len(thickness_mm), len(self.signal))).astype(np.float32),
            np.zeros((1, 1), np.float32),
        )
        output = np.empty(primary.shape, np.float32)
        for column, expected in enumerate(-np.log(through.T)):
            output[..., column] = np.interp(-np.log(primary[..., column]), expected, _WATER_TABLE_MM)
        return output


def hardened_beam(tube: Tube, bow_tie_mm: NDArray[np.float64], bins: int = 6) -> Beam:
    """The tube's spectrum in bins of equal signal, behind so much aluminium of the bow-tie filter in every column."""
    energy_kev, share = tube.detected_spectrum()
    number = np.minimum((np.cumsum(share) - share / 2.0) * bins, bins - 0.5).astype(int)
    weight = np.asarray(np.bincount(number, share, bins), np.float64)
    mean_kev = np.asarray(np.bincount(number, share * energy_kev, bins) / weight, np.float64)
    return _behind(mean_kev, weight, bow_tie_mm)


def monochromatic_beam(bow_tie_mm: NDArray[np.float64]) -> Beam:
    """All photons at the reference energy, so that nothing hardens."""
    return _behind(np.array([REFERENCE_KEV]), np.ones(1), bow_tie_mm)


def bow_tie_aluminium_mm(axis_distance_mm: NDArray[np.float64], cylinder_mm: float) -> NDArray[np.float64]:
    """Thickness of a bow-tie filter that evens out half of a water cylinder of this diameter, column by column.

    Half of 2 R - 2 sqrt(R^2 - d^2) of water, for rays that pass the axis at the distance d, as aluminium of the same
    attenuation at the reference energy.
    """
    radius_mm = cylinder_mm / 2.0
    missing_mm = 2.0 * (radius_mm - np.sqrt(np.maximum(radius_mm**2 - axis_distance_mm**2, 0.0)))
    water, aluminium = (linear_attenuation_per_mm(name, REFERENCE_KEV) for name in ("water", "aluminium"))
    return np.asarray(0.5 * missing_mm * water / aluminium, np.float64)


def _behind(energy_kev: NDArray[np.float64], weight: NDArray[np.float64], bow_tie_mm: NDArray[np.float64]) -> Beam:
    aluminium = linear_attenuation_per_mm("aluminium", energy_kev)
    return Beam(energy_kev, weight * np.exp(-bow_tie_mm[:, None] * aluminium))
