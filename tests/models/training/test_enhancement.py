import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from models.cyclegan import SUPERVISED, Architecture, LossWeights
from models.inference import enhanced, load_generator
from models.phantoms import head_and_neck_phantom
from models.training.checkpoint import read_checkpoint
from models.training.enhancement import train
from models.training.evaluation import evaluate
from models.training.settings import Method, TrainingSettings
from models.training.volumes import Split, TrainingDataError, TrainingVolume
from models.weights import load_weights
from tests.models.test_insert_phantom import SPACING as CAT_PHANTOM_SPACING
from tests.models.test_insert_phantom import phantom as cat_phantom

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


def test_an_evaluation_goes_into_the_card_when_it_is_asked_to(tmp_path: Path) -> None:
    weights = str(train(patients(), replace(SETTINGS, updates=1), tmp_path, "tiny"))
    before = load_generator(weights).card
    evaluate(weights, patients(), tmp_path / "unasked", comparators=False)
    assert load_generator(weights).card == before
    figures = evaluate(weights, patients(), tmp_path / "report", comparators=False, record=True)
    card = load_generator(weights).card
    assert card.metrics["mae_after_hu"] == pytest.approx(figures["mae_after_hu"], rel=1e-3)
    assert "## Metrics\n\n1 test patients, simulated MVCT" in card.text and card.limits == before.limits


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


PERCEPTUAL = replace(SETTINGS, warm_up_updates=2, losses=LossWeights(perceptual=1.0))


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, warm_up_updates=0, losses=SUPERVISED),
        replace(SETTINGS, losses=LossWeights(paired=1.0)),
        replace(SETTINGS, architecture=replace(SETTINGS.architecture, slices=3)),
        PERCEPTUAL,
    ],
    ids=["supervised", "unpaired and paired", "three slices", "perceptual"],
)
def test_every_variant_trains_resumes_and_converts(settings: TrainingSettings, tmp_path: Path) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    train(patients(), settings, straight, "tiny")
    with pytest.raises(Interrupted):
        train(patients(), settings, resumed, "tiny", interrupt_after_three_quarters)
    train(patients(), settings, resumed, "tiny")
    expected, found = generator_of(straight), generator_of(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    model = load_generator(str(resumed / "tiny.safetensors"))
    hu = patient(4, "test").hu_zyx
    assert enhanced(model, hu, SPACING).shape == hu.shape
    assert model.card.limits


def test_supervised_training_comes_nearer_to_the_truth(tmp_path: Path) -> None:
    network = Architecture(channels=8, encoder_blocks=1, decoder_blocks=1)
    settings = replace(SETTINGS, updates=150, warm_up_updates=0, learning_rate=3e-3, losses=SUPERVISED)
    settings = replace(settings, ema_decay=0.9, architecture=network)
    figures = evaluate(str(train(patients(), settings, tmp_path, "tiny")), patients(), tmp_path, comparators=False)
    assert figures["mae_after_hu"] < 0.95 * figures["mae_before_hu"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (replace(SETTINGS, losses=LossWeights(segmentation=1.0)), "no segmentation network"),
        (replace(SETTINGS, warm_up_updates=0, losses=LossWeights(perceptual=1.0)), "no warm-up"),
    ],
)
def test_a_loss_without_what_it_needs_is_refused(settings: TrainingSettings, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=reason):
        train(patients(), settings, tmp_path, "tiny")


def test_the_features_of_a_segmentation_network_can_be_a_loss(tmp_path: Path) -> None:
    asked: list[int] = []

    def features(image: torch.Tensor) -> list[torch.Tensor]:
        asked.append(image.shape[1])
        return [image.diff(dim=-1)]

    settings = replace(SETTINGS, updates=2, losses=LossWeights(segmentation=1.0))
    train(patients(), settings, tmp_path, "tiny", segmentation=features)
    assert asked and set(asked) == {1}


