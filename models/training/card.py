"""The card of freshly trained weights: training domain, stability limits and the text for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from models.cyclegan import Architecture
from models.inference import load_generator
from models.training.calibration import JudgedImage, judged_patients, of_one_kind, usual_and_limits
from models.training.measured_limits import CONFIDENCE, FLAGGED_BEYOND, HELD_BEYOND
from models.training.pairs import MODALITY_NAMES, Modality, Scans
from models.training.slices import TrainingImage
from models.training.volumes import TrainingVolume, of_split
from models.weights import Card, TrainingDomain, save, write_card

METHODS: Mapping[str, str] = {"unpaired": "cyclegan", "supervised": "supervised"}
"""What a card calls the method of a training."""


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

Over {cases} conversions of {validation} validation patients. Flag: the normal prediction bound of {flag:g} % of new
patients, for each measure.
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
    validation = of_one_kind(of_split(volumes, "validation"), settings.scans.modality, origin.is_simulated)
    judged = judged_patients(model, validation, settings.scans, settings.seed, path.parent / SIMULATED)
    progress(1.0, "measuring limits")
    usual, limits = usual_and_limits(judged)
    text = _text(card, settings, origin, judged)
    write_card(path.with_suffix(".md"), card.model_copy(update={"usual": usual, "limits": limits, "text": text}))
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


def _validated(judged: Sequence[JudgedImage]) -> str:
    """Whether the training was of any use, in a sentence; empty where nobody knows the truth."""
    before, after = (np.array([getattr(one, name) for one in judged]) for name in ("mae_before_hu", "mae_after_hu"))
    if not len(judged) or np.isnan(before).any():
        return ""
    said = _VALIDATED.format(before=before.mean(), after=after.mean())
    return said if after.mean() < before.mean() else f"{_FAILED} {said}"


def _text(card: Card, settings: _Settings, origin: Origin, judged: Sequence[Sequence[JudgedImage]]) -> str:
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
        "flag": 100 * FLAGGED_BEYOND,
        "held": 100 * HELD_BEYOND,
        "confidence": 100 * CONFIDENCE,
        "validation": len(judged),
        "cases": sum(map(len, judged)),
    }
    return _TEXT.format_map(facts)


def _of_model(figure: str) -> bool:
    parts = figure.split("_")
    return "before" in parts or "after" in parts or figure in _RUN_FIGURES
