import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from models.segmentation import segmented
from models.training.checkpoint import read_checkpoint
from models.training.organ_volumes import OrganVolume, organ_volume
from models.training.segmentation import train
from models.training.segmentation_evaluation import judged_cases, mean_dice, organ_table, write_cases
from models.training.segmentation_settings import Augmentation, SegmentationSettings
from models.training.volumes import TrainingDataError
from models.unet import load_segmenter
from models.weights import load_weights
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


def test_the_card_states_the_task_and_no_limit(trained: Path) -> None:
    model = load_segmenter(str(trained / "tiny.safetensors"))
    assert model.task == SETTINGS.task() and model.task.organs == ORGANS
    assert model.card.training_domain.patients == 2 and not model.card.limits and not model.card.metrics
    assert "| Parotid_L | 1 |" in model.card.text and "waits for a person" in model.card.text


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
    cases = judged_cases(load_segmenter(str(path)), [marked(patient(4, "test"))])
    first, last = (float(rows(tmp_path)[number]["dice"]) for number in (0, -1))
    assert cases[0].measures["Brain"].dice > 0.75 and last < 0.95 * first


def test_a_network_with_mr_serves_the_ct_alone_too(tmp_path: Path) -> None:
    volumes = [patient(1, "train", has_mr=True), patient(2, "train"), patient(3, "validation", has_mr=True)]
    path = train(volumes, replace(SETTINGS, updates=1, takes_mr=True), tmp_path, "tiny")
    model, one = load_segmenter(str(path)), patient(3, "validation", has_mr=True)
    assert "some with MR" in model.card.training_domain.modality
    for mr in (None, one.mr_zyx):
        assert segmented(model, one.volume.hu_zyx, SPACING, mr).labels_zyx.shape == one.labels_zyx.shape
    with_mr, without = (judged_cases(model, [one], with_mr=seen) for seen in (True, False))
    assert with_mr != without


def test_an_organ_that_was_not_drawn_is_not_judged(tmp_path: Path, trained: Path) -> None:
    one = patient(3, "validation")
    partly = organ_volume(one.volume, {"Brain": one.masks()["Brain"]}, ORGANS)
    model = load_segmenter(str(trained / "tiny.safetensors"))
    cases = judged_cases(model, [partly, one])
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
