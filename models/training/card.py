"""The card of freshly trained weights: training domain, stability limits and the text for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from models.cyclegan import Architecture
from models.inference import EnhancementModel, enhanced, load_generator
from models.intensity import Hu, Mask
from models.limits import Limits
from models.metrics import mae_hu
from models.stability_measures import domain_measures, stability_measures
from models.training.kept_pairs import kept_pair, read_pair
from models.training.pairs import MODALITY_NAMES, Modality, Scans
from models.training.slices import TrainingImage
from models.training.volumes import TrainingVolume, of_split
from models.weights import Card, TrainingDomain, save, write_card

METHODS: Mapping[str, str] = {"unpaired": "cyclegan", "supervised": "supervised"}
"""What a card calls the method of a training."""

_FLAG_PERCENTILE = 95.0
_HELD_BEYOND, _CONFIDENCE = 0.995, 0.95
_NOISE_REALISATIONS = 2
_SPACING_LIMITS = Limits(flag_above=0.0, hold_above=0.5)
"""Policy, not measured: images just outside the trained spacing are labelled, others wait for a person."""

_METRICS_HEADING = "## Metrics\n\n"
_RUN_FIGURES = ("seconds_per_slice", "seconds_per_slice_sd", "patients", "peak_memory_gib")

SIMULATED = "simulated"
"""Folder beside the weights where the simulated images of their training are kept."""

_TEXT = """\
# {name}

**{origin}** {pairing}

## Intended use

Research. Converts {modality} to the appearance of planning CT on the same grid.

## Data

{patients} training patients, {slices} slices; {updates} updates of {batch} crops of {crop} pixels, seed {seed}.
{validated}

## Stability limits

