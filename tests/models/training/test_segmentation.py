import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file

from models.organ_finder import OwnNetwork
from models.segmentation import segmented
from models.training.checkpoint import read_checkpoint
from models.training.organ_volumes import OrganVolume, organ_volume
from models.training.segmentation import train
from models.training.segmentation_evaluation import judged_cases, mean_dice, organ_table, write_cases
from models.training.segmentation_settings import Augmentation, SegmentationSettings
from models.training.volumes import TrainingDataError
from models.unet import load_segmenter
from models.weights import load_card, load_weights
from tests.models.training.organ_phantoms import ORGANS, SETTINGS, SPACING, patient, patients
from tests.models.training.test_enhancement import Interrupted, interrupt_after_three_quarters


def network_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_weights(str(folder / "tiny.safetensors"))[1]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "tiny.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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
    assert [row["update"] for row in rows(trained)] == ["1", "2", "3", "4"]
    assert all(float(row["focal"]) > 0.0 and 0.0 < float(row["dice"]) <= 1.0 for row in rows(trained))
    assert all(row["validation_dice"] for row in rows(trained))


def test_the_card_states_the_task_the_training_and_the_limits_of_the_validation_patients(trained: Path) -> None:
    model, learnt_from = load_segmenter(str(trained / "tiny.safetensors")), patients()[:2]
    assert model.task == SETTINGS.task() and model.task.organs == ORGANS
    assert model.card.training_domain.patients == 2 and not model.card.metrics
    assert model.card.training_domain.height_mm == (240.0, 240.0)
    brains = [round(float((one.labels_zyx == 1).sum()) * 0.512, 2) for one in learnt_from]
    assert model.card.organ_ml["Brain"] == (min(brains), max(brains))
    case = judged_cases(OwnNetwork(model), [patients()[2]])[0]
    for name in ("organ_doubt", "stray_part", "volume_outside_part", "body_mean_departure_sd", "organs_not_found"):
        assert case.plausibility[name] <= model.card.limits[name].flag_above
    assert set(case.plausibility) - set(model.card.limits) == {"sides_swapped"}
    assert "| Parotid_L | 1 |" in model.card.text


def test_of_made_up_patients_no_limit_is_taken_and_the_card_says_so_first(tmp_path: Path) -> None:
    path = train(patients()[:3], replace(SETTINGS, updates=1), tmp_path, "tiny", is_made_up=True)
    card = load_segmenter(str(path)).card
    assert not card.limits and card.training_domain.modality == "made-up CT"
    first = next(line for line in card.text.splitlines() if line and not line.startswith("#"))
    assert first.startswith("**Trained on made-up patients")


def test_training_goes_on_from_weights_of_the_same_kind_only(trained: Path, tmp_path: Path) -> None:
    began = replace(SETTINGS, initial_weights=str(trained / "tiny.safetensors"), updates=1, learning_rate=0.0)
    path = train(patients()[:2], began, tmp_path, "tiny")
    for name, tensor in load_file(str(path)).items():
        torch.testing.assert_close(tensor, load_file(str(trained / "tiny.safetensors"))[name])
    assert f"SHA-256 {load_card(str(trained / 'tiny.safetensors')).sha256}" in load_card(str(path)).text
    with pytest.raises(TrainingDataError, match="other organs, inputs, patches or size"):
        train(patients()[:2], replace(began, channels=8), tmp_path / "other", "tiny")
    with pytest.raises(TrainingDataError, match="nowhere"):
        train(patients()[:2], replace(began, initial_weights=str(tmp_path / "nowhere.safetensors")), tmp_path, "tiny")


def test_without_validation_patients_nothing_is_claimed(tmp_path: Path) -> None:
    path = train([patient(1, None)], replace(SETTINGS, updates=1), tmp_path, "tiny")
    assert "no validation patient" in load_segmenter(str(path)).card.text
    assert rows(tmp_path)[0]["validation_dice"] == ""


def test_a_resumed_training_gives_what_an_uninterrupted_one_gives(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(patients(), SETTINGS, tmp_path, "tiny", interrupt_at_the_third_update)
    found = read_checkpoint(tmp_path / "tiny.checkpoint.json")
    assert found is not None and found[1]["update"] == 2
    train(patients(), SETTINGS, tmp_path, "tiny")
    straight, resumed = network_of(trained), network_of(tmp_path)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    assert (tmp_path / "tiny.csv").read_text() == (trained / "tiny.csv").read_text()


def interrupt_at_the_third_update(done: float, what: str) -> None:
    # Training is nine tenths of the work.
    interrupt_after_three_quarters(done / 0.9, what)


def test_other_settings_or_organs_begin_anew(tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, updates=1), tmp_path, "tiny")
    first = network_of(tmp_path)
    train(patients(), replace(SETTINGS, updates=1, seed=5), tmp_path, "tiny")
    assert any(not torch.equal(first[name], network_of(tmp_path)[name]) for name in first)
    assert len(rows(tmp_path)) == 1


