"""How tissues attenuate photons: the tables, and what a voxel is made of by its HU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.intensity import Hu

REFERENCE_KEV = float(np.sqrt(60.0 * 80.0))
"""Effective energy of a 120 kV beam; where HU are turned into materials."""


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
    "muscle": Material(1.05, np.sqrt(0.2048 * 0.1823), 0.07008),
    "bone": Material(1.92, np.sqrt(0.3148 * 0.2229), 0.06566),
}

_TABLE_KEV = (20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)

# Mass attenuation, cm2/g, at the energies above, from the same tables; bone is cortical bone.
_CM2_G: Mapping[str, tuple[float, ...]] = {
    "water": (0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505),
    "bone": (4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480),
    "aluminium": (3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378),
}
_DENSITY_G_CM3: Mapping[str, float] = {"water": 1.0, "bone": 1.92, "aluminium": 2.699}

_SOFT_HU = 100.0
"""Muscle and organs lie below; what is denser holds bone."""


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


def linear_attenuation_per_mm(material: str, energy_kev: NDArray[Any] | float) -> NDArray[np.float64]:
    """Of water, bone or aluminium, 1/mm; log-log interpolation of the table, 20 to 150 keV."""
    log_cm2_g = np.interp(np.log(energy_kev), np.log(_TABLE_KEV), np.log(_CM2_G[material]))
    return np.asarray(0.1 * _DENSITY_G_CM3[material] * np.exp(log_cm2_g), np.float64)


def water_and_bone(hu: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Relative density of water and of cortical bone in every voxel; any shape.

    Up to 100 HU a voxel is water of that density, above it a mixture with cortical bone, beyond cortical bone denser
    bone. At the reference energy the two attenuate as the HU say.
    """
    bone_hu = 1000.0 * float(_bone_over_water() - 1.0)
    bone = np.interp(hu, (_SOFT_HU, bone_hu), (0.0, 1.0))
    water = np.minimum(1.0 + np.asarray(hu) / 1000.0, 1.0 + _SOFT_HU / 1000.0) * (1.0 - bone)
    denser = np.maximum((1.0 + np.asarray(hu) / 1000.0) / (1.0 + bone_hu / 1000.0), 1.0)
    return np.maximum(water, 0.0).astype(np.float32), (bone * denser).astype(np.float32)


def _bone_over_water() -> float:
    bone, water = (linear_attenuation_per_mm(name, REFERENCE_KEV) for name in ("bone", "water"))
    return float(bone / water)
