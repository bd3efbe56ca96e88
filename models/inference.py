"""Apply an enhancement model to a whole volume, slice by slice, on any matrix size and pixel spacing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.cyclegan import Architecture, Generator
from models.intensity import Hu, normalised, written_back
from models.weights import Card, WeightsError, load_card, load_weights

_PIXELS_PER_BATCH = 512 * 512
"""Bounds the memory: about 0.4 GB of activations."""


@dataclass(frozen=True)
class EnhancementModel:
    """A generator ready for use, and the card that says what it is good for."""

    card: Card
    generator: Generator


def nobody(done: float, what: str) -> None:
    """Ignore the progress of work that nobody watches."""


def load_generator(weights: str) -> EnhancementModel:
    """Load the generator of shipped weights or of a `.safetensors` file; loaded once per process and file content.

    Raises
    ------
    models.weights.WeightsError
        If the weights are absent, differ from their card, or do not fit the architecture that the card states.
    """
    card = load_card(weights)
    return EnhancementModel(card=card, generator=_generator(weights, card.sha256))


def enhanced(
    model: EnhancementModel,
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    progress: Callable[[float, str], None] = nobody,
) -> Hu:
    """Convert a volume: HU, same shape [slice, row, column]; the same input gives the same output.

    Voxels outside the model's window keep their value. Where the pixels are finer than the working spacing of the
    card, the change is computed at that spacing and added, so that no detail of the input is lost.
    """
    output_hu = np.empty(hu_zyx.shape, np.float32)
    with torch.inference_mode():
        for part in _batches(hu_zyx.shape):
            unit = torch.from_numpy(normalised(hu_zyx[part], model.card.window_hu))[:, None]  # (B, 1, H, W)
            converted = _converted(model, unit, spacing_zyx_mm)[:, 0].numpy()
            output_hu[part] = written_back(hu_zyx[part], converted, model.card.window_hu)
            progress(part.stop / len(hu_zyx), "enhancing")
    return output_hu


@lru_cache(maxsize=4)
def _generator(weights: str, sha256: str) -> Generator:
    card, tensors = load_weights(weights)
    try:
        generator = Generator.of(Architecture(**card.architecture))
        generator.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        raise WeightsError(f"the weights {weights} do not fit the architecture of their card: {error}") from error
    # (B, C, H, W) with channels last is about a third faster on a CPU.
    return generator.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _batches(shape_zyx: tuple[int, ...]) -> Iterator[slice]:
    """Split into runs of slices that stay below the limit of pixels."""
    slices, rows, columns = shape_zyx
    size = max(1, _PIXELS_PER_BATCH // (rows * columns))
    for start in range(0, slices, size):
        yield slice(start, min(start + size, slices))


def _converted(model: EnhancementModel, unit: Tensor, spacing_zyx_mm: tuple[float, float, float]) -> Tensor:
    """(B, 1, H, W) in [-1, 1] -> same shape."""
    working_mm = model.card.working_spacing_mm
    if working_mm is None or max(spacing_zyx_mm[1:]) >= working_mm:
        return _padded_run(model, unit)
    rows = round(unit.shape[2] * spacing_zyx_mm[1] / working_mm)
    columns = round(unit.shape[3] * spacing_zyx_mm[2] / working_mm)
    coarse = functional.interpolate(unit, (rows, columns), mode="bilinear", antialias=True)
    change = _padded_run(model, coarse) - coarse
    return unit + functional.interpolate(change, unit.shape[2:], mode="bilinear")


def _padded_run(model: EnhancementModel, unit: Tensor) -> Tensor:
    """Run the generator on any matrix: rows and columns are padded to its stride by repeating the edge."""
    rows, columns = unit.shape[2:]
    stride = Architecture(**model.card.architecture).stride
    padded = functional.pad(unit, (0, -columns % stride, 0, -rows % stride), mode="replicate")
    result: Tensor = model.generator(padded)
    return result[:, :, :rows, :columns]
