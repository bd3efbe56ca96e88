"""Features of one patient's dose for a prognosis: standard measures, features of the dose, cold spots; and their worth.

The same code serves a patient who is to be judged and those whom a model is trained on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.dose_metrics import DoseVolumeHistogram, dose_measures, eqd2_gy
from models.dose_samples import DoseRefused, sampled
from models.dosiomic_features import DoseFeature, DosiomicFeatures, DosiomicSettings, by_name, dosiomic_features
from models.feature_library import RadiomicsUnavailable
from models.feature_region import FeatureError
from models.topology import TopologyUnavailable
from pipelines.base import InputRejected, PipelineError
from pipelines.dicom.dose_grids import dose_grid
from pipelines.dicom.volume import Volume, axis_order
from pipelines.planned_dose import DosePatient

TARGET_MEASURES = ("D90%", "V100%", "V150%", "V200%", "Mean")
ORGAN_MEASURES: Mapping[str, tuple[str, ...]] = {"Urethra": ("D10%", "D30%"), "Rectum": ("D2cc",)}
METRICS, DOSIOMICS, BOTH, TOPOLOGY = "dose_metrics", "dosiomics", "dose_metrics_and_dosiomics", "topology"
"""Names of the sets of features."""


class DoseExtraction(BaseModel):
    """Everything that the features of a patient depend on beside his dose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str = "Prostate"
    """TG-263 name."""
    prescription_gy: float | None = Field(145.0, gt=0.0)
    """Where no plan states it. What a plan states goes before it, and its departure from this is judged."""
    alpha_beta_gy: float = Field(3.0, gt=0.0)
    """Of the target, for EQD2; of prostate cancer lower values are reported too."""
    dosiomics: DosiomicSettings = DosiomicSettings()


@dataclass(frozen=True)
class MeasuredDose:
    """What was computed of one patient."""

    metrics: tuple[DoseFeature, ...]
    features: DosiomicFeatures
    measures: Mapping[str, float]
    """What speaks for and against the features, by name."""
    remarks: tuple[str, ...]

    def sets(self) -> dict[str, Mapping[str, float]]:
        """Features by name, by the name of the set."""
        metrics, dosiomics = by_name(self.metrics), by_name(self.features.dosiomics)
        return {
            METRICS: metrics,
            DOSIOMICS: dosiomics,
            BOTH: {**metrics, **dosiomics},
            TOPOLOGY: by_name(self.features.topology),
        }


def measured_dose(
    patient: DosePatient, prescription_gy: float, fractions: int | None, extraction: DoseExtraction
) -> MeasuredDose:
    """Everything that is computed of a patient's dose.

    Raises
    ------
    InputRejected
        If the target is too small, or its dose no number.
    PipelineError
        If a library for features is not installed.
    """
    try:
        metrics = list(_metrics(patient, prescription_gy))
        effect, why = _effect(patient, fractions, extraction.alpha_beta_gy)
        found = _features(patient, prescription_gy, extraction.dosiomics)
    except (DoseRefused, FeatureError) as error:
        raise InputRejected(f"{patient.target_name}: {error}") from error
    except (RadiomicsUnavailable, TopologyUnavailable) as error:
        raise PipelineError(str(error)) from error
    cut = extraction.dosiomics.cut
    said = f"The dose was cut at {cut:g} x the prescription: {found.cut.cut_percent:.1f} % of the target lay above."
    return MeasuredDose(
        metrics=tuple([*metrics, *effect]),
        features=found,
        measures=_measures(patient, found, extraction.dosiomics),
        remarks=(said, *patient.absent, *why),
    )


def _metrics(patient: DosePatient, prescription_gy: float) -> Iterator[DoseFeature]:
    histogram = _histogram(patient, patient.dose.volume.array_zyx)
    yield DoseFeature("target_volume", histogram.volume_ml, "mL")
    for one in dose_measures(histogram, TARGET_MEASURES, prescription_gy):
        yield DoseFeature(_identifier("target", one.name), one.value, one.unit, detail=one.name)
    for organ, names in ORGAN_MEASURES.items():
        if organ not in patient.organs:
            continue
        samples = sampled(dose_grid(patient.dose), patient.organs[organ])
        of_organ = DoseVolumeHistogram(samples)
        for name in names:
            if name == "D2cc" and of_organ.volume_ml < 2.0:
                continue
            (one,) = dose_measures(of_organ, [name], prescription_gy)
            yield DoseFeature(_identifier(organ, one.name), one.value, one.unit, detail=f"{organ} {one.name}")


def _effect(
    patient: DosePatient, fractions: int | None, alpha_beta_gy: float
) -> tuple[list[DoseFeature], tuple[str, ...]]:
    """EQD2 of the target where fractions are known."""
    if fractions is None:
        return [], (
            "BED and EQD2 are not computed: no fractions are stated, and an implant that stays is not given in any.",
        )
    histogram = _histogram(patient, eqd2_gy(patient.dose.volume.array_zyx, fractions, alpha_beta_gy))
    detail = f"EQD2, {fractions} fractions, alpha/beta {alpha_beta_gy:g} Gy"
    found = dose_measures(histogram, ("D90%", "Mean"))
    return [DoseFeature(_identifier("target_eqd2", one.name), one.value, one.unit, detail=detail) for one in found], ()


def _histogram(patient: DosePatient, gy_zyx: NDArray[np.float64]) -> DoseVolumeHistogram:
    grid = replace(dose_grid(patient.dose), gy_zyx=gy_zyx)
    return DoseVolumeHistogram(sampled(grid, patient.target))


def _identifier(region: str, name: str) -> str:
    """`target_d90` for `D90%`: a plain word."""
    return f"{region}_{name}".lower().replace("%", "")


def _features(patient: DosePatient, prescription_gy: float, settings: DosiomicSettings) -> DosiomicFeatures:
    volume = patient.dose.volume
    mask = target_mask(patient)
    order = axis_order(volume)
    return dosiomic_features(
        order.canonical(volume.array_zyx),
        order.canonical(mask),
        order.spacing_zyx_mm(volume),
        prescription_gy,
        settings,
    )


def target_mask(patient: DosePatient) -> NDArray[np.bool_]:
    """Voxels of the dose grid of which at least half is target."""
    volume, region = patient.dose.volume, patient.target
    first_xyz = volume.indices_xyz(region.affine[None, :3, 3])[0]
    start = np.rint(first_xyz[::-1]).astype(np.int64)
    box = tuple(slice(low, low + size) for low, size in zip(start.tolist(), region.inside_zyx.shape, strict=True))
    mask = np.zeros(volume.array_zyx.shape, np.bool_)
    mask[box] = region.inside_zyx >= 0.5
    return mask


def _measures(patient: DosePatient, found: DosiomicFeatures, settings: DosiomicSettings) -> dict[str, float]:
    volume = patient.dose.volume
    return {
        "dose_cut_percent": found.cut.cut_percent,
        "dose_spacing_mm": max(volume.spacing_zyx_mm),
        "dose_margin_missing_mm": max(0.0, settings.margin_mm - _margin_mm(patient, volume)),
    }


def _margin_mm(patient: DosePatient, volume: Volume) -> float:
    """From the target to the nearest face of the dose grid."""
    first_xyz = volume.indices_xyz(patient.target.affine[None, :3, 3])[0]
    first = np.rint(first_xyz[::-1])
    before, behind = first, np.array(volume.array_zyx.shape) - first - patient.target.inside_zyx.shape
    return float((np.minimum(before, behind) * volume.spacing_zyx_mm).min())
