"""Features of the dose inside a region: of the dose as it is, of the dose filtered, and of its cold spots.

Dose is taken as a multiple of the prescription and cut at a stated multiple before anything else is done to it
(`dosiomics.cut_dose`). A feature is called after its tag and the image that it is of: `cm_contrast@original`,
`stat_min@wavelet_lll`, `stat_max@log_4mm`; those of cold spots are `h0_count@cold`, `spots@100`, `largest_ml@100`.

References
----------
Liang et al., Front Oncol 2019, doi 10.3389/fonc.2019.00269 (features of dose)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from models.dosiomics import CutDose, cut_dose
from models.feature_region import Region, region_of
from models.feature_settings import FeatureSettings, FixedBinNumber, FixedBinSize, Resampling
from models.ibsi_names import Family
from models.image_filters import ImageFilter, LaplacianOfGaussian, SeparableWavelet
from models.intensity import Mask
from models.radiomics import Feature, features
from models.topology import betti_curves, diagram, life_summary

ORIGINAL = "original"
_CORNERS = ndimage.generate_binary_structure(3, 3)
"""Voxels that share a corner are connected, as in `topology`."""


class DosiomicSettings(BaseModel):
    """How features of dose are computed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cut: float = Field(2.0, gt=1.0)
    """Multiple of the prescription that hot spots are cut at."""
    spacing_mm: float = Field(2.0, gt=0.0)
    """Of the grid that dose and region are brought to, linearly."""
    bin_width: float = Field(0.1, gt=0.0)
    """Of the dose as it is, as a multiple of the prescription."""
    bins: int = Field(32, ge=2)
    """Of filtered dose, which has no scale of its own."""
    families: tuple[Family, ...] = (Family.STATISTICS, Family.GLCM, Family.GLSZM, Family.NGTDM)
    """Of the dose as it is."""
    filtered_families: tuple[Family, ...] = (Family.STATISTICS, Family.GLSZM)
    """Of filtered dose."""
    wavelet: str = "coif1"
    """As PyWavelets names it; all eight bands of it are taken."""
    log_sigmas_mm: tuple[float, ...] = (2.0, 4.0)
    """Of the Laplacians of Gaussian."""
    cold_levels_percent: tuple[int, ...] = (80, 90, 100, 110, 120)
    """Of the prescription: below each, pieces are counted."""
    short_life: float = Field(0.02, ge=0.0)
    """A cold spot that is less deep, as a multiple of the prescription, is a ripple between voxels."""
    margin_mm: float = Field(16.0, ge=0.0)
    """Of dose around the region that filters see."""
    least_voxels: int = Field(64, ge=1)

    def images(self) -> dict[str, FeatureSettings]:
        """How features of each image are computed, by the name of the image."""
        original = self._settings(None, FixedBinSize(method="fixed_bin_size", width=self.bin_width))
        binned = FixedBinNumber(method="fixed_bin_number", bins=self.bins)
        return {ORIGINAL: original, **{name: self._settings(one, binned) for name, one in self._filters().items()}}

    def _filters(self) -> dict[str, ImageFilter]:
        found: dict[str, ImageFilter] = {}
        for bands in map("".join, product("LH", repeat=3)):
            found[f"wavelet_{bands.lower()}"] = SeparableWavelet(
                kind="separable_wavelet", family=self.wavelet, bands=bands, rotation_invariant=False
            )
        for sigma in self.log_sigmas_mm:
            found[f"log_{sigma:g}mm"] = LaplacianOfGaussian(kind="laplacian_of_gaussian", sigma_mm=sigma)
        return found

    def _settings(self, one: ImageFilter | None, bins: FixedBinSize | FixedBinNumber) -> FeatureSettings:
        return FeatureSettings(
            intensities="arbitrary",
            resampling=Resampling(spacing_mm=self.spacing_mm),
            resegmentation_range=(0.0, self.cut) if one is None else None,
            discretisation=bins,
            families=self.families if one is None else self.filtered_families,
            filter=one,
            margin_mm=self.margin_mm,
            least_voxels=self.least_voxels,
        )


@dataclass(frozen=True)
class DoseFeature:
    """One value."""

    name: str
    """With the image: `cm_contrast@original`."""
    value: float
    """nan where the region does not define it."""
    unit: str
    """UCUM."""
    ibsi_code: str = ""
    detail: str = ""
    """What else it takes to know what it is."""


