"""The card of a freshly trained segmentation: what it was trained on, and what it finds in the validation patients."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from torch import nn

from models.training.organ_volumes import OrganVolume
from models.training.progress import Progress
from models.training.segmentation_evaluation import judged_cases, organ_table
from models.training.segmentation_settings import SegmentationSettings
from models.unet import METHOD, load_segmenter
from models.weights import Card, TrainingDomain, load_card, save, write_card

_TEXT = """\
# {name}

**No limit was measured: every result of this model waits for a person.**

## Intended use

Research. Proposes contours of {organs} on {images}.

## Data

{patients} training patients, {slices} slices; {updates} updates of {batch} patches of {patch} voxels at {spacing} mm
(slice, row, column), seed {seed}{began}.

## Validation

{judged}

## Stability limits

None yet. They belong to the measures of the pipeline, on patients that were not trained on.
"""
_NOBODY = "Not measured: there was no validation patient."
_TABLE = """\
Mean ± SD over {cases} validation patients, on the grid of their CT, against what was drawn there.

{table}"""


def finished_segmenter(
    network: nn.Module,
    settings: SegmentationSettings,
    domain: TrainingDomain,
    validation: Sequence[OrganVolume],
    path: Path,
    progress: Progress,
) -> Card:
    """Write weights, in half precision, and card; what the card states is measured with the weights as written."""
    facts = {
        "method": METHOD,
        "architecture": asdict(settings.architecture()),
        "window_hu": (min(low for low, _ in settings.windows_hu), max(high for _, high in settings.windows_hu)),
        "segmentation": settings.task(),
        "training_domain": domain,
    }
    card = save(path, {name: tensor.half() for name, tensor in network.state_dict().items()}, facts, "")
    model = load_segmenter(str(path), bf16=settings.bf16)
    cases = judged_cases(model, validation, progress)
    table = _TABLE.format(cases=len(cases), table=organ_table(cases, settings.organs)) if cases else _NOBODY
    complete = card.model_copy(update={"text": _text(card, settings, table)})
    write_card(path.with_suffix(".md"), complete)
    return complete


def _began(settings: SegmentationSettings) -> str:
    if settings.initial_weights is None:
        return ""
    return f"; it began from the weights of SHA-256 {load_card(settings.initial_weights).sha256}"


def _text(card: Card, settings: SegmentationSettings, judged: str) -> str:
    return _TEXT.format(
        name=card.name,
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
        judged=judged,
    )
