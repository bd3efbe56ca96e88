"""What mirp does for the features: settings and arrays in its words, and its feature objects with their values.

Its own reading and its workflow are left aside: they read files, and write to standard output.

References
----------
Zwanenburg and Löck, J Open Source Softw 2024, doi 10.21105/joss.06413
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from models.feature_region import FeatureError, Region
from models.feature_settings import Discretisation, FeatureSettings, FixedBinNumber
from models.ibsi_names import FEATURE_NAMES, TEXTURES, WITH_DIRECTIONS, Aggregation, Family
from models.spatial_autocorrelation import moran_and_geary

DIRECTION_METHODS = {
    Aggregation.SLICES_AVERAGED: "2d_average",
    Aggregation.SLICES_MERGED: "2d_slice_merge",
    Aggregation.DIRECTIONS_MERGED: "2.5d_direction_merge",
    Aggregation.SLICES_AND_DIRECTIONS_MERGED: "2.5d_volume_merge",
    Aggregation.VOLUME_AVERAGED: "3d_average",
    Aggregation.VOLUME_MERGED: "3d_volume_merge",
}
"""The library's names of the aggregations of textures with directions."""


class RadiomicsUnavailable(Exception):
    """The library is not installed; the message is one plain sentence."""


def computed(region: Region, settings: FeatureSettings) -> list[Any]:
    """The library's feature objects, with `abbr_name`, `value` and, of textures, `spatial_method`.

    Raises
    ------
    FeatureError
        If the region has too few voxels after resegmentation.
    RadiomicsUnavailable
        If the library is absent.
    """
    try:
        import mirp  # noqa: F401
    except ImportError as error:
        raise RadiomicsUnavailable("features need mirp: install rtnode with the extra radiomics") from error
    with _quiet():
        return _computed(region, settings)


@contextmanager
def _quiet() -> Iterator[None]:
    """A region of one grey level divides by zero, and a first bin at -1000 HU is what the standard says."""
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No lower bound of the intensity range was set")
        warnings.filterwarnings("ignore", "Fixed bin size discretisation causes all intensities")
        # Of fixed bins of intensities that are no HU: what unit they have, the settings say.
        warnings.filterwarnings("ignore", "The intensities for this image")
        yield


def _computed(region: Region, settings: FeatureSettings) -> list[Any]:
    from mirp._features.feature_generator import generate_features
    from mirp.settings.generic import SettingsClass

    arguments = SettingsClass(**_library_arguments(settings))
    image, mask = _library_objects(region, settings)
    mask.resegmentise_mask(
        image=image,
        resegmentation_method=arguments.roi_resegment.resegmentation_method,
        intensity_range=arguments.roi_resegment.intensity_range,
        sigma=arguments.roi_resegment.sigma,
    )
    _check(mask, image, settings)
    wanted = arguments.feature_extr
    if settings.filter is not None:
        image, wanted = _filtered(image, arguments), arguments.img_transform.feature_settings
    found = [one for one in generate_features(settings=wanted) if one.abbr_name in FEATURE_NAMES]
    own = _autocorrelation(region, mask) if Family.MORPHOLOGY in settings.families and settings.filter is None else {}
    _compute(found, image, mask, own)
    return found


def _autocorrelation(region: Region, mask: Any) -> dict[str, float]:
    # The library estimates both from subsets of 100 voxels, which shifts Moran's I by -1/99.
    inside = mask.roi_intensity.get_voxel_grid()
    moran, geary = moran_and_geary(region.image_zyx, inside, region.spacing_zyx_mm)
    return {"morph_moran_i": moran, "morph_geary_c": geary}


def _compute(found: list[Any], image: Any, mask: Any, own: dict[str, float]) -> None:
    previous = None
    try:
        for one in found:
            if one.abbr_name in own:
                one.value = own[one.abbr_name]
                continue
            one.compute(image=image, mask=mask)
            if previous is not None:
                previous.clear_local_cache(other=one)
            previous = one
    finally:
        # What the classes of the library keep of an image would outlive it.
        for one in found:
            one.clear_cache()


