"""Measures of a dose inside a region: dose-volume histogram, D and V values, generalised EUD, EQD2.

Names are those of AAPM TG-263: `D90%` is the dose that the hottest 90 % of the region get at least, `D2cc` that of the
hottest 2 mL, `V20Gy` the part of the region that gets 20 Gy or more, `V100%` that which gets the whole prescription.
A unit in brackets asks for another one than Gy for a D and % for a V: `V20Gy[cc]`, `D90%[%]` of the prescription.

References
----------
AAPM TG-263 (Mayo et al., Int J Radiat Oncol Biol Phys 2018, doi 10.1016/j.ijrobp.2017.12.013), section on DVH metrics;
Drzymala et al., Int J Radiat Oncol Biol Phys 1991, doi 10.1016/0360-3016(91)90168-4 (dose-volume histograms);
Niemierko, Med Phys 1999;26:1100 (generalised EUD)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.dose_samples import DoseRefused, DoseSamples

_NAME = re.compile(r"(?P<kind>[DV])(?P<number>\d+(?:\.\d+)?)(?P<at>%|cc|Gy)(?:\[(?P<unit>%|cc|Gy)\])?")
_AT = {"D": ("%", "cc"), "V": ("%", "Gy")}
_UNITS = {"D": ("Gy", "%"), "V": ("%", "cc")}
_PLAIN = ("Min", "Max", "Mean")
_UCUM = {"Gy": "Gy", "%": "%", "cc": "mL"}
_EQUAL = 1e-9
"""Interpolation rounds: a dose lower than a level by less than this part of it has reached the level."""


@dataclass(frozen=True)
class DoseMeasure:
    """One number with its name and unit."""

    name: str
    value: float
    unit: str
    """UCUM: Gy, %, mL."""


class DoseVolumeHistogram:
    """The cumulative dose-volume histogram of a region, without bins: every sample counts with its own dose."""

    def __init__(self, samples: DoseSamples) -> None:
        order = np.argsort(-samples.gy)
        self._gy = samples.gy[order]
        self._ml = samples.ml[order]
        self._reached_ml = np.cumsum(self._ml)

    @property
    def volume_ml(self) -> float:
        """Of the region."""
        return float(self._reached_ml[-1])

    @property
    def min_gy(self) -> float:
        """Lowest dose."""
        return float(self._gy[-1])

    @property
    def max_gy(self) -> float:
        """Highest dose."""
        return float(self._gy[0])

    @property
    def mean_gy(self) -> float:
        """Mean dose by volume."""
        return float(np.average(self._gy, weights=self._ml))

    def dose_to_ml_gy(self, ml: float) -> float:
        """The dose that the hottest `ml` get at least.

        Raises
        ------
        DoseRefused
            If the region is smaller.
        """
        if not 0.0 <= ml <= self.volume_ml * (1.0 + _EQUAL):
            raise DoseRefused(f"The region has {self.volume_ml:.2f} mL, less than the {ml:g} mL asked for")
        return float(np.interp(ml, self._reached_ml - self._ml / 2.0, self._gy))

    def dose_to_percent_gy(self, percent: float) -> float:
        """The dose that the hottest `percent` of the volume get at least.

        Raises
        ------
        DoseRefused
            If it is no percentage.
        """
        if not 0.0 <= percent <= 100.0:
            raise DoseRefused(f"A region has no {percent:g} % of its volume")
        return self.dose_to_ml_gy(percent / 100.0 * self.volume_ml)

    def volume_from_ml(self, gy: float) -> float:
        """Volume in mL that gets `gy` or more."""
        return float(self._ml[self._gy >= gy * (1.0 - _EQUAL)].sum())

    def volume_from_percent(self, gy: float) -> float:
        """Percent of the volume that gets `gy` or more."""
        return 100.0 * self.volume_from_ml(gy) / self.volume_ml

    def curve(self, step_gy: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Doses from 0 in steps to beyond the highest, Gy, and the percent of the volume that gets them or more."""
        levels = np.arange(0.0, self.max_gy + 2.0 * step_gy, step_gy)
        count = np.searchsorted(-self._gy, -levels * (1.0 - _EQUAL), side="right")
        return levels, 100.0 * np.concatenate([[0.0], self._reached_ml])[count] / self.volume_ml

    def geud_gy(self, a: float) -> float:
        """Generalised equivalent uniform dose, (sum of v D^a)^(1/a) with v the part of the volume at dose D.

        Large positive `a` looks at the hottest part (serial organs), negative at the coldest (tumours), 1 at the mean.

        Raises
        ------
        DoseRefused
            If `a` is 0.
        """
        if a == 0.0:
            raise DoseRefused("A generalised EUD has no exponent 0")
        # Relative to the dose that weighs most, no power overflows.
        greatest = self.max_gy if a > 0.0 else self.min_gy
        if greatest <= 0.0:
            return 0.0
        mean = np.average((self._gy / greatest) ** a, weights=self._ml)
        return float(greatest * mean ** (1.0 / a))


