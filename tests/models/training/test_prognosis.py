import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.classification import LogisticSettings
from models.outcomes import SIMULATED, CohortStatement, EventTime, Outcomes
from models.prognosis import PrognosisError, PrognosisModel, load_prognosis, predicted
from models.stored_numbers import load_numbers
from models.survival.cox_model import CoxSettings
from models.survival.simulated import SimulatedCohort, SimulatedCohortSettings, simulated_cohort
from models.training.prognosis import PrognosisTask, PrognosisTrainingError, train_prognosis
from models.training.prognosis_evaluation import EvaluatedCohort, evaluate_prognosis
from models.training.prognosis_sets import PatientFeatures, feature_tables
from models.training.prognosis_settings import PrognosisTraining
from models.weights import WeightsError

STATEMENT = CohortStatement(name="a test", endpoint="death", is_simulated=True)
TASK = PrognosisTask("prognosis_test", {"spacing_mm": 2.0}, "## Intended use\n\nA test.")
SETTINGS = PrognosisTraining(
    feature_set="all",
    baseline_set="first",
    folds=4,
    repeats=1,
    permutations=4,
    resamples=10,
    cox=CoxSettings(penalties=5, inner_folds=2),
    logistic=LogisticSettings(inverse_penalties=(0.3,), inner_folds=2),
)
PATIENTS = 60


def drawn(patients: int = PATIENTS, seed: int = 0, effect: float = 1.2) -> SimulatedCohort:
    settings = SimulatedCohortSettings(patients=patients, features=6, effects=(effect, -effect), correlation=0.0)
    return simulated_cohort(settings, np.random.default_rng(seed))


def patients_of(found: SimulatedCohort, first: int = 0) -> list[PatientFeatures]:
    names = found.cohort.feature_names
    rows = [dict(zip(names, row.tolist(), strict=True)) for row in found.cohort.features]
    return [
        PatientFeatures(
            f"p{number:03d}", {"all": row, "first": {names[0]: row[names[0]]}}, {"error_mm": number % 5 / 10}
        )
        for number, row in enumerate(rows, start=first)
    ]


def times_of(*cohorts: SimulatedCohort) -> Outcomes:
    pairs = [pair for one in cohorts for pair in zip(one.cohort.stop.tolist(), one.cohort.event.tolist(), strict=True)]
    return Outcomes(STATEMENT, {f"p{number:03d}": EventTime(time, event) for number, (time, event) in enumerate(pairs)})


def yes_or_no_of(found: SimulatedCohort, seed: int = 0) -> Outcomes:
    chance = 1.0 / (1.0 + np.exp(-found.risk))
    had = np.random.default_rng(seed).random(len(chance)) < chance
    return Outcomes(STATEMENT, {f"p{number:03d}": bool(one) for number, one in enumerate(had)})


def trained(tmp_path: Path, outcomes: Outcomes, found: SimulatedCohort) -> PrognosisModel:
    train_prognosis(patients_of(found), outcomes, TASK, SETTINGS, tmp_path / "model.json", lambda done, what: None)
    return load_prognosis(str(tmp_path / "model.json"))[1]


@pytest.fixture(scope="module")
def of_times(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrognosisModel]:
    folder = tmp_path_factory.mktemp("times")
    return folder, trained(folder, times_of(drawn()), drawn())


@pytest.fixture(scope="module")
def of_yes_and_no(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrognosisModel]:
    folder = tmp_path_factory.mktemp("yes_and_no")
    return folder, trained(folder, yes_or_no_of(drawn()), drawn())


def test_a_trained_model_orders_new_patients_nearly_as_the_true_risk_does(
    of_times: tuple[Path, PrognosisModel], tmp_path: Path
) -> None:
    old, new = drawn(), drawn(seed=1)
    risk = {f"p{number:03d}": value for number, value in enumerate(new.risk.tolist(), start=PATIENTS)}
    cohort = EvaluatedCohort(patients_of(old), patients_of(new, PATIENTS), times_of(old, new), risk)
    figures = evaluate_prognosis(of_times[1], cohort, SETTINGS, tmp_path)
    assert figures["oracle_c_index_low"] <= figures["test_c_index"] <= figures["oracle_c_index_high"]
    assert 0.55 < figures["first_c_index"] < figures["test_c_index"]
    assert "60 test patients" in (tmp_path / "evaluation.md").read_text(encoding="utf-8")