def _library_objects(region: Region, settings: FeatureSettings) -> tuple[Any, Any]:
    from mirp._images.ct_image import CTImage
    from mirp._images.generic_image import GenericImage
    from mirp._masks.base_mask import BaseMask

    spacing = region.spacing_zyx_mm
    if settings.filter is not None:
        # The library takes sides that differ in the last digit for a grid that no filter can work on.
        spacing = (spacing[2] if settings.dimensions == "3D" else spacing[0], spacing[2], spacing[2])
    grid = {
        "image_origin": (0.0, 0.0, 0.0),
        "image_orientation": np.identity(3),
        "image_spacing": spacing,
        "image_dimensions": region.image_zyx.shape,
        "separate_slices": settings.dimensions == "2D",
    }
    # Of its CT images the library takes the intensities of the volume histogram as they are.
    kind = CTImage if settings.intensities == "HU" or settings.discretisation is None else GenericImage
    return kind(image_data=region.image_zyx, **grid), BaseMask(roi_name="region", image_data=region.mask_zyx, **grid)


def _check(mask: Any, image: Any, settings: FeatureSettings) -> None:
    shape, intensity = (int(np.sum(part.get_voxel_grid())) for part in (mask.roi_morphology, mask.roi_intensity))
    if intensity < settings.least_voxels:
        left = f", of which {intensity} are within the intensities wanted" if intensity < shape else ""
        raise FeatureError(f"The region has {shape} voxels{left}; features need at least {settings.least_voxels}")
    if settings.discretisation is None and settings.filter is None:
        inside = image.get_voxel_grid()[mask.roi_intensity.get_voxel_grid()]
        if inside.min() < 1 or (inside % 1).any():
            raise FeatureError("Intensities that are not discretised have to be whole numbers from 1 on")


def _filtered(image: Any, arguments: Any) -> Any:
    from mirp._workflows.standardWorkflow import StandardWorkflow

    return next(StandardWorkflow(settings=arguments, image_file=None).transform_images(image))


def _library_arguments(settings: FeatureSettings) -> dict[str, Any]:
    families = [str(family) for family in settings.families]
    arguments: dict[str, Any] = {
        "by_slice": settings.dimensions == "2D",
        "resegmentation_intensity_range": list(settings.resegmentation_range or ()) or None,
        "resegmentation_sigma": settings.outlier_sd,
        **_discretisation_arguments("ivh_discretisation", settings.volume_histogram),
        **_aggregation_arguments(settings.aggregations),
    }
    if settings.filter is None:
        return arguments | {
            "base_feature_families": families,
            **_discretisation_arguments("base_discretisation", settings.discretisation),
        }
    return arguments | {
        "base_feature_families": "none",
        "response_map_feature_families": [one for one in families if one != Family.MORPHOLOGY],
        "boundary_condition": settings.filter.boundary,
        **_discretisation_arguments("response_map_discretisation", settings.discretisation),
        **settings.filter.library_arguments(),
    }


def _discretisation_arguments(prefix: str, discretisation: Discretisation | None) -> dict[str, Any]:
    if discretisation is None:
        return {f"{prefix}_method": "none"}
    if isinstance(discretisation, FixedBinNumber):
        return {f"{prefix}_method": discretisation.method, f"{prefix}_n_bins": discretisation.bins}
    return {f"{prefix}_method": discretisation.method, f"{prefix}_bin_width": discretisation.width}


def _aggregation_arguments(aggregations: tuple[Aggregation, ...]) -> dict[str, list[str]]:
    with_directions = [DIRECTION_METHODS[one] for one in aggregations]
    without = list(dict.fromkeys(one.split(",")[0].lower() for one in aggregations))
    names = {Family.GLCM: with_directions, Family.GLRLM: with_directions} | dict.fromkeys(
        TEXTURES - WITH_DIRECTIONS, without
    )
    return {f"{family}_spatial_method": methods for family, methods in names.items()}
