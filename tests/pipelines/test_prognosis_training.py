import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from models.outcomes import CohortStatement
from models.prognosis import load_prognosis
from models.training.prognosis_sets import PatientFeatures
from pipelines.base import InputRejected, PipelineError, TrainingOptions, no_progress
from pipelines.collection_index import CollectedSeries, write_index
from pipelines.outcomes import CollectedPatient, collected_patients, write_cohort
from pipelines.prognosis_training import PrognosisWork, evaluate, patient_features, train

FAST = {
    "feature_set": "all",
    "folds": 3,
    "repeats": 1,
    "permutations": 0,
    "resamples": 4,
    "logistic": {"inverse_penalties": (0.3,), "inner_folds": 2},
}
PATIENTS, REFUSED = 50, "p003"


@dataclass
class Reading:
    """Features that follow from the name of the patient; remembers of whom they were asked for."""

    asked: list[str] = field(default_factory=list)

    def __call__(self, patient: CollectedPatient) -> PatientFeatures:
        self.asked.append(patient.patient)
        if patient.patient == REFUSED:
            raise InputRejected("The structure set has no GTV")
        values = dict(zip("abc", _values(int(patient.patient[1:])).tolist(), strict=True))
        return PatientFeatures(patient.patient, {"all": values, "one": {"b": values["b"]}}, {"error_mm": 1.0})


def _values(number: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(number).standard_normal(3)


def collection(folder: Path) -> Path:
    entries = [
        CollectedSeries(
            f"p{number:03d}", f"1.2.{number}", "1.2", "CT", "head_ct", "x", 1, 1, "test" if number % 4 == 0 else "train"
        )
        for number in range(PATIENTS)
    ]
    write_index(folder, entries)
    had = {f"p{number:03d}": bool(_values(number)[0] > 0.0) for number in range(PATIENTS)}
    statement = CohortStatement(name="made up", endpoint="outcome", is_simulated=True)
    write_cohort(folder, statement, had, {f"p{n:03d}": float(_values(n)[0]) for n in range(PATIENTS)})
    return folder


def work(folder: Path, reading: Callable[[CollectedPatient], PatientFeatures], mm: float = 2.0) -> PrognosisWork:
    return PrognosisWork(
        "prognosis_test", str(folder / "m.json"), {"mm": mm}, reading, FAST, "## Intended use\n\nA test."
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    data, output = collection(tmp_path_factory.mktemp("data")), tmp_path_factory.mktemp("run")
    train(work(output, Reading()), data, output, TrainingOptions(), no_progress)
    return data, output


def test_training_reads_no_test_patient_and_leaves_out_who_can_not_be_used(trained: tuple[Path, Path]) -> None:
    _, model = load_prognosis(str(trained[1] / "m.json"))
    # Of 50 patients every fourth is for the test, and one has no GTV.
    assert model.cohort.patients == PATIENTS - 13 - 1


def test_features_are_computed_once_for_the_same_settings(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(trained[1], tmp_path / "run")
    patients = [one for one in collected_patients(trained[0]) if one.split != "test"]
    again, other = Reading(), Reading()
    patient_features(work(run, again), patients, run, no_progress)
    patient_features(work(run, other, mm=3.0), patients, run, no_progress)
    assert again.asked == [REFUSED]
    assert len(other.asked) == PATIENTS - 13


def test_evaluation_reads_the_test_patients_and_tells_the_card(trained: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("m.json", "m.md"):
        (tmp_path / name).write_bytes((trained[1] / name).read_bytes())
    task = replace(work(tmp_path, Reading()), training={**FAST, "baseline_set": "one"})
    figures = evaluate(task, trained[0], tmp_path / "evaluation", no_progress, record=True)
    assert figures["oracle_roc_auc"] == 1.0
    assert figures["test_roc_auc"] > 0.8 > figures["one_roc_auc"]
    card, _ = load_prognosis(str(tmp_path / "m.json"))
    assert "## Test patients" in card.text
    assert card.metrics["test_roc_auc"] == pytest.approx(figures["test_roc_auc"], rel=1e-3)


def test_a_model_of_other_features_is_not_evaluated(trained: tuple[Path, Path], tmp_path: Path) -> None:
    task = work(trained[1], Reading(), mm=3.0)
    with pytest.raises(PipelineError, match="were computed otherwise than this pipeline does it"):
        evaluate(task, trained[0], tmp_path, no_progress)


def test_an_unknown_training_setting_is_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    options = TrainingOptions(settings={"penalties": 3})
    with pytest.raises(PipelineError, match="training setting penalties"):
        train(work(tmp_path, Reading()), trained[0], tmp_path, options, no_progress)
