"""Structured reports: written, validated, read by highdicom, rendered by dcmtk and stored by Orthanc."""

import datetime
import logging
import math
import re
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from highdicom.sr import MeasurementReport, srread
from pydicom import Dataset, dcmread

from models.outcomes import SIMULATED
from pipelines.base import Labelling, Predecessor
from pipelines.dicom.encapsulated_pdf import prognosis_documents
from pipelines.dicom.report import prognosis_report, quality_report
from pipelines.dicom.report_content import Measured, PrognosisContent
from pipelines.dicom.writing import file_bytes
from pipelines.stability import Finding, Verdict
from tests.dicom_files import SECRET_ID
from tests.orthanc import orthanc
from tests.peers import require_program
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import changed, unchecked
from tests.pipelines.reports_made import (
    DAY,
    LIMITS,
    ORIGIN,
    PLANNING,
    SETTINGS,
    WEIGHTS,
    cbct,
    classifier,
    content,
    evidence,
    planning_ct,
    regions,
    rt_dose,
    segments,
    structure_set,
    survival_model,
)

EARLIER = Predecessor("1.2.840.10008.5.1.4.1.1.88.34", "1.2.9", "1.2.8", "1.2.7")
BARE = dict.fromkeys(
    "ContentDate ContentTime StudyDate StudyTime PatientBirthDate PatientSex PatientName Manufacturer SeriesNumber "
    "StudyID AccessionNumber ReferringPhysicianName SliceThickness PatientPosition".split()
)
FINDINGS = (
    Finding(
        name="edge_shift_mm", value=0.25, unit="mm", verdict=Verdict.RELEASE, text="Edges: 0.25, within the usual 1"
    ),
    Finding(
        name="odd_voxels", value=7.0, unit="1", verdict=Verdict.HOLD, text="Odd voxels: no limit was ever measured"
    ),
)


def written(dataset: Dataset, folder: Path, name: str = "report.dcm") -> Path:
    path = folder / name
    path.write_bytes(file_bytes(dataset))
    return path


def report(made: PrognosisContent | None = None, used: list[Dataset] | None = None) -> Dataset:
    return prognosis_report(made or content(), evidence() if used is None else used, ORIGIN)


def read_by_highdicom(path: Path) -> MeasurementReport:
    content = srread(path).content
    assert isinstance(content, MeasurementReport)
    return content


def texts(dataset: Dataset, meaning: str) -> list[str]:
    """The values below items of a name, anywhere in the tree."""
    found = [item for item in walk(dataset) if item.ConceptNameCodeSequence[0].CodeMeaning == meaning]
    return [item.TextValue for item in found if "TextValue" in item]


def walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


def rendered(path: Path) -> str:
    """What a person reads in the page that dcmtk makes of a report."""
    require_program("dsr2html")
    run = subprocess.run(["dsr2html", "+U8", str(path)], capture_output=True, check=True, timeout=60)
    without_tags = re.sub(r"<[^>]*>", " ", run.stdout.decode().partition("<body>")[2])
    return " ".join(without_tags.split())


def test_another_reader_finds_every_value_with_its_unit_and_code(tmp_path: Path) -> None:
    read = read_by_highdicom(written(report(), tmp_path))
    (planning,) = read.get_volumetric_roi_measurement_groups()
    (day,) = [group for group in read.get_image_measurement_groups() if group.tracking_identifier == "GTV"]
    for group, wanted in ((planning, PLANNING), (day, DAY)):
        numbers = {(one.name.value, one.name.scheme_designator): one for one in group.get_measurements()}
        for measured in wanted:
            if math.isfinite(measured.value):
                found = numbers.pop((measured.ibsi_code or measured.name, "IBSI" if measured.ibsi_code else "99RTNODE"))
                assert found.value == measured.value
                assert (found.unit.value, found.unit.scheme_designator) == (measured.unit, "UCUM")
        assert not numbers
    assert planning.tracking_uid == day.tracking_uid


