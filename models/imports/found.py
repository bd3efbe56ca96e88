"""What was found in the files of a model that was trained elsewhere, and the weights and card that are made of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from models.imported import ImportedModel
from models.weights import Card, TrainingDomain, save

Naming: TypeAlias = Callable[[str], str]
"""From what others call an organ to its TG-263 name; what is not known stays as it is."""

CT_RANGE_HU = (-1024.0, 3071.0)
"""What a CT of twelve bits holds; the window of a network that has none."""
UNKNOWN = "unknown"

_TEXT = """\
# {name}

**Nothing was measured here: every result of this model waits for a person.** It was trained elsewhere and imported.

## Intended use

Unknown beyond what its makers state. Here: proposes contours of {organs}.

Labels, as the makers call them and as they are called here:

{labels}

## Data

{data}

## How it is run

{origin}. Images are turned to the axes {axes} and resampled to {spacing} mm; patches of {patch} voxels.

## Metrics

None. What the makers measured was not measured here.

## Limits

None were measured, so no result is sent before a named person has released it. Whether left and right are right depends
on the directions of the axes of the training images, which few files state: look at a result on a patient whose sides
are known before any other use.

## Licence

{licence}
"""


@dataclass(frozen=True)
class FoundModel:
    """A model as its files describe it."""

    method: str
    """One of `models.imported_networks.METHODS`."""
    model: ImportedModel
    tensors: Mapping[str, Tensor]
    origin: str
    """Where it comes from and how its makers ran it, one line."""
    modality: str = UNKNOWN
    patients: int | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_spacing_mm: tuple[float, float] | None = None
    data: str = UNKNOWN
    licence: str = UNKNOWN

    def write(self, path: Path) -> Card:
        """Write the weights, and the card beside them; `path` ends with `.safetensors`."""
        facts = {
            "method": self.method,
            "architecture": {},
            "window_hu": self.model.normalisation.clip_hu or CT_RANGE_HU,
            "imported": self.model,
            "training_domain": TrainingDomain(
                modality=self.modality,
                pixel_spacing_mm=self.pixel_spacing_mm,
                slice_spacing_mm=self.slice_spacing_mm,
                body_mean_hu=None,
                body_mean_sd_hu=None,
                patients=self.patients,
                slices=None,
            ),
        }
        return save(path, self.tensors, facts, self._text(path.stem))

    def _text(self, name: str) -> str:
        model = self.model
        pairs = zip(model.original_organs or model.organs, model.organs, strict=True)
        labels = [f"| {number} | {theirs} | {ours} |" for number, (theirs, ours) in enumerate(pairs, 1)]
        return _TEXT.format(
            name=name,
            organs=", ".join(model.organs),
            labels="\n".join(["| label | makers | here |", "| --- | --- | --- |", *labels]),
            data=self.data,
            origin=self.origin,
            axes=model.axes,
            spacing=" x ".join("their own" if mm is None else f"{mm:g}" for mm in model.spacing_mm),
            patch=" x ".join(str(n) for n in model.patch),
            licence=self.licence,
        )


def one_line(text: object, longest: int = 1000) -> str:
    """What a file of others says, as one line of a card; `unknown` where it says nothing."""
    return " ".join(str(text or "").split())[:longest] or UNKNOWN
