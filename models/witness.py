"""The witness: a second, smaller network that says what an enhancement should look like, and how far off it may be.

It is trained on its own, from other random numbers, on simulated pairs. For each pixel of the sparse image it states
the planning CT that is to be expected there, and how far from that enhancements usually are. What a result shows beyond
that, however small its contrast, has no ground in the image that the witness knows of: the result is broken or belongs
to another image, or its network invents, or both are outside of what they have learnt. What both were taught wrongly,
the simulation itself, neither will notice.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.cyclegan import Architecture, Decoder, Encoder
from models.engines import REFERENCE, Engine, check_image, fastest_engine, input_channels, made_engine
from models.intensity import Hu, normalised, written_back
from models.receptive_field import box_of_needed, reach_pixels
from models.weights import Card, WeightsError, load_card, load_weights

METHOD = "witness"
"""What the card of a witness states as its method."""

_TYPICAL_PART = 0.015
"""Of the window, 30 HU of 2000: the scale of an untrained network."""
_LOG_RANGE = 1.75
"""The scale is larger or smaller than that by a factor of exp(2 * 1.75), 33, at most."""


_MOST_LOG_RATIO = 0.02
"""Mean departure of an engine's scale from the reference: 2 %."""


class WitnessNetwork(nn.Module):
    """Neighbouring slices of a sparse image to what is expected of the middle one."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self._middle = architecture.slices // 2
        self.encoder = Encoder(architecture)
        self.decoder = Decoder(architecture)
        self.decoder.exit = nn.Conv2d(architecture.channels, 2, 3, padding=1, padding_mode="replicate")
        with torch.no_grad():
            self.decoder.exit.weight.mul_(0.1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, S, H, W) in [-1, 1] -> (B, 2, H, W), H and W multiples of the stride.

        The two are the planning CT that is expected, not clipped, and the natural logarithm of the mean absolute
        distance of enhancements from it.
        """
        change = self.decoder(self.encoder(image))
        middle = image[:, self._middle : self._middle + 1]
        log_scale = float(np.log(2.0 * _TYPICAL_PART)) + _LOG_RANGE * change[:, 1:]
        return torch.cat([middle + change[:, :1], log_scale], dim=1)


@dataclass(frozen=True)
class Witness:
    """A witness ready for use, and its card."""

    card: Card
    network: nn.Module
    engine: Engine
    reach_pixels: int | None
    """What is further away from a pixel than this does not change it; None: the whole slice may."""


@dataclass(frozen=True)
class Expectation:
    """What a witness says of one image; each [slice, row, column], HU."""

    expected_hu_zyx: Hu
    """Planning CT; outside the window of the witness, the image itself."""
    scale_hu_zyx: Hu
    """Mean absolute distance of enhancements from it, as a rule."""

    def within(self, window_hu: tuple[float, float], hu_zyx: NDArray[Any]) -> "Expectation":
        """The same where only HU of the input between these may change: elsewhere the input itself is expected."""
        low, high = window_hu
        may_change = (hu_zyx > low) & (hu_zyx < high)
        return replace(self, expected_hu_zyx=np.where(may_change, self.expected_hu_zyx, hu_zyx).astype(np.float32))


def load_witness(weights: str, sha256: str) -> Witness:
    """Load the witness that the card of an enhancement names; loaded once per process and file content.

    Raises
    ------
    models.weights.WeightsError
        If the weights are absent, are not those with this SHA-256, or are of no witness.
    """
    check_witness(weights, sha256)
    return _prepared(weights, sha256)


def check_witness(weights: str, sha256: str) -> None:
    """Refuse a witness that is not the one with this SHA-256, without loading it.

    Raises
    ------
    models.weights.WeightsError
        If the weights are absent, or are not those.
    """
    if load_card(weights).sha256 != sha256:
        raise WeightsError(f"the witness {weights} is not the one that the card of the enhancement names")


def expectation(witness: Witness, hu_zyx: NDArray[Any]) -> Expectation:
    """What the witness says of a sparse image [slice, row, column] in HU, on any matrix size."""
    window_hu = witness.card.window_hu
    channels = input_channels(witness.network)
    rows, columns = hu_zyx.shape[1:]
    stride = Architecture(**witness.card.architecture).stride
    inside = (hu_zyx > window_hu[0]) & (hu_zyx < window_hu[1])
    padded = [(0, 0), (0, -rows % stride), (0, -columns % stride)]
    unit = np.pad(normalised(hu_zyx, window_hu), padded, mode="edge")
    said = np.zeros((2, *unit.shape), np.float32)
    said[1] = np.log(2.0 * _TYPICAL_PART)
    with torch.inference_mode():
        for index in np.flatnonzero(inside.any(axis=(1, 2))):
            around = np.clip(np.arange(channels) + index - channels // 2, 0, len(hu_zyx) - 1)
            box = box_of_needed(inside[index], witness.reach_pixels, stride)
            seen = np.ascontiguousarray(unit[around][:, *box])
            said[:, index, *box] = witness.engine.run(torch.from_numpy(seen)[None])[0].numpy()
    hu_per_unit = np.float32((window_hu[1] - window_hu[0]) / 2.0)
    expected, log_scale = said[:, :, :rows, :columns]
    return Expectation(written_back(hu_zyx, expected, window_hu), np.exp(log_scale) * hu_per_unit)


@lru_cache(maxsize=2)
def _prepared(weights: str, sha256: str) -> Witness:
    card, tensors = load_weights(weights)
    if card.method != METHOD:
        raise WeightsError(f"the weights {weights} are of the method {card.method}, not {METHOD}")
    try:
        network = WitnessNetwork(Architecture(**card.architecture))
        network.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        raise WeightsError(f"the weights {weights} do not fit the architecture of their card: {error}") from error
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stride = Architecture(**card.architecture).stride
    return Witness(card, network, _engine(network, card), reach_pixels(network, input_channels(network), stride))


def _engine(network: nn.Module, card: Card) -> Engine:
    """The fastest that agrees with the reference about the expectation, if it does so about the scale too."""
    engine, reference = fastest_engine(network, card.window_hu), made_engine(REFERENCE, network)
    image = check_image(network, card.window_hu)
    with torch.inference_mode():
        log_ratio = (engine.run(image) - reference.run(image))[:, 1:].abs().mean()
    return engine if float(log_ratio) <= _MOST_LOG_RATIO else reference
