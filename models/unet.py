"""3-D U-Net that names the organ of every voxel, on CT alone or on CT with MR.

The class of nnU-Net: residual blocks of convolution, instance normalisation and leaky ReLU; strided convolutions on the
way down, transposed ones on the way up, and the features of the way down beside those of the way up.

What it sees are channels (B, C, D, H, W): the CT once for each window of the card, each clipped and mapped to [-1, 1],
so that soft tissue is not a sixteenth of the grey range of a window that also holds the lung; and for networks that
take MR one channel more, mean 0 and SD 1 in the body, 0 everywhere where there is no MR. Training leaves the MR out of
a part of the patches, so one network serves both. It normalises over the patch: it is applied to patches of the size
that it was trained on.

References
----------
Cicek et al., MICCAI 2016, arXiv 1606.06650 (3-D U-Net); Isensee et al., Nat Methods 2021,
doi 10.1038/s41592-020-01008-z (nnU-Net); Isensee et al., MICCAI 2024, arXiv 2404.09556 (residual encoders); Ulyanov et
al., arXiv 1607.08022 (instance normalisation); Neverova et al., TPAMI 2016, arXiv 1501.00102 (a modality left out in
training)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.intensity import Hu, Mask, normalised
from models.organ_sides import mirrored_organs
from models.weights import Card, SegmentationTask, WeightsError, load_card, load_weights

METHOD = "segmentation"
"""What the card of a segmenter states as its method."""

_SLOPE = 0.01
"""Of the leaky ReLU below 0."""
_MR_RANGE_SD = 5.0
"""A vessel or a coil's bright corner lies further from the mean; it says nothing more."""


@dataclass(frozen=True)
class Architecture:
    """Size of the network; the card of the weights states it."""

    inputs: int
    """Channels: one for each CT window, and one for the MR where it is taken."""
    outputs: int
    """Organs, and one for what is none of them."""
    channels: int = 16
    """Feature maps at full resolution; each halving has twice as many."""
    most_channels: int = 192
    """No level has more."""
    levels: int = 5
    """Resolutions."""

    @property
    def stride(self) -> int:
        """Each side of a patch has to be a multiple of this."""
        return 1 << (self.levels - 1)

    def widths(self) -> list[int]:
        """Feature maps of each level, the finest first."""
        return [min(self.channels << level, self.most_channels) for level in range(self.levels)]


class Normalisation(nn.Module):
    """Each feature map of each image to mean 0 and variance 1, then scaled and shifted; shape kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, C, D, H, W)."""
        return functional.instance_norm(x, weight=self.scale, bias=self.shift)


class ResidualBlock(nn.Module):
    """The input, strided and widened if need be, plus two convolutions of it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.first_norm = _conv(inputs, outputs, stride), Normalisation(outputs)
        self.second, self.second_norm = _conv(outputs, outputs), Normalisation(outputs)
        is_same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if is_same else nn.Conv3d(inputs, outputs, stride, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, C', D/stride, H/stride, W/stride)."""
        h = functional.leaky_relu(self.first_norm(self.first(x)), _SLOPE)
        return functional.leaky_relu(self.second_norm(self.second(h)) + self.shortcut(x), _SLOPE)