def test_an_ibsi_code_goes_by_the_name_of_the_manual_and_the_settings_stand_beside_the_value() -> None:
    (item,) = [one for one in walk(report()) if one.ConceptNameCodeSequence[0].get("CodeValue") == "ACUI"]
    name = item.ConceptNameCodeSequence[0]
    assert (name.CodingSchemeDesignator, name.CodeMeaning) == ("IBSI", "Contrast")
    assert item.MeasuredValueSequence[0].NumericValue == 0.3
    said = [one.TextValue for one in item.ContentSequence]
    assert said == ["cm_contrast@log_2mm", "3D, merged", "filter log 2 mm", f"settings SHA-256 {SETTINGS}"]


def test_a_value_that_is_no_number_is_said_in_words() -> None:
    assert texts(report(), "Correlation") == ["not a number"]


def test_the_prognosis_the_cohort_and_the_model_are_all_there(tmp_path: Path) -> None:
    read = read_by_highdicom(written(report(), tmp_path))
    groups = {group.tracking_identifier: group for group in read.get_image_measurement_groups()}
    values = {one.name.meaning: one for one in groups["Prognosis"].get_measurements()}
    risk = values["Probability of the event"]
    assert (risk.value, risk.unit.value) == (61.3, "%")
    ends = {one.name.meaning: one.value for one in risk[0].ContentSequence}
    assert ends == {
        "Event": "death within 730 days",
        "Lower end of the 95 % interval": 44.0,
        "Upper end of the 95 % interval": 78.10000000000001,
    }
    curve = [one for one in groups["Prognosis"].get_measurements() if one.name.value == "linear predictor"]
    assert [(one[0].ContentSequence[0].value, one.value) for one in curve] == [
        (point.label, point.value) for point in content().curve
    ]
    (answer,) = groups["Prognosis"].get_qualitative_evaluations()
    assert answer[0].value.meaning == "High risk"
    cohort = {one.name.meaning: one.value for one in groups["Training cohort"].get_measurements()}
    assert cohort == {
        "Patients": 118,
        "Patients with the event": 40,
        "p of a permutation test": 0.004,
        "C-index on patients not trained on": 0.71,
    }
    assert f"weights SHA-256 {WEIGHTS}" in texts(report(), "Algorithm Parameters")
    assert "delta_radiomics_simulated" in texts(report(), "Algorithm Name")


@pytest.mark.req("NODE-05")
def test_a_simulated_cohort_is_the_first_thing_that_is_read(tmp_path: Path) -> None:
    simulated, real = report(), report(content(survival_model(is_simulated=False)))
    assert simulated.ContentSequence[0].TextValue == SIMULATED
    assert simulated.SeriesDescription == f"Report {SIMULATED} NOT FOR TREATMENT"
    assert len(simulated.SeriesDescription) <= 64
    assert real.ContentSequence[0].TextValue == "RESEARCH, NOT FOR TREATMENT"
    assert real.SeriesDescription == "Prognosis from delta-radiomics NOT FOR TREATMENT"
    assert SIMULATED not in rendered(written(real, tmp_path))