def test_a_logistic_model_tells_patients_with_the_outcome(of_yes_and_no: tuple[Path, PrognosisModel]) -> None:
    found = of_yes_and_no[1].held_out
    assert found["roc_auc_low"] > 0.6
    assert found["permutation_p"] == 0.2  # the least that 4 permutations allow


def test_where_features_have_no_effect_the_permutation_finds_none(tmp_path: Path) -> None:
    none = drawn(effect=0.0, seed=3)
    found = trained(tmp_path, times_of(none), none).held_out
    assert found["c_index_low"] < 0.5
    assert found["permutation_p"] > 0.2


def test_the_card_of_made_up_patients_says_so_in_its_first_line(of_times: tuple[Path, PrognosisModel]) -> None:
    card, _ = load_numbers(of_times[0] / "model.json", PrognosisModel)
    assert [line for line in card.text.splitlines() if line][1] == f"**{SIMULATED}**"
    assert (of_times[0] / "model.png").stat().st_size > 10_000
    assert (of_times[0] / "model.csv").read_text(encoding="utf-8").startswith("set,patients,features,c_index")


def test_training_twice_makes_the_same_file(of_times: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    trained(tmp_path, times_of(drawn()), drawn())
    assert (tmp_path / "model.json").read_bytes() == (of_times[0] / "model.json").read_bytes()


@pytest.mark.parametrize("kind", ["of_times", "of_yes_and_no"])
def test_a_patient_of_higher_risk_gets_a_higher_probability_inside_its_interval(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: PrognosisModel = request.getfixturevalue(kind)[1]
    good, bad = ({f"feature_{n}": 0.0 for n in range(6)} | {"feature_0": sign * 1.5} for sign in (-1.0, 1.0))
    low, high = predicted(model, good), predicted(model, bad)
    assert (low.group, high.group) == ("low", "high")
    assert low.probability.value < high.probability.value
    for one in (low, high):
        assert one.probability.low < one.probability.value < one.probability.high


def test_a_patient_unlike_all_others_is_far_from_the_cohort(of_times: tuple[Path, PrognosisModel]) -> None:
    model = of_times[1]
    usual = predicted(model, {f"feature_{n}": 0.3 for n in range(6)}).distance
    strange = predicted(model, {f"feature_{n}": 9.0 for n in range(6)}).distance
    assert usual < model.limits["feature_distance"].flag_above < model.limits["feature_distance"].hold_above < strange


def test_limits_are_those_of_the_training_patients(of_times: tuple[Path, PrognosisModel]) -> None:
    assert 0.4 <= of_times[1].limits["error_mm"].hold_above < 1.0
    assert set(of_times[1].limits) == {"feature_distance", "error_mm"}


def test_a_patient_without_a_feature_of_the_model_is_refused(of_times: tuple[Path, PrognosisModel]) -> None:
    with pytest.raises(PrognosisError, match="The model needs the feature feature_0"):
        predicted(of_times[1], {f"feature_{n}": 0.0 for n in range(1, 6)})


def test_a_model_that_was_altered_is_refused(of_times: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    for name in ("model.json", "model.md"):
        (tmp_path / name).write_bytes((of_times[0] / name).read_bytes())
    content = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    content["high_above"] += 1.0
    (tmp_path / "model.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(WeightsError, match="is not the one its card describes"):
        load_prognosis(str(tmp_path / "model.json"))


def test_features_that_are_not_defined_for_everyone_are_left_out() -> None:
    patients = patients_of(drawn(patients=5))
    gap = replace(patients[0], sets={"all": {**patients[0].sets["all"], "feature_1": float("nan")}})
    tables = feature_tables([gap, *patients[1:]], frozenset({"feature_2"}))
    assert tables["all"].names_without == ("feature_1", "feature_2")
    assert tables["first"].patients_without == ("p000",)
    assert tables["first"].of(["p001", "p000"]).patients == ("p001",)


def test_a_set_that_no_patient_has_is_refused(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"feature_set": "late"})
    with pytest.raises(PrognosisTrainingError, match="No patient has the features late; there are all, first"):
        train_prognosis(
            patients_of(drawn()), times_of(drawn()), TASK, settings, tmp_path / "m.json", lambda done, what: None
        )
