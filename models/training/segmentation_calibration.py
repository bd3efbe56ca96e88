"""What is usual for the organs that a network finds, and from where on it is not: measured on validation patients."""

from collections.abc import Sequence
from typing import TypeAlias

from models.inference import nobody
from models.intensity import Mask
from models.organ_finder import load_organ_finder
from models.organ_plausibility import POLICY, plausibility_measures, usual_organs
from models.training.calibration import with_section
from models.training.measured_limits import measured_limits
from models.training.organ_volumes import OrganVolume
from models.training.progress import CountedProgress, Progress
from models.training.segmentation import of_split
from models.training.segmentation_card import HEIGHT_LIMITS, LIMITS_TEXT
from models.training.volumes import TrainingDataError
from models.weights import Card, card_path, write_card

Found: TypeAlias = tuple[dict[str, Mask], dict[str, float]]
"""Masks and mean probabilities, by organ."""


def calibrate(weights: str, volumes: Sequence[OrganVolume], mirror: bool = False, progress: Progress = nobody) -> Card:
    """Find the organs of the validation patients; write what is usual and the limits into the card, its section too.

    Raises
    ------
    TrainingDataError
        If there are fewer than two validation patients, from whom no spread can be told.
    models.weights.WeightsError
        As of `models.organ_finder.load_organ_finder`.
    """
    validation = of_split(volumes, "validation")
    if len(validation) < 2:
        raise TrainingDataError("limits need two validation patients or more; the data have fewer")
    model = load_organ_finder(weights, bf16=True, mirror=mirror)
    done = CountedProgress(len(validation), "measuring limits", progress)
    found: list[Found] = []
    for one in validation:
        organs = model.find(one.volume.hu_zyx, one.volume.spacing_zyx_mm)
        found.append((organs.masks(), dict(organs.mean_probability)))
        done()
    card = calibrated(model.card, validation, found)
    write_card(card_path(weights), card)
    return card


def calibrated(card: Card, validation: Sequence[OrganVolume], found: Sequence[Found]) -> Card:
    """The card with what is usual and the limits, from what was found in each of the volumes."""
    images = [one.volume for one in validation]
    usual = usual_organs([(image.hu_zyx, masks) for image, (masks, _) in zip(images, found, strict=True)])
    knowing = card.model_copy(update={"usual": usual})
    measures = [
        plausibility_measures(knowing, image.hu_zyx, image.spacing_zyx_mm, masks, sure)
        for image, (masks, sure) in zip(images, found, strict=True)
    ]
    limits = {name: limit for name, limit in measured_limits([[one] for one in measures]).items() if name not in POLICY}
    text = with_section(card.text, LIMITS_TEXT.format(cases=len(images)))
    return knowing.model_copy(update={"limits": {**limits, "height_missing_mm": HEIGHT_LIMITS}, "text": text})
