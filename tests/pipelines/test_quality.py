"""The quality report and the page that are made beside a result, for every pipeline in one place."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage

from models.limits import Limits
from pipelines.base import Inputs, Outcome, Progress, no_progress
from pipelines.copy_series import CopySeries
from pipelines.execution import JobOrder, JobReport, OrderedSeries, execute
from pipelines.finding_bars import bar_svg
from pipelines.stability import Finding, Verdict, judged
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import changed, ct_series, write

LIMITS = Limits(flag_above=1.0, hold_above=2.0)


class Judged(CopySeries):
    """A copy with a finding of a known value."""

    reports_quality: ClassVar[bool] = True
    shift_mm: float = 1.5

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        outcome = super().run(inputs, progress)
        shift = judged("edge_shift_mm", self.shift_mm, "mm", LIMITS, "Shift of <edges> in mm")
        return Outcome(outcome.series, (*outcome.findings, shift))


def order(folder: Path, output: str = "out", wanted: bool = True, **settings: float) -> JobOrder:
    (folder / "in").mkdir(exist_ok=True)
    secret = {"PatientName": "SECRET^NAME", "PatientID": "SECRETID", "ManufacturerModelName": "Hi-Art"}
    paths = write([changed(one, **secret) for one in ct_series()], folder / "in")
    return JobOrder(
        job_id=1,
        attempt=1,
        pipeline_name="judged",
        pipeline_class=f"{__name__}:Judged",
        settings=settings,
        trigger=OrderedSeries(role="cbct", series_instance_uid="1.2", paths=tuple(paths)),
        quality_report=wanted,
        output_dir=folder / output,
    )


def quality_of(folder: Path, report: JobReport) -> tuple[Path, Dataset]:
    (one,) = [series for series in report.series if series.is_quality_report]
    (instance,) = one.instances
    return folder / instance.file, dcmread(folder / instance.file)


def measured(report: Dataset) -> dict[str, tuple[float, dict[str, object]]]:
    """Value of each number of the report, with what is said of it."""
    (measurements,) = [one for one in report.ContentSequence if meaning(one) == "Imaging Measurements"]
    (group,) = measurements.ContentSequence
    return {
        meaning(one): (
            float(one.MeasuredValueSequence[0].NumericValue),
            {meaning(said): value(said) for said in one.ContentSequence},
        )
        for one in group.ContentSequence
        if one.ValueType == "NUM"
    }


def meaning(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def value(item: Dataset) -> object:
    return float(item.MeasuredValueSequence[0].NumericValue) if item.ValueType == "NUM" else str(item.TextValue)


def test_the_limits_that_a_finding_was_judged_by_travel_with_it() -> None:
    finding = judged("x", 1.5, "1", LIMITS, "X")
    assert (finding.flag_above, finding.hold_above, finding.limits()) == (1.0, 2.0, LIMITS)
    assert judged("x", 1.5, "1", None, "X").limits() is None


def test_a_finding_of_an_older_ledger_has_no_limits() -> None:
    old = {"name": "x", "value": 1.0, "unit": "1", "verdict": "flag", "text": "X"}
    assert Finding.model_validate(old).limits() is None


def test_a_result_comes_with_a_report_that_says_every_finding_and_limit(tmp_path: Path) -> None:
    report = execute(order(tmp_path))
    path, quality = quality_of(tmp_path / "out", report)
    assert dciodvfy_errors(path) == []
    assert quality.SOPClassUID == Comprehensive3DSRStorage
    shift = {"Verdict": "flag", "Flagged above": 1.0, "Held above": 2.0}
    found = measured(quality)
    assert found.keys() == {finding.name for finding in report.findings}
    assert found["edge_shift_mm"][0] == 1.5 and found["edge_shift_mm"][1].items() >= shift.items()


def test_the_report_names_all_that_was_used_and_made_and_belongs_to_the_source(tmp_path: Path) -> None:
    report = execute(order(tmp_path))
    _, quality = quality_of(tmp_path / "out", report)
    series = [
        one for study in quality.CurrentRequestedProcedureEvidenceSequence for one in study.ReferencedSeriesSequence
    ]
    named = {item.ReferencedSOPInstanceUID for one in series for item in one.ReferencedSOPSequence}
    sources = ct_series()
    images, _ = report.series
    assert named == {one.SOPInstanceUID for one in sources} | {one.sop_instance_uid for one in images.instances}
    assert (quality.PatientID, quality.StudyInstanceUID) == ("SECRETID", sources[0].StudyInstanceUID)
    assert quality.SeriesInstanceUID not in {sources[0].SeriesInstanceUID, images.series_instance_uid}
    # Behind the source in a list, and with the scanner, not this program, as what acquired it.
    assert quality.SeriesNumber == 708
    assert quality.ContributingEquipmentSequence[0].ManufacturerModelName == "Hi-Art"


def test_the_same_order_again_makes_the_same_bytes_and_other_findings_another_report(tmp_path: Path) -> None:
    for output, shift_mm in (("out", 1.5), ("again", 1.5), ("other", 2.5)):
        execute(order(tmp_path, output, shift_mm=shift_mm))
    files = {
        name: {
            one.relative_to(tmp_path / name): one.read_bytes()
            for one in (tmp_path / name).rglob("*.*")
            if one.is_file() and one.suffix != ".json"
        }
        for name in ("out", "again", "other")
    }
    assert files["out"] == files["again"]
    assert {"quality.html", "quality.png"} <= {one.name for one in files["out"]}
    assert not {one for one in files["other"] if one.suffix == ".dcm"} & set(files["out"])


def test_a_report_is_made_only_where_it_is_wanted(tmp_path: Path) -> None:
    report = execute(order(tmp_path, wanted=False))
    assert [one.modality for one in report.series] == ["CT"]
    assert not (tmp_path / "out" / "quality.html").exists()


def test_page_and_picture_name_no_patient_and_take_text_as_text(tmp_path: Path) -> None:
    execute(order(tmp_path))
    page = (tmp_path / "out" / "quality.html").read_text()
    assert "flag: sent, with a label" in page and "&lt;edges&gt;" in page and "<script" not in page
    everything = page.encode() + (tmp_path / "out" / "quality.png").read_bytes()
    assert b"SECRET" not in everything
    assert not [path for path in (tmp_path / "out").rglob("*") if "SECRET" in path.name]


@pytest.mark.parametrize(("number", "place"), [(0.0, 0.0), (1.0, 260 / 3), (2.0, 520 / 3), (6.0, 260.0)])
def test_the_mark_of_a_bar_stands_at_the_value_between_the_limits(number: float, place: float) -> None:
    finding = judged("x", number, "1", LIMITS, "X")
    assert f'<rect x="{place - 2:.1f}" y="0" width="4"' in bar_svg(finding)


def test_a_finding_without_a_limit_is_one_bar_in_the_colour_of_its_verdict() -> None:
    assert bar_svg(judged("x", 1.0, "1", None, "X")).count("<rect") == 1
    assert Verdict.HOLD is judged("x", 1.0, "1", None, "X").verdict
