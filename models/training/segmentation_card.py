"""The card of a freshly trained segmentation: what it was trained on, and what it finds in the validation patients."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import nn

from models.limits import Limits
from models.organ_finder import load_organ_finder
from models.organ_plausibility import POLICY
from models.training.measured_limits import measured_limits
from models.training.organ_volumes import OrganVolume
from models.training.progress import Progress
from models.training.segmentation_evaluation import JudgedCase, judged_cases, organ_table
from models.training.segmentation_settings import SegmentationSettings
from models.unet import METHOD
from models.weights import Card, TrainingDomain, load_card, save, write_card

_TEXT = """\
# {name}

{first}

## Intended use

Research. Proposes contours of {organs} on {images}.

## Data

{patients} training patients, {slices} slices; {updates} updates of {batch} patches of {patch} voxels at {spacing} mm
(slice, row, column), seed {seed}{began}.

## Validation

{judged}

## Stability limits

{limits}
"""
_MADE_UP = (
    "**Trained on made-up patients: no organ of a patient was ever learnt from or measured on. Every result waits for "
    "a person.**"
)
_NO_LIMIT = "**No limit was measured: every result of this model waits for a person.**"
_LIMITS_OF_NOBODY = "None: {why}. The gate holds every result."
LIMITS_TEXT = """\
Over {cases} validation patients. Flag: the normal prediction bound of 99 % of new patients, for each measure. Hold: the
normal tolerance bound of 99.5 % of all patients with 95 % confidence, and at least the largest value seen. Left organs
on the right hold by policy; a scan that is shorter than any of the training is flagged, and held if 30 mm are missing.
"""
HEIGHT_LIMITS = Limits(flag_above=0.0, hold_above=30.0)
"""Policy, not measured: it takes about as much to lose a vertebra, by which the network knows where it is."""
_NOBODY = "Not measured: there was no validation patient."
_TABLE = """\
Mean ± SD over {cases} validation patients, on the grid of their CT, against what was drawn there.

{table}"""


def finished_segmenter(
    network: nn.Module,
    settings: SegmentationSettings,
    domain: TrainingDomain,
    organ_ml: Mapping[str, tuple[float, float]],
    validation: Sequence[OrganVolume],
    path: Path,
    progress: Progress,
    is_made_up: bool = False,
    mirror: bool = False,
) -> Card:
    """Write weights, in half precision, and card; what the card states is measured with the weights as written.

    Of made-up patients no limit is taken: what is usual for them says nothing about a patient. With `mirror` the
    network looks at the mirrored image too, as the pipeline will have it.
    """
    facts = {
        "method": METHOD,
        "architecture": asdict(settings.architecture()),
        "window_hu": (min(low for low, _ in settings.windows_hu), max(high for _, high in settings.windows_hu)),
        "segmentation": settings.task(),
        "training_domain": domain,
        "organ_ml": organ_ml,
    }
    card = save(path, {name: tensor.half() for name, tensor in network.state_dict().items()}, facts, "")
    model = load_organ_finder(str(path), device=settings.device, bf16=settings.bf16, mirror=mirror)
    cases = judged_cases(model, validation, progress)
    limits = {} if is_made_up else measured_limits([[case.plausibility] for case in cases])
    for name in POLICY:
        limits.pop(name, None)
    if limits:
        limits["height_missing_mm"] = HEIGHT_LIMITS
    text = _text(card, settings, cases, is_made_up)
    complete = card.model_copy(update={"limits": limits, "text": text})
    write_card(path.with_suffix(".md"), complete)
    return complete


def _began(settings: SegmentationSettings) -> str:
    if settings.initial_weights is None:
        return ""
    return f"; it began from the weights of SHA-256 {load_card(settings.initial_weights).sha256}"


def _text(card: Card, settings: SegmentationSettings, cases: Sequence[JudgedCase], is_made_up: bool) -> str:
    has_limits = bool(cases) and not is_made_up
    why = "no patient was measured" if is_made_up else "there was no validation patient"
    first = _MADE_UP if is_made_up else "" if has_limits else _NO_LIMIT
    table = organ_table(cases, settings.organs)
    return _TEXT.format(
        name=card.name,
        first=first or f"Trained on {card.training_domain.patients} patients.",
        organs=", ".join(settings.organs),
        images="CT, alone or with an MR on its grid" if settings.takes_mr else "CT",
        patients=card.training_domain.patients,
        slices=card.training_domain.slices,
        updates=settings.updates,
        batch=settings.batch,
        patch=" x ".join(str(n) for n in settings.patch_zyx),
        spacing=" x ".join(f"{mm:g}" for mm in settings.spacing_zyx_mm),
        seed=settings.seed,
        began=_began(settings),
        judged=_TABLE.format(cases=len(cases), table=table) if cases else _NOBODY,
        limits=LIMITS_TEXT.format(cases=len(cases)) if has_limits else _LIMITS_OF_NOBODY.format(why=why),
    )
