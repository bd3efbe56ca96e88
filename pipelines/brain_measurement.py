"""From the files of a head CT to features of its brain and what speaks for them: the same for one and for many."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.atlas_registration import atlas_on_patient
from models.brain_features import BrainFeatures, BrainFeatureSettings, brain_features
from models.brain_measures import brain_measures
from models.feature_library import RadiomicsUnavailable
from models.feature_region import FeatureError
from models.grey_white_ratio import INSET_MM, WINDOW_HU, RegionTooSmall
from models.intensity import AIR_HU
from models.intracranial import NoWholeBrain
from models.placed_image import PlacedImage, in_blocks
from models.training.prognosis_sets import PatientFeatures
from pipelines.base import InputRejected, PipelineError
from pipelines.dicom.elements import text
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.volume import Volume, axis_order
from pipelines.outcomes import CollectedPatient

ROLE = "head_ct"
_ATLAS = 1
"""Another number is another atlas or another registration."""
_THICKEST_MM = 8.0
_FEWEST_SLICES = 12


@dataclass(frozen=True)
class MeasuredBrain:
    """One head CT, measured."""

    series: ImageSeries
    features: BrainFeatures
    measures: Mapping[str, float]
    """As of `models.brain_measures`."""
    volume_ml: float
    """Of the inside of the skull."""


def extraction(settings: BrainFeatureSettings) -> dict[str, Any]:
    """Everything that changes the features, as JSON."""
    return {
        "atlas": _ATLAS,
        "inset_mm": INSET_MM,
        "window_hu": list(WINDOW_HU),
        "features": settings.model_dump(mode="json"),
    }


def measured_brain(paths: Iterable[Path], settings: BrainFeatureSettings) -> MeasuredBrain:
    """Read a head CT, lay the atlas over it and measure it.

    Raises
    ------
    InputRejected
        If the files are no regular CT series, there is contrast medium, or no whole brain is seen.
    PipelineError
        If the library of the features is absent.
    """
    series = read_image_series(paths)
    _check(series)
    image = in_blocks(canonical_image(series.volume, series.filled_zyx(AIR_HU)), settings.pixel_mm)
    try:
        atlas = atlas_on_patient(image)
        features = brain_features(image.hu_zyx, image.spacing_zyx_mm, atlas, settings)
    except (NoWholeBrain, RegionTooSmall, FeatureError) as error:
        raise InputRejected(str(error)) from error
    except RadiomicsUnavailable as error:
        raise PipelineError(str(error)) from error
    measures = brain_measures(image.hu_zyx, image.spacing_zyx_mm, atlas)
    return MeasuredBrain(series, features, measures, atlas.brain.volume_ml)


def patient_features(patient: CollectedPatient, settings: BrainFeatureSettings) -> PatientFeatures:
    """The features of a collected patient.

    Raises
    ------
    InputRejected
        If the patient has not one head CT, or it can not be measured.
    """
    series = patient.series(ROLE)
    if len(series) != 1:
        raise InputRejected(f"The patient has {len(series)} head CT")
    found = measured_brain(series[0], settings)
    return PatientFeatures(patient.patient, found.features.sets(), dict(found.measures))


def canonical_image(volume: Volume, hu_zyx: NDArray[np.float32]) -> PlacedImage:
    """HU of the grid of a volume with the axes to the head, to posterior and to the left, at their place."""
    order, affine = axis_order(volume), volume.affine.copy()
    for patient_axis, axis in enumerate(order.axes):
        step = volume.affine[:3, 2 - axis]
        is_reversed = patient_axis in order.reversed_axes
        affine[:3, 2 - patient_axis] = -step if is_reversed else step
        if is_reversed:
            affine[:3, 3] += step * (hu_zyx.shape[axis] - 1)
    return PlacedImage(np.ascontiguousarray(order.canonical(hu_zyx)), affine)


def _check(series: ImageSeries) -> None:
    if any(text(header, "ContrastBolusAgent") for header in series.headers):
        raise InputRejected("The head CT was taken with contrast medium, which changes the HU that are measured")
    head_mm = axis_order(series.volume).spacing_zyx_mm(series.volume)[0]
    if len(series.headers) < _FEWEST_SLICES or head_mm > _THICKEST_MM:
        raise InputRejected("The head CT has too few or too thick slices for the regions of the brain")
