"""Standardised features of a region: IBSI-1 families, of the image itself or of one filtered as in IBSI-2.

`feature_library` computes them; here are the names, the codes and the units that say what each value is.

References
----------
Zwanenburg et al., Radiology 2020, doi 10.1148/radiol.2020191145 (IBSI-1); Whybra et al., Radiology 2024,
doi 10.1148/radiol.231319 (IBSI-2)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.feature_library import DIRECTION_METHODS, computed
from models.feature_region import region_of
from models.feature_settings import FeatureSettings, FixedBinNumber
from models.ibsi_names import DIRECTION_CODES, FEATURE_NAMES, SLICE_CODES, TEXTURES, WITH_DIRECTIONS, Family

_AGGREGATION_OF = {method: aggregation for aggregation, method in DIRECTION_METHODS.items()}


@dataclass(frozen=True)
class Feature:
    """One value, and what it takes to know what it is."""

    tag: str
    """Short name of the manual, `cm_contrast`."""
    name: str
    ibsi_code: str
    family: Family
    aggregation: str
    """Name of the aggregation, `3D, merged` or `3D`; empty where nothing is aggregated."""
    aggregation_code: str
    value: float
    """nan where the region does not define it, as a correlation within a single grey level."""
    unit: str
    """UCUM; 1 for plain numbers and for intensities of no known unit."""
    settings_sha256: str
    """Of the `FeatureSettings` that it was computed with."""


def features(
    image_zyx: NDArray[Any],
    mask_zyx: NDArray[np.bool_],
    spacing_zyx_mm: tuple[float, float, float],
    settings: FeatureSettings,
) -> tuple[Feature, ...]:
    """Features of a region, those of textures once for each aggregation.

    Parameters
    ----------
    image_zyx
        Intensities; HU unless the settings say otherwise. What is not the region is seen by filters and the local peak.
    mask_zyx
        The region on the grid of the image.
    spacing_zyx_mm
        Of that grid.
    settings
        How the features are to be computed.

    Raises
    ------
    FeatureError
        If the region is empty, too small, or not on the grid of the image, or the image is not finite.
    RadiomicsUnavailable
        If the library that computes them is absent.
    """
    region = region_of(image_zyx, mask_zyx, spacing_zyx_mm, settings)
    digest = settings.sha256()
    return tuple(_named(one, settings, digest) for one in computed(region, settings))


def _named(one: Any, settings: FeatureSettings, digest: str) -> Feature:
    known = FEATURE_NAMES[one.abbr_name]
    aggregation, code = _aggregation(known.family, getattr(one, "spatial_method", None))
    is_binned = known.family is Family.INTENSITY_VOLUME_HISTOGRAM and _has_bin_numbers(settings)
    unit = "1" if is_binned else _unit(known.unit, settings.unit)
    return Feature(
        tag=one.abbr_name,
        name=known.name,
        ibsi_code=known.ibsi_code,
        family=known.family,
        aggregation=aggregation,
        aggregation_code=code,
        value=float(one.value),
        unit=unit,
        settings_sha256=digest,
    )


def _aggregation(family: Family, method: str | None) -> tuple[str, str]:
    if method is None or family not in TEXTURES:
        return "", ""
    if family in WITH_DIRECTIONS:
        return str(_AGGREGATION_OF[method]), DIRECTION_CODES[_AGGREGATION_OF[method]]
    return method.upper(), SLICE_CODES[method.upper()]


def _has_bin_numbers(settings: FeatureSettings) -> bool:
    """Whether the intensities of the volume histogram are numbers of bins."""
    return isinstance(settings.volume_histogram, FixedBinNumber)


def _unit(template: str, of_intensities: str) -> str:
    if of_intensities != "1":
        return template.replace("{i}", of_intensities)
    return template.removeprefix("{i}").lstrip(".") if template not in ("{i}", "{i}2") else "1"
