from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from models.diffusion import Architecture, load_prior
from models.training.checkpoint import read_checkpoint
from models.training.diffusion import DiffusionSettings, SliceCrops, train, training_images, usable_volumes
from models.training.slices import TrainingImage
from models.training.volumes import TrainingDataError, TrainingVolume
from models.weights import load_weights
from tests.models.training.test_enhancement import Interrupted, interrupt_after_three_quarters, patient, patients

SETTINGS = DiffusionSettings(
    updates=4,
    batch=2,
    crop_pixels=32,
    largest_pixel_mm=5.0,
    log_every=1,
    checkpoint_every=2,
    architecture=Architecture(channels=8, levels=2, blocks=1),
)


def network_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_weights(str(folder / "tiny.safetensors"))[1]


def column(folder: Path, name: str) -> list[float]:
    header, *rows = (row.split(",") for row in (folder / "tiny.csv").read_text().splitlines())
    return [float(row[header.index(name)]) for row in rows]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training that ran without a break."""
    folder = tmp_path_factory.mktemp("trained")
    assert train(patients(), SETTINGS, folder, "tiny") == folder / "tiny.safetensors"
    return folder


def test_training_changes_every_weight(trained: Path, tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, learning_rate=0.0, updates=1), tmp_path, "tiny")
    before, after = network_of(tmp_path), network_of(trained)
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_training_writes_card_log_and_curve(trained: Path) -> None:
    assert all((trained / f"tiny.{ending}").exists() for ending in ("md", "csv", "png"))
    assert column(trained, "update") == [1, 2, 3, 4]
    # An untrained network predicts no noise, whose mean square is 1.
    assert column(trained, "all_times")[0] == pytest.approx(1.0, abs=0.1)
    assert column(trained, "validation")[0] == pytest.approx(1.0, abs=0.1)


def test_the_card_says_what_was_trained_on_and_how_much_noise_is_taken_away(trained: Path) -> None:
    card = load_prior(str(trained / "tiny.safetensors")).card
    assert card.method == "diffusion" and card.window_hu == (-1000.0, 2000.0)
    assert card.training_domain.modality == "planning CT" and card.training_domain.patients == 2
    # A noise of sqrt(1 - abar) over sqrt(abar), of 1500 HU.
    assert card.metrics["noise_t1_hu"] == pytest.approx(15.0, abs=0.01)
    assert card.metrics["left_t1_hu"] == pytest.approx(15.0, rel=0.1)
    assert "| 10 | 65.4 |" in card.text


def test_without_validation_patients_nothing_is_claimed(tmp_path: Path) -> None:
    card = load_prior(str(train([patient(1, None)], replace(SETTINGS, updates=1), tmp_path, "tiny"))).card
    assert not card.metrics and "no validation patient" in card.text


def test_a_resumed_training_gives_what_an_uninterrupted_one_gives(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(patients(), SETTINGS, tmp_path, "tiny", interrupt_after_three_quarters)
    found = read_checkpoint(tmp_path / "tiny.checkpoint.json")
    assert found is not None and found[1]["update"] == 2
    train(patients(), SETTINGS, tmp_path, "tiny")
    straight, resumed = network_of(trained), network_of(tmp_path)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    assert (tmp_path / "tiny.csv").read_text() == (trained / "tiny.csv").read_text()


def test_a_checkpoint_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, updates=1), tmp_path, "tiny")
    train(patients(), replace(SETTINGS, updates=2, seed=5), tmp_path, "tiny")
    assert column(tmp_path, "update") == [1, 2]


def test_training_takes_noise_off_slices_that_it_never_saw(tmp_path: Path) -> None:
    settings = replace(SETTINGS, updates=80, batch=4, learning_rate=1e-2, ema_decay=0.9, log_every=10)
    metrics = load_prior(str(train(patients(), settings, tmp_path, "tiny"))).card.metrics
    assert metrics["left_t100_hu"] < 0.6 * metrics["noise_t100_hu"]
    assert column(tmp_path, "validation")[-1] < 0.8 * column(tmp_path, "validation")[0]


def test_training_in_bfloat16_stays_near_that_in_float32(trained: Path, tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, bf16=True), tmp_path, "tiny")
    np.testing.assert_allclose(column(tmp_path, "all_times"), column(trained, "all_times"), rtol=0.02)


def test_only_planning_ct_of_training_patients_is_trained_on(trained: Path, tmp_path: Path) -> None:
    others = [replace(patient(5, "train"), domain="mvct"), patient(4, "test")]
    train([*others, *patients()], SETTINGS, tmp_path, "tiny")
    straight, found = network_of(trained), network_of(tmp_path)
    assert all(torch.equal(found[name], straight[name]) for name in straight)


def test_without_a_shallow_share_all_times_are_drawn_alike(tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, shallow_share=0.0), tmp_path, "tiny")
    assert (tmp_path / "tiny.csv").read_text().splitlines()[1].startswith("1,,")


def test_crops_are_those_of_the_slices_or_their_mirror_images() -> None:
    volume = patient(1, "train")
    hu = np.zeros_like(volume.hu_zyx)
    hu[:] = np.arange(64)  # the column number, in HU
    crops = SliceCrops(training_images([replace(volume, hu_zyx=hu)]), replace(SETTINGS, window_hu=(0.0, 100.0)))
    drawn = (crops.batch(40, np.random.default_rng(0)) + 1.0) * 50.0
    steps = drawn.diff(dim=-1).mean(dim=(1, 2, 3)).round()
    assert drawn.shape == (40, 1, 32, 32)
    assert 5 < int((steps == 1.0).sum()) < 35 and ((steps == 1.0) | (steps == -1.0)).all()


def test_slices_count_by_the_body_that_they_show() -> None:
    """Two slices of which one shows nine times the body of the other: it gives nine times the crops."""
    hu = np.full((2, 64, 64), -1000.0, np.float32)
    hu[0, 14:50, 14:50], hu[1, 26:38, 26:38] = 10.0, 20.0
    image = TrainingImage("A", hu, hu > -500.0, slices=[0, 1])
    drawn = SliceCrops([image], SETTINGS).batch(400, np.random.default_rng(0))
    values = (drawn.amax(dim=(1, 2, 3)) * 1500.0 + 500.0).round()
    assert 0.85 < float((values == 10.0).float().mean()) < 0.95


def test_images_with_coarse_pixels_or_small_slices_are_left_out() -> None:
    small = replace(patient(2, "train"), hu_zyx=np.zeros((3, 16, 64), np.float32))
    coarse = replace(patient(3, "train"), spacing_zyx_mm=(3.0, 6.0, 6.0))
    fine = patient(1, "train")
    assert usable_volumes([small, coarse, fine], SETTINGS) == [fine]


@pytest.mark.parametrize(
    ("volumes", "settings", "reason"),
    [
        ([], SETTINGS, "no training volume"),
        ([patient(4, "test")], SETTINGS, "no training volume"),
        ([replace(patient(1, "train"), domain="cbct")], SETTINGS, "no training volume of planning CT"),
        ([replace(patient(1, "train"), hu_zyx=np.full((2, 64, 64), -1000.0, np.float32))], SETTINGS, "shows a body"),
        ([patient(1, "train")], replace(SETTINGS, crop_pixels=80), "slices of 80 pixels or more"),
        ([patient(1, "train")], replace(SETTINGS, largest_pixel_mm=1.0), "pixels up to 1 mm"),
        ([patient(1, "train")], replace(SETTINGS, crop_pixels=30), "no multiple of 4"),
    ],
)
def test_data_that_do_not_suffice_are_refused(
    tmp_path: Path, volumes: Sequence[TrainingVolume], settings: DiffusionSettings, reason: str
) -> None:
    with pytest.raises(TrainingDataError, match=reason):
        train(volumes, settings, tmp_path, "tiny")


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="learning_rat"):
        TypeAdapter(DiffusionSettings).validate_python({"learning_rat": 1.0})
