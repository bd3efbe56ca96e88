"""How features are computed: everything that changes their values, in one record that travels with them."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.ibsi_names import TEXTURES, Aggregation, Family
from models.image_filters import ImageFilter

HU = "[hnsf'U]"
"""Hounsfield unit in UCUM."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FixedBinNumber(_Settings):
    """So many bins between the smallest and the largest intensity of the region (K15C)."""

    method: Literal["fixed_bin_number"]
    bins: int = Field(ge=2)


class FixedBinSize(_Settings):
    """Bins of one width from the lower end of the resegmentation range up (Q3RU)."""

    method: Literal["fixed_bin_size"]
    width: float = Field(gt=0)


Discretisation = Annotated[FixedBinNumber | FixedBinSize, Field(discriminator="method")]


class Resampling(_Settings):
    """The grid that image and region are brought to (VTM2); centres of the old and the new grid agree (3WE3)."""

    spacing_mm: float = Field(gt=0)
    """Of the new voxels along every axis; in slices only, where the features are of two dimensions."""
    interpolation: Literal["nearest", "linear", "cubic"] = "linear"
    """Of the image; the region is interpolated linearly, and a voxel belongs to it from one half on."""


class FeatureSettings(_Settings):
    """Settings of a set of features."""

    dimensions: Literal["2D", "3D"] = "3D"
    """Whether resampling and filters work in the slices or in the volume."""
    intensities: Literal["HU", "arbitrary"] = "HU"
    """HU are rounded to whole numbers after resampling, as the standard asks for CT."""
    resampling: Resampling | None = None
    resegmentation_range: tuple[float, float] | None = None
    """Voxels of the region outside it count for its shape only (USB3)."""
    outlier_sd: float | None = Field(default=None, gt=0)
    """Voxels so many standard deviations off the mean count for the shape only (7ACA)."""
    discretisation: Discretisation | None = FixedBinSize(method="fixed_bin_size", width=25.0)
    """None: the intensities are whole numbers from 1 on already."""
    volume_histogram: Discretisation | None = None
    """Of the intensity-volume histogram; None takes the HU as they are, and 1000 bins of other intensities."""
    families: tuple[Family, ...] = Field(default=tuple(Family), min_length=1)
    aggregations: tuple[Aggregation, ...] = Field(default=(Aggregation.VOLUME_MERGED,), min_length=1)
    """Of texture features."""
    filter: ImageFilter | None = None
    """Where given, features are of the filtered image, and none are of the shape."""
    margin_mm: float = Field(default=50.0, ge=0)
    """Of image around the region that filters and the local peak see; beyond it is the filter's boundary."""
    least_voxels: int = Field(default=64, ge=1)
    """A region that has fewer after resampling and resegmentation is refused: its texture says nothing."""

    @model_validator(mode="after")
    def _agrees(self) -> "FeatureSettings":
        if self.resegmentation_range is not None and self.resegmentation_range[0] >= self.resegmentation_range[1]:
            raise ValueError("resegmentation_range has to go from the lower to the higher intensity")
        if self._has_bins_of_one_width():
            if self.filter is not None:
                raise ValueError("the values of a filtered image have no scale of their own: take fixed_bin_number")
            if self.intensities != "HU" and self.resegmentation_range is None:
                raise ValueError("fixed_bin_size needs a resegmentation_range unless the intensities are HU")
        if self.dimensions == "2D" and any(one.startswith("3D") for one in self.aggregations):
            raise ValueError("features of two dimensions can not be aggregated in 3D")
        axes = self.filter.directions() if self.filter is not None else None
        if axes is not None and axes != int(self.dimensions[0]):
            raise ValueError(f"the filter needs one direction for each dimension of {self.dimensions}, and has {axes}")
        if self.filter is not None and self.families == (Family.MORPHOLOGY,):
            raise ValueError("a filter changes no shape: morphology alone of a filtered image is nothing")
        return self

    def _has_bins_of_one_width(self) -> bool:
        of_histogram = {Family.INTENSITY_HISTOGRAM, *TEXTURES} & set(self.families)
        of_volumes = Family.INTENSITY_VOLUME_HISTOGRAM in self.families
        return bool(of_histogram and isinstance(self.discretisation, FixedBinSize)) or (
            of_volumes and isinstance(self.volume_histogram, FixedBinSize)
        )

    @property
    def unit(self) -> str:
        """UCUM unit of the intensities that the features are of; 1 for arbitrary and filtered ones."""
        return HU if self.intensities == "HU" and self.filter is None else "1"

    def sha256(self) -> str:
        """Digest of all settings; two values with the same digest were made alike."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