def test_only_training_patients_are_trained_on(trained: Path, tmp_path: Path) -> None:
    train([patient(5, "test"), *patients()], SETTINGS, tmp_path, "tiny")
    straight, found = network_of(trained), network_of(tmp_path)
    assert all(torch.equal(found[name], straight[name]) for name in straight)


def test_training_in_bfloat16_stays_near_that_in_float32(trained: Path, tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, bf16=True), tmp_path, "tiny")
    exact, quick = ([float(row["focal"]) for row in rows(folder)] for folder in (trained, tmp_path))
    np.testing.assert_allclose(quick, exact, rtol=0.05)


def marked(one: OrganVolume) -> OrganVolume:
    """The patient with brain and mandible so bright that few updates tell them apart."""
    hu = (
        np.where(one.volume.hu_zyx < -500.0, -1000.0, 0.0)
        + 200.0 * (one.labels_zyx == 1)
        + 800.0 * (one.labels_zyx == 2)
    )
    return replace(one, volume=replace(one.volume, hu_zyx=hu.astype(np.float32)))


def test_training_learns_the_organs_of_a_patient_that_it_never_saw(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        updates=150,
        learning_rate=1e-2,
        ema_decay=0.8,
        levels=2,
        organ_share=1.0,
        spacing_zyx_mm=SPACING,
        log_every=20,
        checkpoint_every=150,
    )
    path = train([marked(one) for one in patients()], settings, tmp_path, "tiny")
    cases = judged_cases(OwnNetwork(load_segmenter(str(path))), [marked(patient(4, "test"))])
    first, last = (float(rows(tmp_path)[number]["dice"]) for number in (0, -1))
    assert cases[0].measures["Brain"].dice > 0.75 and last < 0.95 * first


def test_a_network_with_mr_serves_the_ct_alone_too(tmp_path: Path) -> None:
    volumes = [patient(1, "train", has_mr=True), patient(2, "train"), patient(3, "validation", has_mr=True)]
    path = train(volumes, replace(SETTINGS, updates=1, takes_mr=True), tmp_path, "tiny")
    model, one = load_segmenter(str(path)), patient(3, "validation", has_mr=True)
    assert "some with MR" in model.card.training_domain.modality
    for mr in (None, one.mr_zyx):
        assert segmented(model, one.volume.hu_zyx, SPACING, mr).labels_zyx.shape == one.labels_zyx.shape
    with_mr, without = (judged_cases(OwnNetwork(model), [one], with_mr=seen)[0].measures for seen in (True, False))
    assert with_mr != without


def test_an_organ_that_was_not_drawn_is_not_judged(tmp_path: Path, trained: Path) -> None:
    one = patient(3, "validation")
    partly = organ_volume(one.volume, {"Brain": one.masks()["Brain"]}, ORGANS)
    model = load_segmenter(str(trained / "tiny.safetensors"))
    cases = judged_cases(OwnNetwork(model), [partly, one])
    assert set(cases[0].measures) == {"Brain"} and set(cases[1].measures) == set(ORGANS)
    assert "| Brain | 2 |" in organ_table(cases, ORGANS) and "| Mandible | 1 |" in organ_table(cases, ORGANS)
    write_cases(tmp_path / "cases.csv", cases)
    assert len((tmp_path / "cases.csv").read_text().splitlines()) == 1 + 1 + 4
    assert 0.0 <= mean_dice(cases, ORGANS) <= 1.0


@pytest.mark.parametrize("volumes", [[], [patient(4, "test")], [patient(3, "validation")]])
def test_without_training_patients_there_is_no_training(tmp_path: Path, volumes: list[OrganVolume]) -> None:
    with pytest.raises(TrainingDataError, match="no training volume"):
        train(volumes, SETTINGS, tmp_path, "tiny")


@pytest.mark.parametrize(
    "settings", [{"organs": ["Brain"], "learning_rat": 1.0}, {"organs": ["Brain"], "augmentation": {"mirrors": 1.0}}]
)
def test_a_misspelt_setting_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"learning_rat|mirrors"):
        TypeAdapter(SegmentationSettings).validate_python(settings)


def test_settings_are_read_as_they_are_written() -> None:
    read = TypeAdapter(SegmentationSettings).validate_python(
        {"organs": ["Brain"], "augmentation": {"mirror": 0.0}, "losses": {"classes": [1, 100]}}
    )
    assert read.augmentation == Augmentation(mirror=0.0) and read.losses.classes == (1.0, 100.0)
    assert read.windows_hu[0] == (-1200.0, 100.0) and read.architecture().outputs == 2
