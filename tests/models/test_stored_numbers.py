"""Models of plain numbers: written, verified, read; nothing else gets in."""

from pathlib import Path

import numpy as np
import pytest

from models.classification import LogisticModel
from models.stored_numbers import load_numbers, save_numbers
from models.survival.cox_model import CoxModel, CoxSettings, fit_cox
from models.survival.simulated import SimulatedCohortSettings, simulated_cohort
from models.weights import WeightsError


def model() -> CoxModel:
    random = np.random.default_rng(1)
    cohort = simulated_cohort(SimulatedCohortSettings(patients=50, features=4), random).cohort
    return fit_cox(cohort, CoxSettings(penalty=0.02), random)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "made.json"
    save_numbers(path, model(), "delta_radiomics", {"c_index": 0.7}, "Made-up patients.\n")
    return path


def test_a_model_comes_back_with_its_card(stored: Path) -> None:
    card, found = load_numbers(stored, CoxModel)
    assert found == model()
    assert (card.name, card.method, card.metrics, card.text) == (
        "made", "delta_radiomics", {"c_index": 0.7}, "Made-up patients.\n"
    )  # fmt: skip


def test_the_same_model_makes_the_same_file(stored: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    save_numbers(again, model(), "delta_radiomics", {}, "")
    assert again.read_bytes() == stored.read_bytes()


def test_a_changed_number_is_noticed(stored: Path) -> None:
    content = stored.read_text()
    stored.write_text(content.replace('"patients": 50', '"patients": 51'))
    with pytest.raises(WeightsError, match="is not the one its card describes"):
        load_numbers(stored, CoxModel)


def test_a_model_of_another_kind_is_refused(stored: Path) -> None:
    with pytest.raises(WeightsError, match="is malformed"):
        load_numbers(stored, LogisticModel)


def test_a_missing_file_or_card_is_named(stored: Path) -> None:
    with pytest.raises(WeightsError, match=r"the card .*absent\.md can not be read"):
        load_numbers(stored.with_name("absent.json"), CoxModel)
    stored.unlink()
    with pytest.raises(WeightsError, match=r"the model .*made\.json can not be read"):
        load_numbers(stored, CoxModel)


@pytest.mark.parametrize("card", ["", "---\n- a\n---\n", "---\nname: [\n---\n", "---\nname: x\n---\n", "---\nx"])
def test_a_malformed_card_is_refused(stored: Path, card: str) -> None:
    stored.with_suffix(".md").write_text(card)
    with pytest.raises(WeightsError, match="the card"):
        load_numbers(stored, CoxModel)


def test_only_json_is_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not a \.json file"):
        save_numbers(tmp_path / "model.pkl", model(), "x", {}, "")
