"""The report of a course whose tumour is known, by a model of one feature that can be computed by hand."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage

from models.limits import Limits
from models.outcomes import SIMULATED, TrainingCohort
from models.prognosis import FeatureDomain, GroupCurve, PrognosisModel
from models.stored_numbers import save_numbers
from models.survival.cox_model import CoxModel
from models.weights import WeightsError
from pipelines.base import InputRejected, Inputs, InputSeries, Outcome
from pipelines.course_features import CourseSources
from pipelines.course_measures import WHAT
from pipelines.delta_radiomics import DeltaRadiomics
from pipelines.dicom.writing import file_bytes
from pipelines.stability import Verdict, verdict_of
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.courses_made import EXTRACTION, FIRST_DAY, course, image

NAME = "stat_mean@original"
COX = CoxModel(
    feature_names=(NAME,),
    mean=(-10.0,),
    sd=(5.0,),
    coefficients=(0.5,),
    baseline_times=(100.0, 200.0),
    baseline_cumulative_hazard=(0.1, 0.2),
    time_unit="d",
    high_risk_above=0.0,
    penalty=0.1,
    l1_ratio=0.5,
    patients=50,
    events=20,
)
CURVES = tuple(
    GroupCurve(group=group, patients=25, events=10, times=(100.0,), survival=(0.6,), low=(0.4,), high=(0.8,),
               last_watched=300.0)
    for group in ("low", "high")
)  # fmt: skip
LIMITS = dict.fromkeys(WHAT, Limits(flag_above=5.0, hold_above=10.0))


def pipeline(folder: Path, changes: Mapping[str, Any] | None = None, **settings: Any) -> DeltaRadiomics:
    """With a model whose risk is 0.5 for every 5 HU above a change of -10 HU."""
    facts = {
        "method": "prognosis_delta_radiomics",
        "model": COX,
        "resampled": (),
        "cohort": TrainingCohort(name="by hand", endpoint="death", is_simulated=True, patients=50, events=20),
        "feature_set": "early_middle_difference",
        "extraction": {**EXTRACTION.model_dump(mode="json"), "enhancement_sha256": None},
        "horizon": 200.0,
        "curves": CURVES,
        "high_above": 0.0,
        "domain": FeatureDomain(feature_names=(NAME,), mean=(-10.0,), precision=((0.04,),)),
        "limits": LIMITS,
    }
    path = folder / "model.json"
    save_numbers(path, PrognosisModel(**{**facts, **(changes or {})}), "prognosis_delta_radiomics", {}, "By hand.")
    return DeltaRadiomics(**{"name": "delta", "weights": str(path), "extraction": EXTRACTION, **settings})


def inputs(sources: CourseSources) -> Inputs:
    """The last image starts the job."""
    linked = {
        "planning_ct": sources.planning_ct,
        "structure_set": [[path] for path in sources.structure_sets],
        "cbct": sources.cbct[:-1],
    }
    return Inputs(
        InputSeries("cbct", "", tuple(sources.cbct[-1])),
        {role: tuple(InputSeries(role, "", tuple(one)) for one in many) for role, many in linked.items()},
    )


def run(folder: Path, *tumour_hu: float) -> Outcome:
    return pipeline(folder).run(inputs(course(folder, *tumour_hu)))


def report(outcome: Outcome) -> Dataset:
    return next(one for series in outcome.series for one in series if one.SOPClassUID == Comprehensive3DSRStorage)


def said(dataset: Dataset) -> str:
    """All texts and numbers of a structured report."""
    words = []
    for element in dataset.iterall():
        if element.keyword in ("TextValue", "NumericValue", "CodeMeaning"):
            words.append(str(element.value))
    return "\n".join(words)


def test_the_report_says_what_the_model_makes_of_a_tumour_made_half_as_dense(tmp_path: Path) -> None:
    outcome = run(tmp_path, 40.0, 30.0, 20.0)
    text = said(report(outcome))
    risk = 0.5 * (-20.0 + 10.0) / 5.0
    probability = 100.0 * (1.0 - math.exp(-0.2 * math.exp(risk)))
    assert f"Risk group: low. Probability of death within 200 days: {probability:.0f} %" in text
    assert SIMULATED in text
    assert verdict_of(outcome.findings) is Verdict.RELEASE
    distance = next(one.value for one in outcome.findings if one.name == "feature_distance")
    assert distance == pytest.approx(2.0)


def test_a_report_and_a_page_are_made_valid_and_the_same_each_time(tmp_path: Path) -> None:
    one, again = (run(tmp_path, 40.0, 30.0, 20.0) for _ in range(2))
    made = [dataset for series in one.series for dataset in series]
    assert {dataset.SOPClassUID for dataset in made} == {Comprehensive3DSRStorage, EncapsulatedPDFStorage}
    for dataset, repeated in zip(made, (dataset for series in again.series for dataset in series), strict=True):
        assert file_bytes(dataset) == file_bytes(repeated)
        (tmp_path / "made.dcm").write_bytes(file_bytes(dataset))
        assert dciodvfy_errors(tmp_path / "made.dcm") == []


def test_early_in_the_course_the_report_has_features_and_says_why_it_has_no_risk(tmp_path: Path) -> None:
    outcome = run(tmp_path, 40.0, 30.0)
    text = said(report(outcome))
    assert "No risk can be told yet: no image stands for the middle of the course" in text
    assert "Probability" not in text and "fraction 2, 2025-01-27" in text
    assert {one.name for one in outcome.findings} == {
        "registration_doubt", "gtv_outside", "feature_spread", "fractions_missing",
    }  # fmt: skip


def test_every_image_and_the_structure_set_are_referred_to(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0, 30.0, 20.0)
    named = {
        str(element.value)
        for element in report(pipeline(tmp_path).run(inputs(sources))).iterall()
        if element.keyword == "ReferencedSOPInstanceUID"
    }
    files = [path for paths in (*sources.planning_ct, sources.structure_sets, *sources.cbct) for path in paths]
    assert {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files} <= named


def test_what_was_never_measured_in_training_holds_the_report(tmp_path: Path) -> None:
    outcome = pipeline(tmp_path, {"limits": {}}).run(inputs(course(tmp_path, 40.0)))
    assert verdict_of(outcome.findings) is Verdict.HOLD


def test_a_model_of_other_features_is_refused(tmp_path: Path) -> None:
    other = EXTRACTION.model_copy(update={"gtv": ("GTVn",)})
    with pytest.raises(WeightsError, match="computed otherwise"):
        pipeline(tmp_path, extraction=other).weights_sha256()


def test_settings_of_training_change_no_result(tmp_path: Path) -> None:
    digest = pipeline(tmp_path).settings_sha256()
    assert pipeline(tmp_path, training={"feature_set": "early_late_relative"}).settings_sha256() == digest
    assert pipeline(tmp_path, structure_names={"tumour": "GTVp"}).settings_sha256() != digest


def test_enhancement_and_its_weights_belong_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights belong to"):
        pipeline(tmp_path, enhancement="cbct_to_ct")


def test_fractions_of_two_patients_make_no_report(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0)
    other = image(tmp_path, "other", FIRST_DAY + timedelta(days=7), 40.0, patient_id="MADE-2")
    with pytest.raises(InputRejected, match="not of one patient"):
        pipeline(tmp_path).run(inputs(replace(sources, cbct=[*sources.cbct, other])))