Flag: the {flag:g}th percentile of each measure over {cases} conversions of {validation} validation patients.
Hold: the normal tolerance bound of {held:g} % of all patients with {confidence:g} % confidence, and at least the
largest value seen.
"""


_VALIDATED = (
    "On the validation patients the mean absolute error inside the body goes from {before:.1f} to {after:.1f} HU."
)
_FAILED = "**The training failed: this model makes the error of its input larger. Do not use it.**"

_ORIGINS = {
    True: "Trained on simulated {modality}: no image of such a machine was ever seen.",
    False: "Trained on real {modality}, whose truth nobody knows.",
}
_PAIRINGS = {
    "unpaired": "Unpaired: the {modality} and the planning CT of one update are of different patients.",
    "supervised": "Supervised: the planning CT that each {modality} was simulated from is the truth.",
}


@dataclass(frozen=True)
class Origin:
    """Where the sparse images of a training come from."""

    domain: TrainingDomain
    is_simulated: bool


class _Settings(Protocol):
    """What the card says about a training run."""

    @property
    def updates(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def crop_pixels(self) -> int: ...
    @property
    def window_hu(self) -> tuple[float, float]: ...
    @property
    def scans(self) -> Scans: ...
    @property
    def method(self) -> str: ...
    @property
    def working_spacing_mm(self) -> float | None: ...
    @property
    def architecture(self) -> Architecture: ...


def finished_weights(
    generator: nn.Module,
    settings: _Settings,
    origin: Origin,
    volumes: Sequence[TrainingVolume],
    path: Path,
    progress: Callable[[float, str], None],
) -> Path:
    """Write weights and card; limits are measured with the weights as they were written."""
    facts = {
        "method": METHODS[settings.method],
        "architecture": asdict(settings.architecture),
        "window_hu": settings.window_hu,
        "working_spacing_mm": settings.working_spacing_mm,
        "training_domain": origin.domain,
    }
    card = save(path, generator.state_dict(), facts, "")
    model = load_generator(str(path))
    validation = _of_one_kind(of_split(volumes, "validation"), settings.scans.modality, origin)
    judged = _judged_patients(model, validation, settings, path.parent / SIMULATED)
    progress(1.0, "measuring limits")
    limits = measured_limits([[case.measures for case in cases] for cases in judged])
    text = _text(card, settings, origin, judged)
    write_card(path.with_suffix(".md"), card.model_copy(update={"limits": limits, "text": text}))
    return path


def record_evaluation(
    card_path: Path,
    card: Card,
    figures: Mapping[str, float],
    text: str,
    of_model: Callable[[str], bool] | None = None,
) -> Card:
    """Write an evaluation into a card: figures of input and model into the front matter, its text below a heading.

    Filters, truth and noise floor are in the text; as figures of the model they would be mistaken for it. `of_model`
    tells by name which figures are the model's; None: as an evaluation of an enhancement names them.
    """
    whole = card.text.split(_METRICS_HEADING)[0].rstrip("\n") + f"\n\n{_METRICS_HEADING}{text}"
    own = {name: float(f"{value:.4g}") for name, value in figures.items() if (of_model or _of_model)(name)}
    recorded = card.model_copy(update={"metrics": own, "text": whole})
    write_card(card_path, recorded)
    return recorded


def training_domain(
    modality: str, images: Sequence[TrainingImage], spacings_zyx_mm: Sequence[tuple[float, float, float]]
) -> TrainingDomain:
    """What the sparse images, each with its spacing, have in common; images of which no slice is used are left out."""
    used = [(i, mm) for i, mm in zip(images, spacings_zyx_mm, strict=True) if i.drawn_slices()]
    means = [float(image.hu_zyx[image.body].mean()) for image, _ in used]
    pixels = [mm for _, spacing in used for mm in spacing[1:]]
    slices = [spacing[0] for _, spacing in used]
    return TrainingDomain(
        modality=modality,
        pixel_spacing_mm=(round(min(pixels), 3), round(max(pixels), 3)),
        slice_spacing_mm=(round(min(slices), 3), round(max(slices), 3)),
        body_mean_hu=round(float(np.mean(means)), 2),
        body_mean_sd_hu=round(float(np.std(means)), 2),
        patients=len({image.patient_id for image, _ in used}),
        slices=sum(len(image.drawn_slices()) for image, _ in used),
    )


def measured_limits(by_patient: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, Limits]:
    """Limits of every measure, from its values in the images of each validation patient; empty without patients.

    Flagged is what lies above the 95th percentile of the images; held, what lies above a bound that holds 99.5 % of all
    patients with a confidence of 95 %, if the largest value of a patient is normally distributed over patients. However
    many images a patient has, it is one patient.

    Without a limit the gate holds every result, as nobody knows what is normal.
    """
    if not by_patient:
        return {}
    names = by_patient[0][0]
    limits = {name: _limits([[image[name] for image in images] for images in by_patient]) for name in names}
    return {**limits, "pixel_spacing_outside_mm": _SPACING_LIMITS, "slice_spacing_outside_mm": _SPACING_LIMITS}


@dataclass(frozen=True)
class _Image:
    """What a model is judged on."""

    hu_zyx: Hu
    spacing_zyx_mm: tuple[float, float, float]
    truth: tuple[Hu, Mask] | None = None
    """Of a simulated one: the planning CT, and the body as far as the scanner saw it."""


@dataclass(frozen=True)
class _Judged:
    """What the model makes of one image."""

    measures: Mapping[str, float]
    mae_before_hu: float
    """NaN where there is no truth."""
    mae_after_hu: float


def _of_one_kind(
    validation: Sequence[TrainingVolume], modality: Modality, origin: Origin
) -> Sequence[TrainingVolume]:  # fmt: skip
    """The real images of the modality where there are any.

    Else planning CT, of which images are simulated; but what simulated images say of a model that was trained on real
    ones is no limit for real ones.
    """
    real = [volume for volume in validation if volume.domain == modality]
    return real or (validation if origin.is_simulated else ())


def _judged_patients(
    model: EnhancementModel, validation: Sequence[TrainingVolume], settings: _Settings, folder: Path
) -> list[list[_Judged]]:
    """What the model makes of the images of each patient.

    Of each planning CT these are two simulated ones.
    """
    by_patient: dict[str, list[_Judged]] = {}
    for volume in validation:
        is_real = volume.domain == settings.scans.modality
        images = [_Image(volume.hu_zyx, volume.spacing_zyx_mm)] if is_real else _simulated(volume, settings, folder)
        by_patient.setdefault(volume.patient_id, []).extend(_judged(model, image) for image in images)
    return list(by_patient.values())


def _simulated(volume: TrainingVolume, settings: _Settings, folder: Path) -> list[_Image]:
    seeds = range(settings.seed + 1, settings.seed + 1 + _NOISE_REALISATIONS)
    pairs = [read_pair(kept_pair(volume, settings.scans, number, folder)) for number in seeds]
    return [_Image(pair.sparse_hu_zyx, volume.spacing_zyx_mm, (pair.volume.hu_zyx, pair.body)) for pair in pairs]


def _judged(model: EnhancementModel, image: _Image) -> _Judged:
    output = enhanced(model, image.hu_zyx, image.spacing_zyx_mm)
    measures = {
        **stability_measures(image.hu_zyx, output, image.spacing_zyx_mm),
        **domain_measures(model.card.training_domain, image.hu_zyx, image.spacing_zyx_mm),
    }
    if image.truth is None:
        return _Judged(measures, np.nan, np.nan)
    return _Judged(measures, *(mae_hu(hu_zyx, *image.truth) for hu_zyx in (image.hu_zyx, output)))


def _validated(judged: Sequence[_Judged]) -> str:
    """Whether the training was of any use, in a sentence; empty where nobody knows the truth."""
    before, after = (np.array([getattr(one, name) for one in judged]) for name in ("mae_before_hu", "mae_after_hu"))
    if not len(judged) or np.isnan(before).any():
        return ""
    said = _VALIDATED.format(before=before.mean(), after=after.mean())
    return said if after.mean() < before.mean() else f"{_FAILED} {said}"


def _limits(by_patient: Sequence[Sequence[float]]) -> Limits:
    """Of one measure."""
    flag = float(np.percentile([value for values in by_patient for value in values], _FLAG_PERCENTILE))
    largest = np.array([max(values) for values in by_patient])
    hold = max(tolerance_bound(largest), float(largest.max()))
    return Limits(flag_above=_rounded_up(flag), hold_above=_rounded_up(hold))


def tolerance_bound(values: NDArray[np.float64], part: float = _HELD_BEYOND, confidence: float = _CONFIDENCE) -> float:
    """The one-sided upper tolerance bound of a normal sample: above `part` of all cases, with this confidence.

    A percentile of a dozen patients is the largest that was seen, and every twelfth new patient would pass it.

    References
    ----------
    NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.6.3: k from the non-central t distribution
    """
    n = len(values)
    if n < 2:
        return float(values.max())
    k = stats.nct.ppf(confidence, n - 1, stats.norm.ppf(part) * np.sqrt(n)) / np.sqrt(n)
    return float(values.mean() + k * values.std(ddof=1))


def _rounded_up(value: float) -> float:
    """To four digits, never below the value: a case that was measured stays within."""
    if value <= 0.0:
        return 0.0
    unit = 10.0 ** (np.floor(np.log10(value)) - 3)
    return float(f"{np.ceil(value / unit) * unit:.6g}")


def _text(card: Card, settings: _Settings, origin: Origin, judged: Sequence[Sequence[_Judged]]) -> str:
    modality: Modality = settings.scans.modality
    facts: dict[str, Any] = {
        "name": card.name,
        "origin": _ORIGINS[origin.is_simulated].format(modality=MODALITY_NAMES[modality]),
        "pairing": _PAIRINGS[settings.method].format(modality=MODALITY_NAMES[modality]),
        "modality": card.training_domain.modality,
        "patients": card.training_domain.patients,
        "slices": card.training_domain.slices,
        "updates": settings.updates,
        "batch": settings.batch,
        "crop": settings.crop_pixels,
        "seed": settings.seed,
        "validated": _validated([image for images in judged for image in images]),
        "flag": _FLAG_PERCENTILE,
        "held": 100 * _HELD_BEYOND,
        "confidence": 100 * _CONFIDENCE,
        "validation": len(judged),
        "cases": sum(map(len, judged)),
    }
    return _TEXT.format_map(facts)


def _of_model(figure: str) -> bool:
    parts = figure.split("_")
    return "before" in parts or "after" in parts or figure in _RUN_FIGURES