def test_real_images_of_the_modality_are_trained_on_instead_of_simulated_ones(tmp_path: Path) -> None:
    real = [replace(patient(number, "train"), patient_id=f"real_{number}", domain="mvct") for number in (5, 6)]
    # An image that no scanner simulated here could have made.
    real = [replace(volume, hu_zyx=volume.hu_zyx + np.float32(500.0)) for volume in real]
    card = load_generator(str(train([*patients(), *real], SETTINGS, tmp_path, "tiny"))).card
    assert card.training_domain.modality == "MVCT" and card.training_domain.patients == 2
    assert (card.training_domain.body_mean_hu or 0.0) > 300.0
    assert not (tmp_path / "simulated").exists()


def real_mvct(number: int, split: Split) -> TrainingVolume:
    return replace(patient(number, split), patient_id=f"real_{number}", domain="mvct")


def test_supervised_training_leaves_real_images_out_as_nobody_knows_their_truth(tmp_path: Path) -> None:
    volumes = [*patients(), real_mvct(5, "train"), real_mvct(6, "validation")]
    settings = replace(SETTINGS, losses=SUPERVISED, warm_up_updates=0)
    card = load_generator(str(train(volumes, settings, tmp_path, "tiny"))).card
    assert card.training_domain.modality == "simulated MVCT" and card.training_domain.patients == 2
    assert card.limits and "1 conversions of 1 validation patients" in card.text


def test_a_phantom_among_the_images_is_no_patient_to_learn_from(tmp_path: Path) -> None:
    phantom = TrainingVolume("catphan", "train", cat_phantom(), CAT_PHANTOM_SPACING, domain="mvct")
    card = load_generator(str(train([*patients(), phantom], SETTINGS, tmp_path, "tiny"))).card
    assert card.training_domain.modality == "simulated MVCT"


def test_a_training_on_other_images_begins_anew(tmp_path: Path) -> None:
    train(patients(), replace(SETTINGS, updates=2), tmp_path, "tiny")
    others = [patient(7, "train"), *patients()[1:]]
    train(others, replace(SETTINGS, updates=2), tmp_path, "tiny")
    fresh = tmp_path / "fresh"
    train(others, replace(SETTINGS, updates=2), fresh, "tiny")
    expected, found = generator_of(fresh), generator_of(tmp_path)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_more_slices_than_there_are_are_refused_before_anything_is_simulated(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="500 slices were asked for, but the 2 training patients have"):
        train(patients(), replace(SETTINGS, slices=500), tmp_path, "tiny")
    assert not list(tmp_path.iterdir())


def test_two_volumes_of_one_patient_are_one_patient_of_the_evaluation(trained: Path, tmp_path: Path) -> None:
    again = replace(patient(5, "test"), patient_id="phantom_4")
    weights = str(trained / "tiny.safetensors")
    each = [evaluate(weights, [volume], tmp_path, comparators=False) for volume in (patient(4, "test"), again)]
    both = evaluate(weights, [patient(4, "test"), again], tmp_path, comparators=False)
    assert both["patients"] == 1.0
    assert both["mae_after_hu"] == pytest.approx((each[0]["mae_after_hu"] + each[1]["mae_after_hu"]) / 2)


@pytest.mark.parametrize("method", ["unpaired", "supervised"])
def test_a_method_has_settings_of_its_own(method: Method) -> None:
    settings = TrainingSettings.of_method(method, "cbct", updates=7)
    assert settings.method == method and settings.scans.modality == "cbct" and settings.updates == 7


def test_a_real_phantom_is_measured_before_and_after(trained: Path, tmp_path: Path) -> None:
    phantom = TrainingVolume("catphan", None, cat_phantom(), CAT_PHANTOM_SPACING, domain="mvct")
    weights = str(trained / "tiny.safetensors")
    figures = evaluate(weights, [phantom], tmp_path / "alone")
    assert figures["insert_mae_before_hu"] == pytest.approx(20.0, abs=2.0)
    assert figures["insert_mae_after_hu"] > 0.0 and figures["insert_phantoms"] == 1.0
    assert (tmp_path / "alone" / "inserts.png").exists()
    assert len((tmp_path / "alone" / "inserts.csv").read_text().splitlines()) == 1 + 7
    both = evaluate(weights, [*patients(), phantom], tmp_path / "both", comparators=False)
    assert both["insert_mae_after_hu"] == figures["insert_mae_after_hu"] and both["patients"] == 1.0
    assert "Inserts of 1 real phantom" in (tmp_path / "both" / "report.html").read_text()
