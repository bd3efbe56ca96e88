from dataclasses import replace
from pathlib import Path

import pytest

from models.inference import load_generator
from models.training.calibration import calibrate
from models.training.pairs import Scans
from models.training.volumes import TrainingDataError
from models.training.witness import WitnessSettings, train_witness
from models.weights import WeightsError, load_card
from tests.models.training.tiny_enhancement import ARCHITECTURE, patient, untrained

SETTINGS = WitnessSettings(updates=40, batch=4, crop_pixels=24, log_every=20, architecture=ARCHITECTURE)
VOLUMES = [patient(0, "train"), patient(1, "train"), patient(2, "validation"), patient(3, "validation")]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return untrained(tmp_path)


def test_a_trained_witness_judges_the_weights_that_it_lies_beside_once_they_are_calibrated(weights: Path) -> None:
    path = train_witness(str(weights), VOLUMES, Scans("mvct"), SETTINGS, weights.parent)
    assert path == weights.parent / "tiny_witness.safetensors"
    assert load_generator(str(weights)).witness is None
    calibrate(str(weights), VOLUMES, Scans("mvct"), weights.parent / "simulated")
    card = load_card(str(weights))
    assert card.witness_sha256 == load_card(str(path)).sha256
    witness = load_generator(str(weights)).witness
    assert witness is not None and witness.card.name == "tiny_witness"
    assert {"unexpected_detail", "unexpected_structure", "unexpected_region"} <= set(card.limits)
    assert "tiny_witness" in card.text and "structure_lost_hu" not in card.limits


def test_another_witness_is_refused_until_the_weights_are_calibrated_again(weights: Path) -> None:
    train_witness(str(weights), VOLUMES, Scans("mvct"), SETTINGS, weights.parent)
    calibrate(str(weights), VOLUMES, Scans("mvct"), weights.parent / "simulated")
    train_witness(str(weights), VOLUMES, Scans("mvct"), replace(SETTINGS, seed=5), weights.parent)
    with pytest.raises(WeightsError, match="not the one"):
        load_generator(str(weights))
    calibrate(str(weights), VOLUMES, Scans("mvct"), weights.parent / "simulated")
    assert load_generator(str(weights)).witness is not None


def test_a_witness_of_other_weights_is_refused(weights: Path) -> None:
    train_witness(str(weights), VOLUMES, Scans("mvct"), SETTINGS, weights.parent)
    untrained(weights.parent, seed=3)
    with pytest.raises(TrainingDataError, match="for other weights"):
        calibrate(str(weights), VOLUMES, Scans("mvct"), weights.parent / "simulated")


def test_a_witness_of_other_weights_is_trained_from_the_beginning(weights: Path) -> None:
    first = train_witness(str(weights), VOLUMES, Scans("mvct"), SETTINGS, weights.parent).read_bytes()
    again = train_witness(str(weights), VOLUMES, Scans("mvct"), SETTINGS, weights.parent).read_bytes()
    untrained(weights.parent, seed=3)
    other = train_witness(str(weights), VOLUMES, Scans("mvct"), SETTINGS, weights.parent).read_bytes()
    assert first == again != other


def test_the_expectation_gets_nearer_to_the_planning_ct(weights: Path) -> None:
    train_witness(str(weights), VOLUMES, Scans("mvct"), SETTINGS, weights.parent)
    rows = (weights.parent / "tiny_witness.csv").read_text(encoding="utf-8").splitlines()
    column = rows[0].split(",").index("validation_hu")
    first, last = (float(row.split(",")[column]) for row in (rows[1], rows[-1]))
    assert last < first
    assert load_card(str(weights.parent / "tiny_witness.safetensors")).metrics["validation_error_hu"] == pytest.approx(
        last, rel=1e-3
    )


def test_without_validation_patients_there_is_no_witness(weights: Path) -> None:
    with pytest.raises(TrainingDataError, match="validation patients"):
        train_witness(str(weights), VOLUMES[:2], Scans("mvct"), SETTINGS, weights.parent)
