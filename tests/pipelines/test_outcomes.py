from pathlib import Path

import pytest

from models.outcomes import CohortStatement, EventTime, OutcomesError
from pipelines.base import PipelineError
from pipelines.collection_index import CollectedSeries, write_index
from pipelines.outcomes import collected_patients, read_outcomes, read_truth, write_cohort

STATEMENT = CohortStatement(name="neck, here, 2015 to 2022", endpoint="death")


def written(folder: Path, table: str) -> Path:
    write_cohort(folder, STATEMENT, {}, {})
    (folder / "outcomes.csv").write_text(table, encoding="utf-8")
    return folder


def entry(patient: str, role: str = "cbct", number: int = 1, split: str | None = "train") -> CollectedSeries:
    uid = f"1.2.{patient[1:]}.{number}"
    return CollectedSeries(patient, uid, "1.2", "CT", role, f"{patient}/{number}", 0, 1, split)  # type: ignore[arg-type]


def test_a_cohort_that_was_written_is_read_back(tmp_path: Path) -> None:
    outcomes = {"p1": EventTime(120.5, True), "p2": EventTime(800.0, False)}
    write_cohort(tmp_path, STATEMENT, outcomes, {"p1": 0.5, "p2": -0.25})
    found = read_outcomes(tmp_path)
    assert (found.statement, found.of_patient, found.kind) == (STATEMENT, outcomes, "survival")
    assert read_truth(tmp_path) == {"p1": 0.5, "p2": -0.25}
    assert found.times_d(["p2", "p1"]).tolist() == [800.0, 120.5]
    assert found.events(["p2", "p1"]).tolist() == [False, True]


def test_yes_and_no_are_read(tmp_path: Path) -> None:
    found = read_outcomes(written(tmp_path, "patient,outcome\np1,1\np2,0\n"))
    assert (found.of_patient, found.kind) == ({"p1": True, "p2": False}, "classification")


def test_a_table_of_a_spreadsheet_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert read_outcomes(written(tmp_path, "\ufeffpatient,outcome\np1, 1\n")).of_patient == {"p1": True}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("patient,died\np1,1\n", "does not begin with the line patient,time_d,event or patient,outcome"),
        ("patient,time_d,event\np1,0,1\n", "line 2: the time is not above 0 days"),
        ("patient,time_d,event\np1,12,1\np2,nan,0\n", "line 3: the time is not above 0 days"),
        ("patient,time_d,event\np1,soon,1\n", "line 2: 'soon' is no number"),
        ("patient,outcome\np1,yes\n", "line 2: an outcome is neither 0 nor 1"),
        ("patient,outcome\np1,1\np1,1\n", "line 3: the patient is there twice"),
    ],
)
def test_a_table_that_can_not_be_used_is_refused_with_its_line(tmp_path: Path, table: str, reason: str) -> None:
    with pytest.raises(PipelineError, match=reason):
        read_outcomes(written(tmp_path, table))


def test_two_tables_that_disagree_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "one", "patient,outcome\np1,1\n")
    written(tmp_path / "two", "patient,outcome\np1,0\n")
    with pytest.raises(PipelineError, match="another table says otherwise of the patient p1"):
        read_outcomes(tmp_path)


def test_times_and_yes_or_no_are_not_mixed(tmp_path: Path) -> None:
    written(tmp_path / "one", "patient,outcome\np1,1\n")
    written(tmp_path / "two", "patient,time_d,event\np2,10,0\n")
    with pytest.raises(OutcomesError, match="neither all times"):
        _ = read_outcomes(tmp_path).kind


def test_without_outcomes_or_their_meaning_nothing_is_read(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has no outcomes.csv"):
        read_outcomes(tmp_path)
    (written(tmp_path, "patient,outcome\np1,1\n") / "cohort.yaml").unlink()
    with pytest.raises(PipelineError, match="what the cohort and its endpoint are"):
        read_outcomes(tmp_path)


def test_patients_of_a_collection_come_with_their_series_and_split(tmp_path: Path) -> None:
    write_index(tmp_path, [entry("p2", split="test"), entry("p1"), entry("p1", "dose", 2), entry("p3", split=None)])
    found = collected_patients(tmp_path)
    assert [(one.patient, one.split) for one in found] == [("p1", "train"), ("p2", "test"), ("p3", "train")]
    assert [one.role for one in found[0].entries] == ["cbct", "dose"]
    assert found[0].series("dose") == [[]]


def test_a_patient_of_two_collections_is_refused(tmp_path: Path) -> None:
    write_index(tmp_path / "one", [entry("p1")])
    write_index(tmp_path / "two", [entry("p1")])
    with pytest.raises(PipelineError, match="The patient p1 is in two collections"):
        collected_patients(tmp_path)
