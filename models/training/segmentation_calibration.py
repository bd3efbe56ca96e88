"""What is usual for the organs that a network finds, and from where on it is not: measured on validation patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.engines import has_bf16
from models.inference import nobody
from models.intensity import Mask
from models.organ_alignment import Alignment, alignment, usual_alignment
from models.organ_finder import load_organ_finder
from models.organ_places import places, usual_places
from models.organ_plausibility import POLICY, plausibility_measures, usual_organ_hu
from models.organ_sides import pieces_of
from models.organ_surroundings import Surface, surfaces, surroundings, usual_surroundings
from models.segmentation import Segmentation, largest_pieces
from models.training.calibration import with_least_limits, with_section
from models.training.measured_limits import measured_limits
from models.training.organ_volumes import OrganVolume
from models.training.progress import CountedProgress, Progress
from models.training.segmentation import of_split
from models.training.segmentation_card import HEIGHT_LIMITS
from models.training.volumes import TrainingDataError, TrainingVolume
from models.weights import Card, card_path, write_card

_FEWEST = 4
"""Of whom one can be held against the others, and the others still have a spread."""
_TEXT = """\
Of what the network finds in {cases} validation patients, none of whom it learnt from; each was held against what is
usual in the others. Flag: the normal prediction bound of 99 % of new patients, for each measure. Hold: the normal
tolerance bound of 99.5 % of all patients with 95 % confidence, and at least the largest value seen. Where organs lie
along the patient is of what was drawn in the {training} training patients. By policy: left organs on the right are
held; an organ that was not found is flagged where any of its usual height must be in the scan, and held where more than
half of it must; a scan that is shorter than any of the training is flagged, and held if 30 mm are missing; so are
limits of the spacing, and the least limit of truncation.
Measured again by `rtnode evaluate PIPELINE --data DIR --calibrate`.
"""


@dataclass(frozen=True)
class Found:
    """What a network found in one image."""

    masks: dict[str, Mask]
    """By organ, as found."""
    kept: dict[str, Mask]
    """By organ, as written."""
    mean_probability: dict[str, float]
    look_disagreement: Mapping[str, float] | None


@dataclass(frozen=True)
class _Patient:
    image: TrainingVolume
    found: Found
    surfaces: dict[str, Surface]


def calibrate(
    weights: str,
    volumes: Sequence[OrganVolume],
    mirror: bool = False,
    one_piece: bool = True,
    progress: Progress = nobody,
) -> Card:
    """Find the organs of the validation patients; write what is usual and the limits into the card, its section too.

    Organs are found and kept as by a pipeline with the same settings. Test patients are not looked at.

    Raises
    ------
    TrainingDataError
        If there are fewer than four validation patients, from whom no spread can be told.
    models.weights.WeightsError
        As of `models.organ_finder.load_organ_finder`.
    """
    validation = of_split(volumes, "validation")
    if len(validation) < _FEWEST:
        raise TrainingDataError(f"limits need {_FEWEST} validation patients or more; the data have {len(validation)}")
    model = load_organ_finder(weights, bf16=has_bf16(), mirror=mirror)
    done = CountedProgress(len(validation), "measuring limits", progress)
    found: list[Found] = []
    for one in validation:
        organs = model.find(one.volume.hu_zyx, one.volume.spacing_zyx_mm)
        found.append(found_in(organs, one_piece))
        done()
    card = calibrated(model.card, of_split(volumes, "train"), [one.volume for one in validation], found)
    write_card(card_path(weights), card)
    return card


def found_in(organs: Segmentation, one_piece: bool = True) -> Found:
    """With what is kept of the masks: with `one_piece` the largest piece, of a pair under one name two."""
    masks = organs.masks()
    kept = {organ: largest_pieces(mask, pieces_of(organ)) if one_piece else mask for organ, mask in masks.items()}
    return Found(masks, kept, dict(organs.mean_probability), organs.look_disagreement)


def calibrated(
    card: Card, training: Sequence[OrganVolume], validation: Sequence[TrainingVolume], found: Sequence[Found]
) -> Card:
    """The card with what is usual and the limits, from what was found in each of the validation images.

    What is usual for the limits is that of the other patients: a patient who helped to say what is usual departs less
    from it than the next one will.
    """
    patients = [_patient(image, one) for image, one in zip(validation, found, strict=True)]
    drawn = usual_places([places(one.masks(), one.volume.spacing_zyx_mm[0]) for one in training])
    # Each has an origin of its own: places of the two do not mix.
    of_found = [places(one.kept, image.spacing_zyx_mm[0]) for image, one in zip(validation, found, strict=True)]
    placed = card.model_copy(update={"organ_places_mm": drawn or usual_places(of_found)})
    lies = [alignment(one.surfaces, usual_surroundings(_around(_others(patients, one)))) for one in patients]
    knowing = [
        _with_usual(placed, _others(patients, patient), [*lies[:number], *lies[number + 1 :]])
        for number, patient in enumerate(patients)
    ]
    measures = [_measured(of, patient) for of, patient in zip(knowing, patients, strict=True)]
    limits = with_least_limits(measured_limits([[one] for one in measures]))
    text = with_section(card.text, _TEXT.format(cases=len(patients), training=len(training)))
    kept_limits = {name: limit for name, limit in limits.items() if name not in POLICY}
    return _with_usual(placed, patients, lies).model_copy(
        update={"limits": {**kept_limits, "height_missing_mm": HEIGHT_LIMITS}, "text": text}
    )


def _patient(image: TrainingVolume, found: Found) -> _Patient:
    return _Patient(image, found, surfaces(image.hu_zyx, found.kept, image.spacing_zyx_mm))


def _others(patients: Sequence[_Patient], patient: _Patient) -> list[_Patient]:
    return [one for one in patients if one is not patient]


def _around(patients: Sequence[_Patient]) -> list[dict[str, tuple[float | None, ...]]]:
    return [{organ: surroundings(surface) for organ, surface in one.surfaces.items()} for one in patients]


def _with_usual(card: Card, patients: Sequence[_Patient], lies: Sequence[Alignment | None]) -> Card:
    """The card with what is usual in these patients."""
    usual = {
        **usual_organ_hu([(one.image.hu_zyx, one.found.kept) for one in patients]),
        **usual_alignment([lie for lie in lies if lie is not None]),
    }
    return card.model_copy(update={"usual": usual, "organ_surroundings_hu": usual_surroundings(_around(patients))})


def _measured(card: Card, patient: _Patient) -> dict[str, float]:
    image, found = patient.image, patient.found
    return plausibility_measures(
        card,
        image.hu_zyx,
        image.spacing_zyx_mm,
        found.masks,
        found.mean_probability,
        found.kept,
        found.look_disagreement,
    )
