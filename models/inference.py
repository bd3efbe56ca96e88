"""Apply an enhancement model to a whole volume, slice by slice, on any matrix size and pixel spacing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.cyclegan import Architecture, Conversion, Generator
from models.engines import Engine, fastest_engine, input_channels
from models.feature_domain import FeatureDomain, read_domain
from models.intensity import Hu, Mask, normalised, written_back
from models.receptive_field import box_of_needed, reach_pixels
from models.weights import Card, WeightsError, domain_path, load_card, load_weights, witness_of
from models.witness import Witness, check_witness, load_witness

METHODS = frozenset({"cyclegan", "supervised"})
"""What the card of weights for enhancement states as its method."""


@dataclass(frozen=True)
class EnhancementModel:
    """A generator ready for use, what computes it, and the card that says what it is good for."""

    card: Card
    generator: nn.Module
    """(B, C, H, W) -> (B, 1, H, W) in [-1, 1]; C neighbouring slices, the middle one is converted."""
    engine: Engine
    reach_pixels: int | None
    """What is further away from a pixel than this does not change it; None: the whole slice may."""
    domain: FeatureDomain | None = None
    """Of the images that it was trained on; None where the card names none."""
    witness: Witness | None = None
    """What judges its results; None where the card names none."""


def nobody(done: float, what: str) -> None:
    """Ignore the progress of work that nobody watches."""


def load_generator(weights: str, judging: bool = True) -> EnhancementModel:
    """Load the generator of shipped weights or of a `.safetensors` file; loaded once per process and file content.

    Without `judging`, what only judges results is left out, domain and witness: for whoever makes these anew. The
    fastest engine of this machine that agrees with the reference computes it (`models.engines`).

    Raises
    ------
    models.weights.WeightsError
        If the weights are absent, differ from their card, are not for enhancement, or do not fit the architecture that
        the card states.
    """
    card = load_card(weights)
    generator, engine, reach = _prepared(weights, card.sha256)
    if not judging:
        return EnhancementModel(card, generator, engine, reach)
    witness = None if card.witness_sha256 is None else load_witness(witness_of(weights), card.witness_sha256)
    return EnhancementModel(card, generator, engine, reach, _domain(weights, card.domain_sha256), witness)


def check_judging(weights: str, card: Card) -> None:
    """Refuse a domain or a witness beside such weights that is not the one their card names, without loading a network.

    Raises
    ------
    models.weights.WeightsError
        If one is absent, or is another.
    """
    if card.witness_sha256 is not None:
        check_witness(witness_of(weights), card.witness_sha256)
    _domain(weights, card.domain_sha256)


def enhanced(
    model: EnhancementModel,
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    progress: Callable[[float, str], None] = nobody,
) -> Hu:
    """Convert a volume: HU, same shape [slice, row, column]; the same input gives the same output.

    Voxels outside the model's window keep their value. Where the pixels are finer than the working spacing of the
    card, the change is computed at that spacing and added, so that no detail of the input is lost.

    Every slice is computed from itself and its neighbours, so its values do not depend on how many others there are.
    """
    channels = input_channels(model.generator)
    output_hu = np.empty(hu_zyx.shape, np.float32)
    with torch.inference_mode():
        for index in range(len(hu_zyx)):
            output_hu[index] = _enhanced_slice(model, hu_zyx[_neighbours(index, channels, len(hu_zyx))], spacing_zyx_mm)
            progress((index + 1) / len(hu_zyx), "enhancing")
    return output_hu


def _domain(weights: str, sha256: str | None) -> FeatureDomain | None:
    return None if sha256 is None else read_domain(domain_path(weights), sha256)


@lru_cache(maxsize=4)
def _prepared(weights: str, sha256: str) -> tuple[Conversion, Engine, int | None]:
    card, tensors = load_weights(weights)
    if card.method not in METHODS:
        raise WeightsError(f"the weights {weights} are of the method {card.method}, not {' or '.join(sorted(METHODS))}")
    try:
        whole = Generator.of(Architecture(**card.architecture))
        whole.load_state_dict(tensors)
        generator = Conversion(whole)
    except (TypeError, RuntimeError) as error:
        raise WeightsError(f"the weights {weights} do not fit the architecture of their card: {error}") from error
    # With channels last, torch is about a third faster on a CPU.
    generator.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    reach = reach_pixels(generator, input_channels(generator), _stride(card))
    return generator, fastest_engine(generator, card.window_hu), reach


def _stride(card: Card) -> int:
    return Architecture(**card.architecture).stride


def _neighbours(index: int, channels: int, slices: int) -> NDArray[np.intp]:
    """Indices of the slices around one, the first and the last slice repeated beyond the ends."""
    return np.clip(np.arange(channels) + index - channels // 2, 0, slices - 1)


def _enhanced_slice(model: EnhancementModel, hu_cyx: NDArray[Any], spacing_zyx_mm: tuple[float, float, float]) -> Hu:
    """Neighbouring slices [channel, row, column] -> the middle one, converted."""
    hu, (low_hu, high_hu) = hu_cyx[len(hu_cyx) // 2], model.card.window_hu
    inside = (hu > low_hu) & (hu < high_hu)
    if not inside.any():
        return np.asarray(hu, np.float32)
    unit = torch.from_numpy(normalised(hu_cyx, model.card.window_hu))[None]
    converted = _converted(model, unit, inside, spacing_zyx_mm)
    return written_back(hu, converted[0, 0].numpy(), model.card.window_hu)


def _converted(
    model: EnhancementModel, unit: Tensor, needed: Mask, spacing_zyx_mm: tuple[float, float, float]
) -> Tensor:
    """(1, C, H, W) in [-1, 1] -> (1, 1, H, W), right where it is needed [row, column] and unchanged far from there."""
    working_mm = model.card.working_spacing_mm
    if working_mm is None or max(spacing_zyx_mm[1:]) >= working_mm:
        return _run_where_needed(model, unit, needed)
    rows = round(unit.shape[2] * spacing_zyx_mm[1] / working_mm)
    columns = round(unit.shape[3] * spacing_zyx_mm[2] / working_mm)
    coarse = functional.interpolate(unit, (rows, columns), mode="bilinear", antialias=True)
    change = _run_where_needed(model, coarse, _coarsened(needed, (rows, columns))) - _middle(coarse)
    return _middle(unit) + functional.interpolate(change, unit.shape[2:], mode="bilinear")


def _coarsened(needed: Mask, shape: tuple[int, int]) -> Mask:
    """Coarse pixels that bilinear interpolation reads to make one that is needed."""
    covering = functional.adaptive_max_pool2d(torch.from_numpy(needed.astype(np.float32))[None], shape)
    return np.asarray(functional.max_pool2d(covering, 3, stride=1, padding=1)[0].numpy() > 0.0)


def _run_where_needed(model: EnhancementModel, unit: Tensor, needed: Mask) -> Tensor:
    """Run the engine on any matrix: rows and columns are padded to the stride by repeating the edge.

    The network does not see more than it needs: the box around what is needed and as far around that as it looks. The
    box keeps the phase of the stride, so inside, the result is that of the whole slice.
    """
    rows, columns = unit.shape[2:]
    stride = _stride(model.card)
    padded = functional.pad(unit, (0, -columns % stride, 0, -rows % stride), mode="replicate")
    box = box_of_needed(needed, model.reach_pixels, stride)
    result = _middle(padded).clone()
    result[:, :, *box] = model.engine.run(padded[:, :, *box])
    return result[:, :, :rows, :columns]


def _middle(unit: Tensor) -> Tensor:
    """(1, C, H, W) -> the slice that is converted, (1, 1, H, W)."""
    middle = unit.shape[1] // 2
    return unit[:, middle : middle + 1]
