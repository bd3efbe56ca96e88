"""Calibration on made-up patients whose organs are known: what is usual, which limits, and who is held by them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.intensity import Mask
from models.organ_plausibility import POLICY, UNITS, plausibility_measures
from models.segmentation import Segmentation
from models.training.organ_volumes import OrganVolume, organ_volume
from models.training.segmentation_calibration import calibrate, calibrated, found_in
from models.training.volumes import Split, TrainingDataError, TrainingVolume
from models.weights import Card, load_card
from tests.models.segmenters import saved_segmenter
from tests.models.test_weights import FACTS

SPACING = (4.0, 4.0, 4.0)
SHAPE = (30, 36, 36)
BALLS = {
    "Brain": ((90.0, 72.0, 72.0), 24.0, 35.0),
    "Mandible": ((38.0, 40.0, 72.0), 14.0, 700.0),
    "Parotid_L": ((50.0, 70.0, 104.0), 13.0, -30.0),
    "Parotid_R": ((50.0, 70.0, 40.0), 13.0, -30.0),
}
"""Centre in mm from the first voxel, radius in mm, and HU."""
ORGANS = tuple(BALLS)


def patient(number: int, split: Split) -> OrganVolume:
    """A cylinder of fat with four balls, each in its place give or take a millimetre, in air."""
    rng = np.random.default_rng(number)
    places = np.indices(SHAPE).transpose(1, 2, 3, 0) * SPACING
    hu = np.where(np.hypot(places[..., 1] - 70.0, places[..., 2] - 70.0) <= 64.0, -100.0, -1000.0)
    masks = {}
    for organ, (centre, radius, value) in BALLS.items():
        middle = centre + rng.normal(0.0, 0.7, 3)
        masks[organ] = np.asarray(((places - middle) ** 2).sum(axis=-1) <= radius**2)
        hu[masks[organ]] = value + rng.normal(0.0, 8.0)
    hu += rng.normal(0.0, rng.uniform(8.0, 12.0), SHAPE)
    volume = TrainingVolume(f"made_{number}", split, np.asarray(hu, np.float32), SPACING)
    return organ_volume(volume, masks, ORGANS)


VALIDATION = [patient(number, "validation") for number in range(10, 16)]
TRAINING = [patient(number, "train") for number in (1, 2)]
SURE = dict.fromkeys(ORGANS, 0.9)


def perfect(one: OrganVolume) -> Segmentation:
    """What a network finds that makes no error."""
    return Segmentation(one.labels_zyx, one.organs, SURE, dict.fromkeys(one.organs, 0.05))


def uncalibrated() -> Card:
    return Card.model_validate({**FACTS, "name": "made", "sha256": "0" * 64, "text": "# made\n"})


@pytest.fixture(scope="module")
def card() -> Card:
    before = uncalibrated()
    found = [found_in(perfect(one)) for one in VALIDATION]
    return calibrated(before, TRAINING, [one.volume for one in VALIDATION], found)


def held_by(card: Card, one: OrganVolume, masks: dict[str, Mask]) -> set[str]:
    measures = plausibility_measures(card, one.volume.hu_zyx, SPACING, masks, SURE, masks, dict.fromkeys(masks, 0.05))
    limits = {**card.limits, **POLICY}
    return {name for name, value in measures.items() if value > limits[name].hold_above}


def test_the_card_has_a_limit_of_every_measure_and_says_where_they_come_from(card: Card) -> None:
    assert set(card.limits) | set(POLICY) >= {
        *("organ_shift_sd", "organ_misfit_sd", "organ_hu_departure_sd", "piece_apart_ml", "look_disagreement"),
        *("missing_organ_part", "sides_swapped", "input_noise_hu", "metal_part", "truncated_part"),
    }
    assert set(card.limits) <= set(UNITS) and not set(card.limits) & set(POLICY)
    assert set(card.organ_places_mm) == set(card.organ_surroundings_hu) == set(ORGANS)
    assert "in 6 validation patients" in card.text and "the 2 training patients" in card.text
    assert card.limits["look_disagreement"].hold_above == pytest.approx(0.05, rel=1e-3)


def test_organs_that_lie_where_they_should_are_not_held_and_those_that_do_not_are(card: Card) -> None:
    one = patient(20, "test")
    masks = one.masks()
    assert held_by(card, one, masks) == set()
    shifted = {organ: np.roll(mask, 2, axis=1) for organ, mask in masks.items()}
    assert "organ_shift_sd" in held_by(card, one, shifted)
    assert "missing_organ_part" in held_by(card, one, {**masks, "Mandible": np.zeros_like(masks["Mandible"])})
    exchanged = {**masks, "Parotid_L": masks["Parotid_R"], "Parotid_R": masks["Parotid_L"]}
    assert "sides_swapped" in held_by(card, one, exchanged)
    crumb = masks["Brain"].copy()
    crumb[0, 18, 18] = True
    assert held_by(card, one, {**masks, "Brain": crumb}) == {"piece_apart_ml", "stray_part"}


def test_a_patient_is_held_against_the_others_and_not_against_himself() -> None:
    odd = VALIDATION[0].volume
    brain = VALIDATION[0].masks()["Brain"]
    images = [replace(odd, hu_zyx=np.where(brain, 400.0, odd.hu_zyx)), *(one.volume for one in VALIDATION[1:])]
    card = calibrated(uncalibrated(), TRAINING, images, [found_in(perfect(one)) for one in VALIDATION])
    # Six values with one far off: against a mean and SD of all, none could depart by more than 2.04 SD.
    assert card.limits["organ_hu_departure_sd"].hold_above > 5.0


def test_what_is_found_apart_is_kept_only_where_it_is_wanted() -> None:
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[0, 0, :4], labels[3, 7, 7] = 1, 1
    organs = Segmentation(labels, ("Brain",), {"Brain": 0.9})
    assert found_in(organs).kept["Brain"].sum() == 4
    assert found_in(organs, one_piece=False).kept["Brain"].sum() == found_in(organs).masks["Brain"].sum() == 5


def test_weights_are_calibrated_with_what_they_find_and_three_patients_are_too_few(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path)
    calibrate(weights, [*TRAINING, *VALIDATION[:4]], mirror=True)
    card = load_card(weights)
    assert "in 4 validation patients" in card.text
    assert card.limits["look_disagreement"].hold_above > 0.0
    with pytest.raises(TrainingDataError, match="need 4 validation patients or more; the data have 3"):
        calibrate(weights, [*TRAINING, *VALIDATION[:3]])
