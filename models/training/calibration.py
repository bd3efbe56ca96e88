"""What is usual for an enhancement, and from where on it is not: measured on the images of the validation patients."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.enhancement_measures import against_usual, input_measured, output_changes, usual_changes
from models.feature_domain import Vector, fitted_domain, left_out_distances, write_domain
from models.inference import EnhancementModel, enhanced, load_generator, nobody
from models.intensity import Hu, Mask
from models.limits import Limits
from models.metrics import mae_hu
from models.training.kept_pairs import kept_pair, read_pair
from models.training.measured_limits import CONFIDENCE, FLAGGED_BEYOND, HELD_BEYOND, measured_limits
from models.training.pairs import MODALITY_NAMES, Modality, Scans
from models.training.progress import CountedProgress, Progress, part
from models.training.volumes import TrainingDataError, TrainingVolume, of_split
from models.weights import Card, card_path, domain_path, load_card, witness_of, witness_path, write_card
from models.witness import Witness, load_witness

_NOISE_REALISATIONS = 2
_DOMAIN = "feature_distance"
_DOMAIN_PERCENTILE = 99.0
_FEWEST_FOR_DOMAIN = 10
_SEED = 0
LEAST_LIMITS: Mapping[str, Limits] = {
    "muscle_departure_hu": Limits(flag_above=5.0, hold_above=10.0),
    "fat_departure_hu": Limits(flag_above=10.0, hold_above=20.0),
    "bone_departure_hu": Limits(flag_above=20.0, hold_above=40.0),
    "contrast_departure": Limits(flag_above=0.015, hold_above=0.03),
    "skin_steepness_departure": Limits(flag_above=0.05, hold_above=0.1),
    "metal_ml": Limits(flag_above=0.5, hold_above=2.0),
    "truncated_part": Limits(flag_above=0.01, hold_above=0.03),
}
"""Policy, not measured: below these nothing is wrong with an image, however much alike a few patients were."""
_HEADING = "## Stability limits\n\n"

_TEXT = """\
In the front matter, over {cases} conversions of {patients} validation patients ({origin}). Flag: the normal prediction
bound of {flag:g} % of new patients, for each measure. Hold: the normal tolerance bound of {held:g} % of all patients
with {confidence:g} % confidence, and at least the largest value seen. What became of fat, muscle, bone and the skin is
held against its mean over these patients. Those of the spacing are policy, not measured, and so are least limits of
tissue HU, skin, metal and truncation, where the patients were more alike than matters. {witness}{domain}Measured again
by `rtnode evaluate PIPELINE --data DIR --calibrate`."""
_WITNESS_TEXT = "Results are judged against the witness {name} (models/witness.py). "
_DOMAIN_TEXT = (
    "The distance of the network's features is to {images} training images; it is flagged above the {percentile:g}th "
    "percentile of these, each against the others. "
)
_COLUMNS = 120


@dataclass(frozen=True)
class ValidationImage:
    """What a model is judged on."""

    hu_zyx: Hu
    spacing_zyx_mm: tuple[float, float, float]
    truth: tuple[Hu, Mask] | None = None
    """Of a simulated one: the planning CT, and the body as far as the scanner saw it."""


@dataclass(frozen=True)
class JudgedImage:
    """What the model makes of one image."""

    measures: Mapping[str, float]
    """Of the input alone."""
    changes: Mapping[str, float]
    """Of output against input; of the tissues signed."""
    features: Vector
    mae_before_hu: float = float("nan")
    """NaN where there is no truth."""
    mae_after_hu: float = float("nan")


def judged_patients(
    model: EnhancementModel,
    validation: Sequence[TrainingVolume],
    scans: Scans,
    seed: int,
    folder: Path,
    progress: Progress = nobody,
) -> list[list[JudgedImage]]:
    """What the model makes of the images of each patient; of each planning CT two are simulated, kept in the folder."""
    by_patient: dict[str, list[JudgedImage]] = {}
    done = CountedProgress(len(validation), "measuring limits", progress)
    for volume in validation:
        is_real = volume.domain == scans.modality
        images = [_real(volume)] if is_real else _simulated(volume, scans, seed, folder)
        by_patient.setdefault(volume.patient_id, []).extend(_judged(model, image) for image in images)
        done()
    return list(by_patient.values())


def usual_and_limits(judged: Sequence[Sequence[JudgedImage]]) -> tuple[dict[str, float], dict[str, Limits]]:
    """What becomes of tissues, and the limits of every measure; both empty without patients."""
    usual = usual_changes([image.changes for images in judged for image in images])
    whole = [[{**image.measures, **against_usual(image.changes, usual)} for image in images] for images in judged]
    return usual, with_least_limits(measured_limits(whole))


def with_least_limits(limits: Mapping[str, Limits]) -> dict[str, Limits]:
    """The limits, none of them below the least."""
    floors = {name: LEAST_LIMITS.get(name, limit) for name, limit in limits.items()}
    return {
        name: Limits(
            flag_above=max(limit.flag_above, floors[name].flag_above),
            hold_above=max(limit.hold_above, floors[name].hold_above),
        )
        for name, limit in limits.items()
    }


def of_one_kind(
    volumes: Sequence[TrainingVolume], modality: Modality, may_simulate: bool
) -> list[TrainingVolume]:  # fmt: skip
    """The real images of the modality where there are any.

    Else planning CT, of which images are simulated; but what simulated images say of a model that was trained on real
    ones is no limit for real ones.
    """
    real = [volume for volume in volumes if volume.domain == modality]
    return real or [volume for volume in volumes if may_simulate and volume.domain == "planning_ct"]


def calibrate(
    weights: str,
    volumes: Sequence[TrainingVolume],
    scans: Scans,
    folder: Path,
    progress: Progress = nobody,
) -> Card:
    """Measure what is usual and the limits again, and write them into the card, its section on them too.

    Weights that have a witness beside them, NAME_witness, are judged by it from then on.

    Limits come from the validation patients, the domain of the features from the training patients; test patients
    are not looked at. Where the volumes have real images of the modality these count, else they are simulated; what
    is simulated is kept in the folder. With fewer than ten training images there is no domain, and no finding of it.

    Raises
    ------
    TrainingDataError
        If there are fewer than two validation patients, from whom no spread can be told.
    models.weights.WeightsError
        If the weights can not be used.
    """
    model = load_generator(weights, judging=False)
    witness = witness_beside(weights, model.card.sha256)
    model = dataclasses.replace(model, witness=witness)
    is_simulated = model.card.training_domain.modality.startswith("simulated")
    validation = of_one_kind(of_split(volumes, "validation"), scans.modality, is_simulated)
    if len({volume.patient_id for volume in validation}) < 2:
        raise TrainingDataError("limits need two validation patients or more; the data have fewer")
    training = of_one_kind(of_split(volumes, "train"), scans.modality, is_simulated)
    features = _features(model, training, scans, folder, part(progress, 0.0, 0.6))
    judged = judged_patients(model, validation, scans, _SEED, folder, part(progress, 0.6, 1.0))
    usual, limits = usual_and_limits(judged)
    sha256 = None
    if len(features) >= _FEWEST_FOR_DOMAIN:
        domain = fitted_domain(features)
        of_patients = [[{_DOMAIN: domain.distance(image.features)} for image in images] for images in judged]
        limits[_DOMAIN] = _domain_limits(measured_limits(of_patients)[_DOMAIN], features)
        sha256 = write_domain(domain_path(weights), domain)
    text = with_section(model.card.text, _said(model, judged, validation, len(features) if sha256 else 0, scans))
    found = {"usual": usual, "limits": limits, "domain_sha256": sha256, "text": text}
    card = model.card.model_copy(update={**found, "witness_sha256": None if witness is None else witness.card.sha256})
    write_card(card_path(weights), card)
    return card


def witness_beside(weights: str, sha256: str) -> Witness | None:
    """The witness that lies beside such weights, of this SHA-256; None where there is none.

    Raises
    ------
    TrainingDataError
        If it was trained on what other weights make.
    """
    if not witness_path(weights).exists():
        return None
    name = witness_of(weights)
    card = load_card(name)
    if card.judged_sha256 != sha256:
        raise TrainingDataError(f"the witness {name} was trained for other weights; train it anew, or take it away")
    return load_witness(name, card.sha256)


def _domain_limits(measured: Limits, features: Sequence[Vector]) -> Limits:
    flag = round(float(np.percentile(left_out_distances(features), _DOMAIN_PERCENTILE)), 4)
    return Limits(flag_above=flag, hold_above=max(measured.hold_above, flag))


def _features(
    model: EnhancementModel, training: Sequence[TrainingVolume], scans: Scans, folder: Path, progress: Progress
) -> list[Vector]:
    done = CountedProgress(len(training), "measuring the training images", progress)
    found = []
    for volume in training:
        is_real = volume.domain == scans.modality
        image = _real(volume) if is_real else _of_pair(volume, kept_pair(volume, scans, _SEED, folder))
        found.append(input_measured(model, image.hu_zyx, image.spacing_zyx_mm).features)
        done()
    return found


def _real(volume: TrainingVolume) -> ValidationImage:
    return ValidationImage(volume.hu_zyx, volume.spacing_zyx_mm)


def _simulated(volume: TrainingVolume, scans: Scans, seed: int, folder: Path) -> list[ValidationImage]:
    seeds = range(seed + 1, seed + 1 + _NOISE_REALISATIONS)
    return [_of_pair(volume, kept_pair(volume, scans, number, folder)) for number in seeds]


def _of_pair(volume: TrainingVolume, path: Path) -> ValidationImage:
    pair = read_pair(path)
    return ValidationImage(pair.sparse_hu_zyx, volume.spacing_zyx_mm, (pair.volume.hu_zyx, pair.body))


def _judged(model: EnhancementModel, image: ValidationImage) -> JudgedImage:
    output = enhanced(model, image.hu_zyx, image.spacing_zyx_mm)
    given = input_measured(model, image.hu_zyx, image.spacing_zyx_mm)
    # Not what the writer meant: HU are written as whole numbers.
    changes = output_changes(given, image.hu_zyx, np.round(output), image.spacing_zyx_mm)
    if image.truth is None:
        return JudgedImage(given.measures, changes, given.features)
    errors = (mae_hu(hu_zyx, *image.truth) for hu_zyx in (image.hu_zyx, output))
    return JudgedImage(given.measures, changes, given.features, *errors)


def _said(
    model: EnhancementModel,
    judged: Sequence[Sequence[JudgedImage]],
    validation: Sequence[TrainingVolume],
    images: int,
    scans: Scans,
) -> str:
    is_real = all(volume.domain == scans.modality for volume in validation)
    said = _TEXT.format(
        cases=sum(map(len, judged)),
        patients=len(judged),
        origin=f"{'real' if is_real else 'simulated'} {MODALITY_NAMES[scans.modality]}",
        flag=100 * FLAGGED_BEYOND,
        held=100 * HELD_BEYOND,
        confidence=100 * CONFIDENCE,
        witness="" if model.witness is None else _WITNESS_TEXT.format(name=model.witness.card.name),
        domain=_DOMAIN_TEXT.format(images=images, percentile=_DOMAIN_PERCENTILE) if images else "",
    )
    return f"{textwrap.fill(said, _COLUMNS, break_on_hyphens=False)}\n"


def with_section(text: str, said: str) -> str:
    """The text of a card with this as its section on limits."""
    before, found, rest = text.partition(_HEADING)
    if not found:
        return f"{text.rstrip()}\n\n{_HEADING}{said}"
    _, next_heading, after = rest.partition("\n## ")
    return f"{before}{_HEADING}{said}{next_heading}{after}"