@pytest.mark.req("NODE-05")
def test_a_report_says_what_it_is_and_is_not() -> None:
    made = report()
    assert (made.CompletionFlag, made.PreliminaryFlag, made.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    assert (made.Manufacturer, made.ContentQualification) == ("rtnode", "RESEARCH")
    assert WEIGHTS in made.ContributingEquipmentSequence[-1].ContributionDescription
    approved = prognosis_report(content(), evidence(), replace(ORIGIN, labelling=Labelling("PRODUCT", False)))
    assert texts(approved, "Warning") == [SIMULATED, "PRODUCT"]


def test_dcmtk_shows_what_a_physicist_has_to_read(tmp_path: Path) -> None:
    page = rendered(written(report(), tmp_path))
    order = [
        SIMULATED,
        "RESEARCH, NOT FOR TREATMENT",
        "Risk group: high. Probability of death within 730 days: 61 % (95 % interval 44 to 78 %).",
        "Image Library",
        "118 {patients}",
        "planning, 2020-01-02",
        "Contrast: 0.3 1",
        "61.5 Gy",
        "Verdict: flag",
        "Fraction 4 has no images.",
    ]
    places = [page.find(one) for one in order]
    assert -1 not in places and places == sorted(places), dict(zip(order, places, strict=True))


@pytest.mark.parametrize("kind", ["whole", "bare", "classifier", "segment", "dose", "real", "early", "quality"])
def test_a_report_is_valid(tmp_path: Path, kind: str) -> None:
    bare = [changed(one, **BARE) for one in evidence()]
    dose = (replace(regions()[0], images=(rt_dose(),)),)
    made = {
        "whole": lambda: prognosis_report(content(), evidence(), ORIGIN, [EARLIER]),
        "bare": lambda: report(content(regions=()), bare),
        "classifier": lambda: report(content(classifier(), curve=(), findings=(), remarks=())),
        "segment": lambda: report(content(regions=regions(segments()))),
        "dose": lambda: report(content(regions=dose), [rt_dose(), structure_set()]),
        "real": lambda: report(content(survival_model(is_simulated=False))),
        "early": lambda: report(content(prediction=None)),
        "quality": lambda: quality_report(FINDINGS, evidence(), ORIGIN),
    }[kind]()
    path = written(made, tmp_path)
    assert dciodvfy_errors(path) == []
    assert rendered(path)
    srread(path)


def test_everything_that_was_used_is_evidence_of_its_own_study() -> None:
    made = report()
    found = {
        (study.StudyInstanceUID, series.SeriesInstanceUID, one.ReferencedSOPInstanceUID)
        for study in made.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert found == {(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID) for one in evidence()}
    assert len(made.CurrentRequestedProcedureEvidenceSequence) == 2
    assert "PertinentOtherEvidenceSequence" not in made
    images = {one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in walk(made) if one.ValueType == "IMAGE"}
    assert images == {one.SOPInstanceUID for one in (*planning_ct(), *cbct())}


def test_a_report_lies_in_the_study_of_the_newest_image_and_has_its_date() -> None:
    made, newest = report(), cbct()[0]
    assert made.StudyInstanceUID == newest.StudyInstanceUID
    assert (made.ContentDate, made.ContentTime) == ("20200109", "101112")
    assert made.SeriesNumber == 906
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        assert made[keyword].value == newest[keyword].value


def test_without_an_image_the_patient_is_that_of_the_dose() -> None:
    """A structure set that was read only to be named states none, whatever its date."""
    named = changed(structure_set(), PatientID=None, PatientName=None, PatientBirthDate=None, ContentDate="20300101")
    made = report(content(regions=()), [rt_dose(), named])
    assert (made.PatientName, made.PatientID, made.ContentDate) == ("Ramp^Test", "RAMP-1", "20200102")


def test_a_group_names_the_region_by_its_number() -> None:
    (structure,) = [one for one in walk(report()) if one.ValueType == "COMPOSITE"]
    assert structure.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == structure_set().SOPInstanceUID
    assert structure.ContentSequence[0].TextValue == "4"
    made = report(content(regions=regions(segments())), [*evidence(), segments()])
    numbers = [
        one.ReferencedSOPSequence[0].ReferencedSegmentNumber
        for one in walk(made)
        if one.ValueType == "IMAGE" and "ReferencedSegmentNumber" in one.ReferencedSOPSequence[0]
    ]
    assert numbers == [2]


def test_a_region_on_some_of_the_images_names_them_and_one_on_all_does_not() -> None:
    for used, count in ((evidence(), 5), (cbct(), 0)):
        made = report(content(regions=regions()[1:]), used)
        sources = [one for one in walk(made) if one.ConceptNameCodeSequence[0].CodeMeaning == "Source of Measurement"]
        assert len(sources) == count


def test_an_earlier_report_is_named_and_makes_this_one_another() -> None:
    alone, later = (prognosis_report(content(), evidence(), ORIGIN, earlier) for earlier in ((), (EARLIER,)))
    (study,) = later.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (one,) = series.ReferencedSOPSequence
    named = (one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID, series.SeriesInstanceUID, study.StudyInstanceUID)
    assert named == (EARLIER.sop_class_uid, "1.2.9", "1.2.8", "1.2.7")
    assert "PredecessorDocumentsSequence" not in alone
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert later[keyword].value != alone[keyword].value


def test_the_same_work_makes_the_same_bytes_in_whatever_order_the_evidence_is() -> None:
    first = file_bytes(report())
    assert file_bytes(report(used=[*evidence()[::-1], *evidence()])) == first
    other = prognosis_report(content(), evidence(), replace(ORIGIN, settings_sha256="c" * 64))
    assert other.SOPInstanceUID != report().SOPInstanceUID


def test_no_clock_is_read() -> None:
    today = datetime.date.today()
    days = {f"{today + datetime.timedelta(days=number):%Y%m%d}" for number in (0, 1)}
    dated = [one for one in report().iterall() if one.VR in ("DA", "DT", "TM") and one.value]
    assert dated and not [one for one in dated if str(one.value)[:8] in days]
    undated = report(content(regions=()), [changed(one, **BARE) for one in evidence()])
    assert (undated.ContentDate, undated.ContentTime) == ("19000101", "000000")


@pytest.mark.parametrize("name", ["Müller^Jürgen", "Иванов^Иван", "Wang^XiaoDong=王^小東", "やまだ^たろう", "Nobody"])
def test_names_of_every_script_are_kept(tmp_path: Path, name: str) -> None:
    path = written(report(content(regions=()), [unchecked(one, PatientName=name) for one in evidence()]), tmp_path)
    assert dcmread(path).PatientName == name
    assert dciodvfy_errors(path) == []


@pytest.mark.req("NODE-10")
def test_no_warning_and_no_log_line_names_the_patient(caplog: pytest.LogCaptureFixture) -> None:
    """The library quotes a name without a caret in a warning."""
    used = [changed(one, PatientName="SECRETNAME", PatientID=SECRET_ID) for one in evidence()]
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = report(content(regions=()), used)
    heard = " ".join([caplog.text, *(str(one.message) for one in said)])
    assert made.PatientName == "SECRETNAME" and "SECRET" not in heard


def test_a_quality_report_says_every_value_limit_and_verdict(tmp_path: Path) -> None:
    made = quality_report(FINDINGS, evidence(), ORIGIN, limits={"edge_shift_mm": LIMITS["feature_distance"]})
    read = read_by_highdicom(written(made, tmp_path))
    (group,) = read.get_image_measurement_groups()
    found = {one.name.value: one for one in group.get_measurements()}
    assert {name: (one.value, one.unit.value) for name, one in found.items()} == {
        finding.name: (finding.value, finding.unit) for finding in FINDINGS
    }
    beside = {one.name.meaning: one.value for one in found["edge_shift_mm"][0].ContentSequence}
    assert beside == {"Verdict": "release", "Comment": FINDINGS[0].text, "Flagged above": 2.5, "Held above": 4.0}
    assert texts(made, "Summary") == ["Verdict: hold"]
    with pytest.raises(ValueError, match="without a finding"):
        quality_report((), evidence(), ORIGIN)


def test_before_there_is_a_prognosis_the_report_says_that_there_is_none() -> None:
    early = report(content(prediction=None))
    assert texts(early, "Summary") == ["No prognosis yet: nothing can be said of death within 730 days."]
    assert texts(early, "Risk group") == ["none yet"]
    assert not [one for one in walk(early) if "%" in str(one.get("MeasuredValueSequence"))]


def test_a_report_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="without evidence"):
        report(content(regions=()), [])


def test_a_feature_whose_name_is_long_keeps_it_whole(tmp_path: Path) -> None:
    name = "ngt_contrast@" + "separable_wavelet_" * 5
    long = replace(regions()[0], measurements=(Measured(name, 1.0, "1"),))
    path = written(report(content(regions=(long,))), tmp_path)
    (group,) = read_by_highdicom(path).get_volumetric_roi_measurement_groups()
    assert group.get_measurements()[0].name.value == name
    assert dciodvfy_errors(path) == []


def test_orthanc_stores_report_and_page(tmp_path: Path) -> None:
    documents = prognosis_documents(content(), evidence(), ORIGIN, (EARLIER,))
    with orthanc({}) as archive:
        for number, one in enumerate(documents):
            archive.upload(written(one, tmp_path, f"{number}.dcm"))
        kept = {one.SOPInstanceUID: one for one in archive.datasets()}
    for one in documents:
        assert kept[one.SOPInstanceUID].to_json() == dcmread(tmp_path / f"{documents.index(one)}.dcm").to_json()
