"""A made-up implant as files, changed as a test wants it, and a model that needs no training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread

from models.dosiomic_features import DosiomicSettings
from models.ibsi_names import Family
from models.limits import Limits
from models.outcomes import TrainingCohort
from models.prognosis import FeatureDomain, GroupCurve, PrognosisModel
from models.stored_numbers import save_numbers
from models.survival.cox_model import CoxModel
from pipelines.base import Inputs, InputSeries
from pipelines.dose_prognosis_features import BOTH, DoseExtraction
from pipelines.dosiomics import Dosiomics

QUICK = DoseExtraction(
    dosiomics=DosiomicSettings(
        families=(Family.STATISTICS,), filtered_families=(Family.STATISTICS,), log_sigmas_mm=(4.0,)
    )
)
"""Fewer families of features: the test is of what is done with them."""
USED = ("stat_max@log_4mm", "target_d90")
_NAMED = {"feature_names": USED, "mean": (0.05, 170.0)}
_COX = CoxModel(
    **_NAMED, sd=(0.02, 15.0), coefficients=(0.4, -0.5), baseline_times=(500.0, 1500.0),
    baseline_cumulative_hazard=(0.05, 0.2), time_unit="d", high_risk_above=0.0, penalty=0.1, l1_ratio=0.5,
    patients=140, events=28,
)  # fmt: skip
_CURVE = GroupCurve(
    group="low", patients=70, events=6, times=(500.0, 1400.0), survival=(0.98, 0.92), low=(0.93, 0.85),
    high=(1.0, 0.98), last_watched=3000.0,
)  # fmt: skip
LIMITS = {
    "dose_cut_percent": Limits(flag_above=45.0, hold_above=60.0),
    "dose_spacing_mm": Limits(flag_above=2.5, hold_above=2.5),
    "dose_margin_missing_mm": Limits(flag_above=0.0, hold_above=0.0),
    "prescription_departure_percent": Limits(flag_above=0.0, hold_above=0.0),
    "feature_distance": Limits(flag_above=20.0, hold_above=40.0),
}


def prognosis_model(extraction: DoseExtraction = QUICK, limits: Mapping[str, Limits] = LIMITS) -> PrognosisModel:
    """A Cox model of a measure and a feature."""
    cohort = TrainingCohort(
        name="implants, a test", endpoint="biochemical failure", is_simulated=True, patients=140, events=28
    )
    return PrognosisModel(
        method="prognosis_dosiomics", model=_COX, resampled=(_COX,), cohort=cohort, feature_set=BOTH,
        extraction=extraction.model_dump(mode="json"), horizon=1400.0, high_above=0.0, curves=(_CURVE,),
        held_out={"c_index": 0.7, "c_index_low": 0.6, "c_index_high": 0.8}, limits=limits,
        domain=FeatureDomain(**_NAMED, precision=((2500.0, 0.0), (0.0, 0.0044))),
    )  # fmt: skip


def pipeline(folder: Path, model: PrognosisModel | None = None, **settings: Any) -> Dosiomics:
    """The pipeline with a model that was saved in the folder."""
    path = folder / "model.json"
    save_numbers(path, model or prognosis_model(), "prognosis_dosiomics", {}, "A test.\n")
    return Dosiomics(name="prognosis_dosiomics", weights=str(path), **{"extraction": QUICK, **settings})


def inputs(patient: Path, *roles: str, dose: Path | None = None) -> Inputs:
    """The series of a patient's folder; by default structure set, plan and CT are linked to the dose."""
    linked = {role: (_series(role, patient / role),) for role in roles or ("structure_set", "plan", "planning_ct")}
    return Inputs(_series("dose", dose or patient / "dose"), linked)


def _series(role: str, folder: Path) -> InputSeries:
    paths = tuple(sorted(folder.glob("*.dcm")))
    return InputSeries(role, str(dcmread(paths[0], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID), paths)


def only(folder: Path) -> Dataset:
    """The one instance of a folder."""
    (path,) = folder.glob("*.dcm")
    return dcmread(path)


def put(folder: Path, *datasets: Dataset) -> Path:
    """Instances in a folder of their own."""
    folder.mkdir(parents=True)
    for number, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def move_contours(structures: Dataset, roi: int, by_mm: float = 0.0, shrunk_to_mm: float | None = None) -> None:
    """Move the contours of an ROI to the left, and shrink them to so many mm around the middle of the ROI."""
    contours = structures.ROIContourSequence[roi].ContourSequence
    points = [np.array(one.ContourData, np.float64).reshape(-1, 3) for one in contours]
    if shrunk_to_mm is not None:
        middle = len(points) // 2
        structures.ROIContourSequence[roi].ContourSequence = contours = contours[middle : middle + 2]
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * shrunk_to_mm / 2.0
        points = [np.array([*one[:, :2].mean(axis=0), one[0, 2]]) + corners for one in points[middle : middle + 2]]
    for contour, one in zip(contours, points, strict=True):
        contour.NumberOfContourPoints = len(one)
        contour.ContourData = [f"{value:.3f}" for value in (one + np.array([by_mm, 0.0, 0.0])).ravel()]
