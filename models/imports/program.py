"""Read an ONNX or TorchScript program of a network, and the YAML file that says what it looks at.

Example
-------
A network that sees a CT at 2 mm in patches of 96 voxels a side, windowed to [0, 1]::

    labels: {1: bladder, 2: rectum}
    spacing_mm: [2, 2, 2]
    patch: [96, 96, 96]
    window_hu: [-160, 240]
"""

from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor

from models.imported import OWN_AXES, ImportedModel, Normalisation, Side
from models.imported_networks import PROGRAM
from models.imports.found import UNKNOWN, FoundModel, Naming, one_line
from models.imports.plain import checked, mapping_of
from models.weights import WeightsError

ENDINGS = {".onnx": "onnx", ".ts": "torchscript", ".pt": "torchscript", ".pth": "torchscript"}
"""Method by the ending of the file."""
_LARGEST_BYTES = 2 << 30


class ProgramFacts(BaseModel):
    """What the YAML file says; lists are in the order of the axes of the array that the network takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: dict[int, str]
    """Names of the outputs 1, 2, ... of the network; output 0 is what is none of them."""
    spacing_mm: list[PositiveFloat] = Field(min_length=2, max_length=3)
    """Two for a network of two dimensions, which sees slices as they are."""
    patch: list[Side] = Field(min_length=2, max_length=3)
    axes: str = OWN_AXES
    """Directions of the array: `SPL` is slices to the head, rows to posterior, columns to the patient's left."""
    window_hu: tuple[float, float] | None = None
    window_to: tuple[float, float] = (0.0, 1.0)
    """What the window becomes."""
    normalisation: Normalisation | None = None
    """Instead of a window."""
    overlap: float = 0.5
    gaussian: bool = True
    output: str = "logits"
    """`logits`, or `probabilities` where the program has the softmax in it."""
    mirrored: list[int] = []
    """Axes of the array along which the image is turned over for further results."""
    modality: str = "CT"
    data: str = UNKNOWN
    licence: str = UNKNOWN


def read_program(path: Path, facts_path: Path | None, named: Naming = str, axes: str | None = None) -> FoundModel:
    """Model of a program and its YAML file.

    Raises
    ------
    models.weights.WeightsError
        If a file is missing or a value not understood; the sentence names it.
    """
    if facts_path is None:
        raise WeightsError(f"{path} is a program: a YAML file has to say its labels, spacing_mm, patch and window_hu")
    if axes is not None:
        raise WeightsError(f"the axes of a program belong into {facts_path}")
    facts = checked(ProgramFacts, facts_path, **mapping_of(facts_path))
    labels = _in_order(facts, facts_path)
    flat = 3 - len(facts.patch)
    model = checked(
        ImportedModel,
        facts_path,
        organs=tuple(named(label) for label in labels),
        original_organs=labels,
        axes=facts.axes,
        spacing_mm=tuple([None] * flat + facts.spacing_mm),
        patch=tuple([1] * flat + facts.patch),
        dimensions=len(facts.patch),
        overlap=facts.overlap,
        gaussian=facts.gaussian,
        mirrored=tuple(axis + flat for axis in facts.mirrored),
        normalisation=_normalisation(facts, facts_path),
        output=facts.output,
        resampled_output="probabilities",
    )
    return FoundModel(
        method=ENDINGS[path.suffix],
        model=model,
        tensors={PROGRAM: program_of(path)},
        origin=f"A program, {one_line(path.name, 64)}",
        modality=one_line(facts.modality, 64),
        data=one_line(facts.data),
        licence=one_line(facts.licence),
    )


def program_of(path: Path) -> Tensor:
    """Bytes of a program.

    Raises
    ------
    models.weights.WeightsError
        If it is not there, or larger than 2 GiB.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise WeightsError(f"{path} is larger than {_LARGEST_BYTES >> 30} GiB")
        return torch.from_numpy(np.frombuffer(bytearray(path.read_bytes()), np.uint8))
    except OSError as error:
        raise WeightsError(f"{path} can not be read: {error.strerror}") from error


def window_to(
    window_hu: tuple[float, float], target: tuple[float, float], source: Path, clipped: bool = True
) -> Normalisation:
    """Normalisation that maps a window to another range.

    Raises
    ------
    models.weights.WeightsError
        If one of them has no width; it names the source.
    """
    (low_hu, high_hu), (low, high) = window_hu, target
    if not low_hu < high_hu or not low < high:
        raise WeightsError(f"a window in {source} does not go from a lower to a higher value")
    hu_per_unit = (high_hu - low_hu) / (high - low)
    return checked(
        Normalisation,
        source,
        scheme="linear",
        clip_hu=window_hu if clipped else None,
        subtract=low_hu - low * hu_per_unit,
        divide=hu_per_unit,
    )


def _normalisation(facts: ProgramFacts, source: Path) -> Normalisation:
    if facts.window_hu is not None and facts.normalisation is None:
        return window_to(facts.window_hu, facts.window_to, source)
    if facts.normalisation is not None and facts.window_hu is None:
        return facts.normalisation
    raise WeightsError(f"{source} has to say either window_hu or normalisation")


def _in_order(facts: ProgramFacts, source: Path) -> tuple[str, ...]:
    numbers = sorted(facts.labels)
    if numbers != list(range(1, 1 + len(numbers))):
        raise WeightsError(f"the labels in {source} are not the numbers from 1, each once")
    if len(facts.spacing_mm) != len(facts.patch):
        raise WeightsError(f"spacing_mm and patch in {source} have not as many axes")
    return tuple(facts.labels[number] for number in numbers)
