"""Results in shadow against current ones: known offsets, boxes of known overlap, two prognoses."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.prognosis import Prediction
from models.survival.interval import Interval
from pipelines.base import InputRejected, Inputs, InputSeries, Pipeline
from pipelines.dicom.report import prognosis_report, quality_report
from pipelines.shadow_agreement import CURRENT, HU, SHADOW, ShadowAgreement
from pipelines.stability import Verdict, verdict_of
from tests.pipelines.made import ct_series, write
from tests.pipelines.reports_made import ORIGIN, content, evidence, survival_model
from tests.shadow_trials import BoxOrgans, OffsetCopy


@pytest.fixture
def source(tmp_path: Path) -> InputSeries:
    """A series of five slices, 3 x 2 x 1.5 mm."""
    return InputSeries("cbct", "1.2", tuple(write(ct_series(), folder(tmp_path / "in"))))


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def made(pipeline: Pipeline, source: InputSeries, out: Path) -> InputSeries:
    """The only series that the pipeline makes, as files."""
    (series,) = pipeline.run(Inputs(source)).series
    return InputSeries("", str(series[0].SeriesInstanceUID), tuple(write(series, folder(out))))


def measured(source: InputSeries, shadow: InputSeries, current: InputSeries) -> dict[str, float]:
    """Values by name, without what all names begin with."""
    linked: Mapping[str, tuple[InputSeries, ...]] = {SHADOW: (shadow,), CURRENT: (current,)}
    outcome = ShadowAgreement(name="shadow_agreement").run(Inputs(source, linked))
    assert (outcome.series, verdict_of(outcome.findings)) == ((), Verdict.RELEASE)
    return {one.name.removeprefix("agreement_"): one.value for one in outcome.findings}


def images(source: InputSeries, out: Path, **settings: Any) -> InputSeries:
    return made(OffsetCopy(name=out.name, **settings), source, out)


def organs(source: InputSeries, out: Path, **columns: tuple[int, int]) -> InputSeries:
    return made(BoxOrgans(name=out.name, columns=columns), source, out)


def report(out: Path, probability: float, risk: float, **changes: Any) -> InputSeries:
    prediction = Prediction(risk, "high" if risk > 0 else "low", Interval(probability, 0.0, 1.0), 730.0, "d", 1.0)
    document = prognosis_report(replace(content(), prediction=prediction, **changes), evidence(), ORIGIN)
    return InputSeries("", str(document.SeriesInstanceUID), tuple(write([document], folder(out))))


def test_a_known_offset_is_the_mean_difference(source: InputSeries, tmp_path: Path) -> None:
    shadow, current = images(source, tmp_path / "new", offset_hu=-12.0), images(source, tmp_path / "old")
    assert measured(source, shadow, current) == {
        "difference_hu": -12.0,
        "abs_difference_hu": 12.0,
        "p95_difference_hu": 12.0,
    }


def test_images_on_different_grids_are_not_compared_and_that_is_said(source: InputSeries, tmp_path: Path) -> None:
    shadow, current = images(source, tmp_path / "new", slices_left_out=1), images(source, tmp_path / "old")
    with pytest.raises(InputRejected, match="different voxel grids"):
        measured(source, shadow, current)


def test_boxes_have_the_overlap_and_the_distance_that_they_were_made_with(source: InputSeries, tmp_path: Path) -> None:
    # Eight columns each, six of them in both; two columns are 3 mm.
    shadow = organs(source, tmp_path / "new", Parotid_L=(4, 12), Rectum=(0, 4), Bladder=(14, 18))
    current = organs(source, tmp_path / "old", Parotid_L=(6, 14), Rectum=(0, 4), SpinalCord=(16, 18))
    found = measured(source, shadow, current)
    assert found.pop("parotid_l_hd95_mm") == pytest.approx(3.0)
    assert found == {"parotid_l_dice": 0.75, "rectum_dice": 1.0, "rectum_hd95_mm": 0.0, "organs_of_one_only": 2.0}


def test_organs_that_only_one_result_has_are_named(source: InputSeries, tmp_path: Path) -> None:
    shadow = organs(source, tmp_path / "new", Rectum=(0, 4), Bladder=(14, 18), Brainstem=(6, 8))
    current = organs(source, tmp_path / "old", Rectum=(0, 4), SpinalCord=(16, 18))
    linked = {SHADOW: (shadow,), CURRENT: (current,)}
    *_, alone = ShadowAgreement(name="shadow_agreement").run(Inputs(source, linked)).findings
    assert alone.text == (
        "Organs that only one of the two has (only in shadow: Bladder, Brainstem; only in current: SpinalCord): 3"
    )


def test_two_prognoses_of_one_event_differ_by_their_probabilities(source: InputSeries, tmp_path: Path) -> None:
    shadow, current = report(tmp_path / "new", 0.6125, 1.25), report(tmp_path / "old", 0.4, -0.5)
    assert measured(source, shadow, current) == {
        "probability_percent": pytest.approx(21.25),
        "risk_group_differs": 1.0,
        "linear_predictor": 1.75,
    }


def test_prognoses_of_different_events_are_not_compared(source: InputSeries, tmp_path: Path) -> None:
    other = survival_model().model_copy(update={"horizon": 365.0})
    shadow, current = report(tmp_path / "new", 0.6, 1.0), report(tmp_path / "old", 0.4, 1.0, model=other)
    with pytest.raises(InputRejected, match="of different events"):
        measured(source, shadow, current)


def test_a_report_without_a_probability_is_no_prognosis(source: InputSeries, tmp_path: Path) -> None:
    document = quality_report(content().findings, evidence(), ORIGIN)
    quality = InputSeries("", "1.2.9", tuple(write([document], folder(tmp_path / "quality"))))
    with pytest.raises(InputRejected, match="no probability of an event"):
        measured(source, report(tmp_path / "new", 0.6, 1.0), quality)


def test_results_of_different_kinds_are_not_compared(source: InputSeries, tmp_path: Path) -> None:
    shadow, current = images(source, tmp_path / "new"), organs(source, tmp_path / "old", Rectum=(0, 4))
    with pytest.raises(InputRejected, match="nothing of the same kind"):
        measured(source, shadow, current)


def test_differences_are_in_hounsfield_units(source: InputSeries, tmp_path: Path) -> None:
    linked = {SHADOW: (images(source, tmp_path / "new"),), CURRENT: (images(source, tmp_path / "old"),)}
    findings = ShadowAgreement(name="shadow_agreement").run(Inputs(source, linked)).findings
    assert {one.unit for one in findings} == {HU}
