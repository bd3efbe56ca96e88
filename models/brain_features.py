"""What a head CT is described by for the prognosis after cardiac arrest: four sets of features of brain and regions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.atlas_registration import AtlasOnPatient
from models.brain_atlas import CAUDATE, CENTRUM_SEMIOVALE, PUTAMEN, THALAMUS, atlas_regions
from models.feature_settings import FeatureSettings, FixedBinSize
from models.grey_white_ratio import (
    INSET_MM,
    WINDOW_HU,
    HistogramGradient,
    grey_white_ratios,
    histogram_gradient,
    region_medians_hu,
)
from models.ibsi_names import Aggregation, Family
from models.implicit_shapes import Point
from models.intensity import Mask
from models.radiomics import Feature, features

WHOLE_BRAIN, BASAL_GANGLIA = "whole_brain", "basal_ganglia"
RADIOMICS_REGIONS = (WHOLE_BRAIN, BASAL_GANGLIA, THALAMUS, CENTRUM_SEMIOVALE)
GWR, GRADIENT, RADIOMICS, BOTH = "gwr", "histogram_gradient", "radiomics", "radiomics_and_gwr"


class BrainFeatureSettings(BaseModel):
    """How the features are computed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pixel_mm: float = Field(1.0, gt=0.0)
    """Finer pixels are averaged in blocks to about this, before anything is measured."""
    whole_brain: FeatureSettings = FeatureSettings(
        resegmentation_range=WINDOW_HU,
        families=(Family.STATISTICS, Family.INTENSITY_HISTOGRAM),
        discretisation=FixedBinSize(method="fixed_bin_size", width=2),
    )
    regions: FeatureSettings = FeatureSettings(
        dimensions="2D",
        resegmentation_range=WINDOW_HU,
        families=(Family.STATISTICS, Family.GLCM),
        aggregations=(Aggregation.SLICES_AND_DIRECTIONS_MERGED,),
        discretisation=FixedBinSize(method="fixed_bin_size", width=4),
        margin_mm=5.0,
        least_voxels=40,
    )
    """Texture in the slices alone: they are several times as thick as pixels are wide."""


@dataclass(frozen=True)
class BrainFeatures:
    """Everything that was measured in one brain."""

    medians_hu: Mapping[str, float]
    """By region of the atlas."""
    ratios: Mapping[str, float]
    gradient: HistogramGradient
    radiomics: Mapping[str, tuple[Feature, ...]]
    """By region of `RADIOMICS_REGIONS`."""
    fluid_share: float
    """Part of the inside of the skull between 0 and 15 HU: sulci and ventricles that are open."""

    def sets(self) -> dict[str, dict[str, float]]:
        """The four sets, each feature by name."""
        described = {
            f"{one.tag}@{region}": one.value for region, found in self.radiomics.items() for one in found
        }  # fmt: skip
        ratios, gradient = dict(self.ratios), self.gradient
        return {
            GWR: ratios,
            GRADIENT: {"max_gradient_hu": gradient.grey_level_hu, "max_gradient": gradient.gradient},
            RADIOMICS: described,
            BOTH: {**described, **ratios, "fluid_share": self.fluid_share},
        }


_FLUID_HU = 15.0


def brain_features(
    hu_zyx: NDArray[Any], spacing_zyx_mm: Point, atlas: AtlasOnPatient, settings: BrainFeatureSettings
) -> BrainFeatures:
    """Measure a brain on which the atlas lies.

    Raises
    ------
    RegionTooSmall
        If a region has too few voxels of tissue.
    FeatureError
        If the features of a region can not be computed.
    RadiomicsUnavailable
        If the library that computes them is absent.
    """
    regions = atlas_regions(atlas.at, INSET_MM)
    medians = region_medians_hu(hu_zyx, regions)
    brain = atlas.brain.mask
    described = {
        name: features(hu_zyx, mask, spacing_zyx_mm, settings.whole_brain if name == WHOLE_BRAIN else settings.regions)
        for name, mask in radiomics_masks(brain, regions).items()
    }
    inside = hu_zyx[brain]
    return BrainFeatures(
        medians_hu=medians,
        ratios=grey_white_ratios(medians),
        gradient=histogram_gradient(hu_zyx, brain),
        radiomics=described,
        fluid_share=float(np.mean((inside >= WINDOW_HU[0]) & (inside < _FLUID_HU))),
    )


def radiomics_masks(brain: Mask, regions: Mapping[str, Mask]) -> dict[str, Mask]:
    """The regions of `RADIOMICS_REGIONS`."""
    found = {**regions, WHOLE_BRAIN: brain, BASAL_GANGLIA: regions[CAUDATE] | regions[PUTAMEN]}
    return {name: found[name] for name in RADIOMICS_REGIONS}