class SegmentationNetwork(nn.Module):
    """The U-Net."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = architecture.widths()
        self.architecture = architecture
        self.down = nn.ModuleList([ResidualBlock(architecture.inputs, widths[0])])
        self.down.extend(ResidualBlock(fine, coarse, stride=2) for fine, coarse in pairwise(widths))
        self.doubling = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, 2, stride=2) for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(ResidualBlock(2 * fine, fine) for fine in widths[:-1])
        self.exit = nn.Conv3d(widths[0], architecture.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> logits (B, outputs, D, H, W); D, H and W multiples of the stride."""
        levels: list[Tensor] = []
        for block in self.down:
            x = block(x)
            levels.append(x)  # (B, widths[n], D/2^n, H/2^n, W/2^n)
        for number in reversed(range(len(self.up))):
            x = torch.cat([self.doubling[number](x), levels[number]], dim=1)
            x = self.up[number](x)
        return self.exit(x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Segmenter:
    """A trained network, and the card that says what it knows."""

    card: Card
    task: SegmentationTask
    network: nn.Module
    """(B, C, D, H, W) -> logits (B, 1 + organs, D, H, W)."""
    bf16: bool = False
    """Whether the layers compute in bfloat16; input and output are float32 all the same."""
    device: str = "cpu"
    """Where the network is; input and output may be elsewhere."""
    mirror: bool = False
    """Whether it looks at the mirrored patch too, of a patient whose left organs are right ones; the mean counts."""

    def __call__(self, channels: Tensor) -> Tensor:
        """Probabilities of background and organs (B, 1 + organs, D, H, W) of a patch (B, C, D, H, W)."""
        return self.looks(channels).mean(dim=1)

    def looks(self, channels: Tensor) -> Tensor:
        """As `__call__`, of each look by itself: (B, looks, 1 + organs, D, H, W), two with `mirror`, else one."""
        plain = self._probabilities(channels)
        if not self.mirror:
            return plain[:, None]
        mates = [0, *(1 + mate for mate in mirrored_organs(self.task.organs) if mate is not None)]
        turned = self._probabilities(channels.flip(-1)).flip(-1)[:, mates]
        return torch.stack([plain, turned], dim=1)

    def _probabilities(self, channels: Tensor) -> Tensor:
        on_device = channels.to(self.device)
        with torch.autocast(on_device.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.network(arranged(on_device))
        return logits.float().softmax(dim=1).to(channels.device)


def load_segmenter(weights: str, device: str = "cpu", bf16: bool = False, mirror: bool = False) -> Segmenter:
    """Load the network of shipped weights or of a `.safetensors` file; loaded once per process, content and device.

    Raises
    ------
    models.weights.WeightsError
        If the weights are absent, differ from their card, are no segmenter, or do not fit the architecture and the
        organs that the card states; or if the mirrored image is to be looked at and an organ has a side whose other
        side is not among them.
    """
    card = load_card(weights)
    if card.method != METHOD or card.segmentation is None:
        raise WeightsError(f"the weights {weights} are of the method {card.method}, not {METHOD}")
    network = _loaded_network(weights, card.sha256, device)
    task, size = card.segmentation, network.architecture
    if (size.inputs, size.outputs) != (task.channels, 1 + len(task.organs)):
        raise WeightsError(f"the card of {weights} names other channels or organs than its architecture has")
    if mirror and None in mirrored_organs(task.organs):
        raise WeightsError(f"{weights} finds an organ of one side only, so a mirrored image is of no use to it")
    return Segmenter(card, task, network, bf16, device, mirror)


def placed(network: SegmentationNetwork, device: torch.device) -> SegmentationNetwork:
    """The network on a device, its weights arranged as the device computes fastest."""
    return network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def arranged(channels: Tensor) -> Tensor:
    """The input (B, C, D, H, W) arranged as the weights are; same values, same shape."""
    return channels.contiguous(memory_format=torch.channels_last_3d)


def ct_channels(hu_zyx: NDArray[Any], windows_hu: Sequence[tuple[float, float]]) -> Hu:
    """HU [slice, row, column] -> [window, slice, row, column] in [-1, 1]."""
    return np.stack([normalised(hu_zyx, window_hu) for window_hu in windows_hu])


def mr_channel(mr_zyx: NDArray[Any], body: Mask) -> Hu:
    """MR with mean 0 and SD 1 in the body, 0 outside; nothing further than 5 SD from the mean; same shape.

    MR has no unit, so only the contrast within one image says something. Of an image without contrast, 0.
    """
    inside = mr_zyx[body].astype(np.float64)
    spread = float(inside.std()) if inside.size else 0.0
    if spread == 0.0:
        return np.zeros(mr_zyx.shape, np.float32)
    scores = np.clip((mr_zyx - inside.mean()) / spread, -_MR_RANGE_SD, _MR_RANGE_SD)
    return np.where(body, scores, 0.0).astype(np.float32)


@lru_cache(maxsize=2)
def _loaded_network(weights: str, sha256: str, device: str) -> SegmentationNetwork:
    card, tensors = load_weights(weights)
    try:
        network = SegmentationNetwork(Architecture(**card.architecture))
        network.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        raise WeightsError(f"the weights {weights} do not fit the architecture of their card: {error}") from error
    return placed(network.eval().requires_grad_(False), torch.device(device))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv3d:
    # Without a bias: the normalisation behind it would take it away.
    return nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