def eqd2_gy(gy: NDArray[np.float64], fractions: int, alpha_beta_gy: float) -> NDArray[np.float64]:
    """Dose in fractions of 2 Gy with the effect of `gy` given in equal fractions: D (D/n + a/b) / (2 + a/b).

    Works on every voxel or sample by itself, as the dose per fraction differs from place to place.

    Raises
    ------
    DoseRefused
        If there is no fraction, or alpha/beta is not above 0.

    References
    ----------
    Withers et al., Cancer 1983;52:362; Fowler, Br J Radiol 1989, doi 10.1259/0007-1285-62-740-679
    """
    if fractions < 1 or not alpha_beta_gy > 0.0:
        raise DoseRefused("EQD2 needs at least one fraction and an alpha/beta above 0 Gy")
    return np.asarray(gy * (gy / fractions + alpha_beta_gy) / (2.0 + alpha_beta_gy))


def dose_measures(
    histogram: DoseVolumeHistogram, names: Iterable[str], prescription_gy: float | None = None
) -> tuple[DoseMeasure, ...]:
    """The measures of these names (`Min`, `Max`, `Mean` and those described in the module), in their order.

    Raises
    ------
    DoseRefused
        If a name is none, needs a prescription and there is none, or asks for more than the volume of the region.
    """
    return tuple(_measure(histogram, name, prescription_gy) for name in names)


def _measure(histogram: DoseVolumeHistogram, name: str, prescription_gy: float | None) -> DoseMeasure:
    if name in _PLAIN:
        return DoseMeasure(name, getattr(histogram, f"{name.lower()}_gy"), "Gy")
    found = _NAME.fullmatch(name)
    unit = found and (found["unit"] or _UNITS[found["kind"]][0])
    if found is None or found["at"] not in _AT[found["kind"]] or unit not in _UNITS[found["kind"]]:
        raise DoseRefused(f"{name} is not the name of a dose measure")
    value = (_d if found["kind"] == "D" else _v)(histogram, found, unit, prescription_gy)
    return DoseMeasure(name, value, _UCUM[unit])


def _d(histogram: DoseVolumeHistogram, found: re.Match[str], unit: str, prescription_gy: float | None) -> float:
    number = float(found["number"])
    gy = histogram.dose_to_percent_gy(number) if found["at"] == "%" else histogram.dose_to_ml_gy(number)
    return gy if unit == "Gy" else 100.0 * gy / _prescription(found, prescription_gy)


def _v(histogram: DoseVolumeHistogram, found: re.Match[str], unit: str, prescription_gy: float | None) -> float:
    gy = float(found["number"])
    if found["at"] == "%":
        gy *= _prescription(found, prescription_gy) / 100.0
    return histogram.volume_from_percent(gy) if unit == "%" else histogram.volume_from_ml(gy)


def _prescription(found: re.Match[str], prescription_gy: float | None) -> float:
    if prescription_gy is None or not prescription_gy > 0.0:
        raise DoseRefused(f"{found[0]} needs a prescription")
    return prescription_gy
