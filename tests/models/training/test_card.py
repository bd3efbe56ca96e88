from pathlib import Path

import numpy as np
import pytest

from models.inference import load_generator
from models.training import calibration, card
from models.training.calibration import ValidationImage
from models.training.card import record_evaluation
from models.training.measured_limits import measured_limits, tolerance_bound
from models.weights import load_card, save
from tests.models.test_weights import FACTS, TENSORS

FIGURES = {
    "mae_before_hu": 60.04,
    "mae_before_hu_sd": 5.0,
    "mae_after_hu": 40.514,
    "mae_bilateral_hu": 50.0,
    "deformation_p95_floor_mm": 0.2,
    "patients": 10.0,
}


def test_an_evaluation_is_recorded_in_the_card_once(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    card = save(path, TENSORS, FACTS, "# tiny\n")
    for _ in range(2):
        card = record_evaluation(path.with_suffix(".md"), card, FIGURES, "| table |\n")
    read = load_card(str(path))
    assert read.text == "# tiny\n\n## Metrics\n\n| table |\n"
    assert read.metrics == {"mae_before_hu": 60.04, "mae_before_hu_sd": 5.0, "mae_after_hu": 40.51, "patients": 10.0}


def test_many_images_of_one_patient_are_one_patient_to_a_bound() -> None:
    single = [[{"edge_shift_mm": value}] for value in (1.0, 2.0, 3.0)]
    many = [images * 40 for images in single]
    bounds = [measured_limits(images)["edge_shift_mm"].hold_above for images in (single, many)]
    assert bounds[0] == bounds[1] > 3.0


@pytest.mark.parametrize(("n", "k"), [(11, 2.815), (20, 2.396), (50, 2.065)])
def test_tolerance_bound_has_the_published_factors(n: int, k: float) -> None:
    """One-sided factors for 95 % of the population with 95 % confidence (ISO 16269-6, table of k for unknown sigma)."""
    values = np.random.default_rng(n).normal(10.0, 2.0, n)
    bound = tolerance_bound(values, part=0.95, confidence=0.95)
    assert (bound - values.mean()) / values.std(ddof=1) == pytest.approx(k, abs=1e-3)


def test_tolerance_bound_of_one_patient_is_what_was_seen() -> None:
    assert tolerance_bound(np.array([3.0])) == 3.0


def image(truth_hu: float | None, input_hu: float) -> ValidationImage:
    shape = (2, 64, 64)
    body = np.ones(shape, bool)
    hu_zyx = np.full(shape, input_hu, np.float32)
    truth = None if truth_hu is None else (np.full(shape, truth_hu, np.float32), body)
    return ValidationImage(hu_zyx, (3.0, 4.0, 4.0), truth)


@pytest.mark.parametrize(
    ("truth_hu", "said"),
    [(0.0, "from 40.0 to 0.0 HU"), (80.0, "The training failed"), (None, "")],
    ids=["better", "worse", "no truth"],
)
def test_the_card_says_whether_the_training_was_of_use(
    monkeypatch: pytest.MonkeyPatch, truth_hu: float | None, said: str
) -> None:
    monkeypatch.setattr(calibration, "enhanced", lambda model, hu_zyx, spacing: np.zeros_like(hu_zyx))
    judged = calibration._judged(load_generator("mvct_to_kvct_headneck"), image(truth_hu, 40.0))
    sentence = card._validated([judged])
    assert said in sentence and bool(said) == bool(sentence)