@dataclass(frozen=True)
class DosiomicFeatures:
    """Features of one region, and what was cut of its dose."""

    dosiomics: tuple[DoseFeature, ...]
    """Of the dose as it is and filtered."""
    topology: tuple[DoseFeature, ...]
    """Of cold spots."""
    cut: CutDose
    """Levels as multiples of the prescription."""


def dosiomic_features(
    gy_zyx: NDArray[Any],
    mask_zyx: Mask,
    spacing_zyx_mm: tuple[float, float, float],
    prescription_gy: float,
    settings: DosiomicSettings,
) -> DosiomicFeatures:
    """Features of a region of a dose.

    Parameters
    ----------
    gy_zyx
        Gy, with what lies around the region: filters see it.
    mask_zyx
        The region on the grid of the dose.
    spacing_zyx_mm
        Of that grid.
    prescription_gy
        What the dose is a multiple of.
    settings
        How they are computed.

    Raises
    ------
    models.dose_samples.DoseRefused
        If the region has no voxel or the dose is no number.
    models.feature_region.FeatureError
        If the region is too small.
    models.feature_library.RadiomicsUnavailable, models.topology.TopologyUnavailable
        If a library that computes them is absent.
    """
    cut = cut_dose(gy_zyx / prescription_gy, mask_zyx, settings.cut)
    found: list[DoseFeature] = []
    images = settings.images()
    for image, how in images.items():
        values = features(cut.gy_zyx, mask_zyx, spacing_zyx_mm, how)
        found += [_named(one, image, f"{image}, cut at {settings.cut:g} x prescription") for one in values]
    region = region_of(cut.gy_zyx, mask_zyx, spacing_zyx_mm, images[ORIGINAL])
    return DosiomicFeatures(tuple(found), tuple(cold_spot_features(region, settings)), cut)


def cold_spot_features(region: Region, settings: DosiomicSettings) -> Iterator[DoseFeature]:
    """Persistence of the pieces of the region that are colder than the prescription, and their number and size.

    The dose outside of the region is no part of it. Depth, birth and life are multiples of the prescription.
    """
    found = diagram(region.image_zyx, region.mask_zyx)
    cold = found.born_between(-np.inf, 1.0).longer_than(settings.short_life)
    for name, value in life_summary(cold).items():
        yield DoseFeature(f"{name}@cold", value, "1", detail="sublevel sets of dose, born below the prescription")
    yield DoseFeature("depth@cold", max(0.0, 1.0 - float(region.image_zyx[region.mask_zyx].min())), "1")
    kept = found.longer_than(settings.short_life)
    levels = np.array(settings.cold_levels_percent)
    spots, tunnels, _ = betti_curves(kept, levels / 100.0)
    for level, spot_count, tunnel_count in zip(levels.tolist(), spots.tolist(), tunnels.tolist(), strict=True):
        yield DoseFeature(f"spots@{level}", float(spot_count), "1", detail=f"pieces below {level} % of prescription")
        yield DoseFeature(f"tunnels@{level}", float(tunnel_count), "1", detail=f"hot cores within {level} %")
        yield from _sizes(region, level)


def _sizes(region: Region, level_percent: int) -> Iterator[DoseFeature]:
    below = (region.image_zyx < level_percent / 100.0) & region.mask_zyx
    pieces, _ = ndimage.label(below, _CORNERS)
    voxel_ml = float(np.prod(region.spacing_zyx_mm)) / 1000.0
    largest_ml = float(np.bincount(pieces.ravel())[1:].max(initial=0)) * voxel_ml
    # Beyond the surface lies no dose of the region, so that a rim is as thick as it is.
    depth_mm = ndimage.distance_transform_edt(np.pad(below, 1), sampling=region.spacing_zyx_mm)
    detail = f"below {level_percent} % of prescription"
    yield DoseFeature(f"largest_ml@{level_percent}", largest_ml, "mL", detail=f"largest piece {detail}")
    yield DoseFeature(f"thickest_mm@{level_percent}", float(depth_mm.max()), "mm", detail=f"deepest point {detail}")


def by_name(found: tuple[DoseFeature, ...]) -> Mapping[str, float]:
    """Values by name."""
    return {one.name: one.value for one in found}


def _named(one: Feature, image: str, detail: str) -> DoseFeature:
    aggregation = f"; {one.aggregation}" if one.aggregation else ""
    settings = f"; settings {one.settings_sha256[:12]}"
    return DoseFeature(f"{one.tag}@{image}", one.value, one.unit, one.ibsi_code, detail + aggregation + settings)
