from pathlib import Path

import numpy as np
import pytest

from models.feature_domain import read_domain
from models.inference import load_generator
from models.training.calibration import JudgedImage, calibrate, usual_and_limits, with_section
from models.training.pairs import Scans
from models.training.volumes import TrainingDataError
from models.weights import WeightsError, load_card
from tests.models.training.tiny_enhancement import patient, untrained


def judged(fat_change_hu: float, edge_shift_mm: float) -> list[JudgedImage]:
    changes = {"fat_change_hu": fat_change_hu, "edge_shift_mm": edge_shift_mm}
    return [JudgedImage({"input_noise_hu": 30.0}, changes, np.zeros(4, np.float32))]


def test_the_usual_is_the_mean_and_limits_are_of_the_distance_to_it() -> None:
    usual, limits = usual_and_limits([judged(-20.0, 0.1), judged(-50.0, 0.2), judged(-80.0, 0.3)])
    assert usual == {"fat_change_hu": -50.0}
    # 30, 0 and 30 HU: mean 20, SD 17.3, 99 % of new patients below 20 + 6.96 x 17.3 x sqrt(4 / 3).
    assert limits["fat_departure_hu"].flag_above == pytest.approx(159.3, abs=0.2)
    assert limits["fat_departure_hu"].hold_above > limits["fat_departure_hu"].flag_above
    assert limits["input_noise_hu"].hold_above == limits["input_noise_hu"].flag_above == 30.0
    assert limits["edge_shift_mm"].hold_above > 0.3


def test_a_section_of_the_card_is_replaced_and_the_others_stay() -> None:
    text = "# tiny\n\n## Stability limits\n\nOld.\n\n## Licence\n\nFree.\n"
    assert with_section(text, "New.\n") == "# tiny\n\n## Stability limits\n\nNew.\n\n## Licence\n\nFree.\n"
    assert with_section("# tiny\n", "New.\n") == "# tiny\n\n## Stability limits\n\nNew.\n"


def test_calibration_writes_usual_limits_domain_and_text_into_the_card(tmp_path: Path) -> None:
    path = untrained(tmp_path)
    volumes = [patient(number, "train") for number in range(10)]
    volumes += [patient(number, "validation") for number in range(10, 12)]
    calibrate(str(path), volumes, Scans("mvct"), tmp_path / "simulated")
    card = load_card(str(path))
    assert {"registration_shift_mm", "bend_mm", "feature_distance", "edge_shift_mm"} <= set(card.limits)
    assert set(card.usual) >= {"muscle_change_hu", "skin_steepness"}
    assert "4 conversions of 2 validation patients" in card.text.replace("\n", " ") and "## Data" in card.text
    domain = load_generator(str(path)).domain
    assert domain is not None and card.domain_sha256 is not None
    assert np.array_equal(domain.mean, read_domain(tmp_path / "tiny.domain", card.domain_sha256).mean)
    (tmp_path / "tiny.domain").write_bytes(b"other")
    with pytest.raises(WeightsError, match="not the one"):
        load_generator(str(path))


def test_one_validation_patient_makes_no_limits(tmp_path: Path) -> None:
    volumes = [patient(0, "train"), patient(10, "validation")]
    with pytest.raises(TrainingDataError, match="two validation patients"):
        calibrate(str(untrained(tmp_path)), volumes, Scans("mvct"), tmp_path)
