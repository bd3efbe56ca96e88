import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from models.cyclegan import Architecture
from models.inference import enhanced, load_generator
from models.phantoms import head_and_neck_phantom
from models.training.checkpoint import read_checkpoint
from models.training.enhancement import TrainingSettings, train
from models.training.evaluation import evaluate
from models.training.volumes import Split, TrainingDataError, TrainingVolume
from models.weights import load_weights

SPACING = (20.0, 5.0, 5.0)
SETTINGS = TrainingSettings(
    updates=4,
    warm_up_updates=1,
    batch=2,
    crop_pixels=32,
    pool_images=2,
    log_every=1,
    checkpoint_every=2,
    architecture=Architecture(channels=4, encoder_blocks=1, decoder_blocks=1),
)


@cache
def patient(number: int, split: Split | None) -> TrainingVolume:
    phantom = head_and_neck_phantom((6, 64, 64), SPACING, np.random.default_rng(number))
    return TrainingVolume(f"phantom_{number}", split, phantom.hu_zyx, SPACING)


def patients() -> list[TrainingVolume]:
    return [patient(1, "train"), patient(2, "train"), patient(3, "validation"), patient(4, "test")]


class Interrupted(Exception):
    pass


def interrupt_after_three_quarters(done: float, what: str) -> None:
    if what == "training" and done > 0.7:
        raise Interrupted


def generator_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_weights(str(folder / "tiny.safetensors"))[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training that ran without a break."""
    folder = tmp_path_factory.mktemp("trained")
    assert train(patients(), SETTINGS, folder, "tiny") == folder / "tiny.safetensors"
    return folder


def test_training_changes_every_weight(trained: Path, tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, learning_rate=0.0, updates=1), tmp_path, "tiny")
    before, after = generator_of(tmp_path), generator_of(trained)
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_training_writes_card_log_and_curve(trained: Path) -> None:
    assert all((trained / f"tiny.{ending}").exists() for ending in ("md", "csv", "png"))
    assert len((trained / "tiny.csv").read_text().splitlines()) == 1 + SETTINGS.updates


def test_the_card_states_domain_and_measured_limits(trained: Path) -> None:
    card = load_generator(str(trained / "tiny.safetensors")).card
    assert card.training_domain.patients == 2
    assert card.training_domain.pixel_spacing_mm == (5.0, 5.0)
    assert {"mean_change_hu", "edge_shift_mm", "body_mean_departure_sd"} <= set(card.limits)
    assert all(limit.flag_above <= limit.hold_above for limit in card.limits.values())
    assert "simulated MVCT" in card.text


def test_without_validation_patients_there_are_no_limits(tmp_path: Path) -> None:
    path = train([patient(1, None), patient(2, None)], replace(SETTINGS, updates=1), tmp_path, "tiny")
    assert load_generator(str(path)).card.limits == {}


def test_a_resumed_training_gives_what_an_uninterrupted_one_gives(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(patients(), SETTINGS, tmp_path, "tiny", interrupt_after_three_quarters)
    found = read_checkpoint(tmp_path / "tiny.checkpoint.json")
    assert found is not None and found[1]["update"] == 2
    train(patients(), SETTINGS, tmp_path, "tiny")
    straight, resumed = generator_of(trained), generator_of(tmp_path)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    assert (tmp_path / "tiny.csv").read_text() == (trained / "tiny.csv").read_text()


def test_a_checkpoint_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, updates=1), tmp_path, "tiny")
    train(patients(), replace(SETTINGS, updates=2, seed=5), tmp_path, "tiny")
    assert len((tmp_path / "tiny.csv").read_text().splitlines()) == 1 + 2


@pytest.mark.parametrize(("updates", "warm_up"), [(3900, 2800), (20_000, 2800), (100, 75), (1, 0)])
def test_a_short_training_is_not_all_warm_up(updates: int, warm_up: int) -> None:
    assert TrainingSettings(updates=updates, warm_up_updates=2800).warm_up() == warm_up


@pytest.mark.parametrize(
    ("volumes", "settings", "reason"),
    [
        ([], SETTINGS, "no training volume"),
        ([patient(4, "test")], SETTINGS, "no training volume"),
        ([patient(1, "train")], SETTINGS, "at least two patients"),
        ([patient(1, "train"), patient(2, "train")], replace(SETTINGS, batch=50), "fewer than a batch"),
        ([patient(1, "train"), patient(2, "train")], replace(SETTINGS, crop_pixels=80), "smaller than the crop"),
    ],
)
def test_data_that_do_not_suffice_are_refused(
    tmp_path: Path, volumes: Sequence[TrainingVolume], settings: TrainingSettings, reason: str
) -> None:
    with pytest.raises(TrainingDataError, match=reason):
        train(volumes, settings, tmp_path, "tiny")


def test_the_number_of_slices_can_be_limited_but_not_below_two_patients(tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, slices=2, updates=1), tmp_path, "tiny")
    with pytest.raises(TrainingDataError, match="fewer than a batch"):
        train(patients(), replace(SETTINGS, slices=2, batch=3), tmp_path, "other")


def test_evaluation_measures_the_test_patients_only(trained: Path, tmp_path: Path) -> None:
    weights = str(trained / "tiny.safetensors")
    figures = evaluate(weights, patients(), tmp_path)
    assert figures["patients"] == 1.0
    assert figures["mae_before_hu"] > 0.0 and figures["seconds_per_slice"] > 0.0
    assert json.loads((tmp_path / "report.json").read_text())["figures"] == figures
    assert all((tmp_path / name).exists() for name in ("before_after.png", "report.html", "patients.csv"))
    with pytest.raises(TrainingDataError, match="no test patient"):
        evaluate(weights, patients()[:2], tmp_path)


def test_evaluation_measures_filters_tuned_on_training_patients_beside_the_model(trained: Path, tmp_path: Path) -> None:
    weights = str(trained / "tiny.safetensors")
    figures = evaluate(weights, patients(), tmp_path)
    for who in ("hu_curve", "bilateral", "non_local_means", "total_variation"):
        assert figures[f"mae_{who}_hu"] < figures["mae_before_hu"]
    assert figures["cupping_truth_hu"] == 0.0 and "mae_truth_hu" not in figures
    assert figures["body_dice_floor"] > 0.98
    assert {"deformation_mean_after_mm", "deformation_p95_truth_mm", "deformation_mean_floor_mm"} <= set(figures)
    alone = evaluate(weights, patients(), tmp_path, comparators=False)
    assert "mae_bilateral_hu" not in alone and alone["mae_after_hu"] == figures["mae_after_hu"]


def test_volumes_without_any_split_are_all_evaluated(trained: Path, tmp_path: Path) -> None:
    figures = evaluate(str(trained / "tiny.safetensors"), [patient(4, None)], tmp_path)
    assert figures["patients"] == 1.0 and figures["mae_after_hu_sd"] == 0.0
    # Tuned on the patient under test, the filters would be flattered.
    assert "mae_bilateral_hu" not in figures


def test_a_trained_model_converts_a_volume(trained: Path) -> None:
    hu = patient(4, "test").hu_zyx
    assert enhanced(load_generator(str(trained / "tiny.safetensors")), hu, SPACING).shape == hu.shape
