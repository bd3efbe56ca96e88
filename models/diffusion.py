"""Denoising diffusion prior of CT slices: the noise schedule, the steps of its chains, and the network.

Images are single slices (B, 1, H, W) in [-1, 1]. A time t counts from 1 (least noise) to N; 0 is the clean image. With
abar(t) the part of the signal's variance that is left at t, everything follows from

    x_t = sqrt(abar(t)) x_0 + sqrt(1 - abar(t)) eps,    eps ~ N(0, 1)

and from a network that predicts eps from x_t and t.

Two choices differ from the published networks. The network works at half resolution on the four pixels of each square
as channels, which makes it four times as fast and hides nothing from it. And it normalises each pixel over its
channels, never over the image, so what happens to a voxel depends on its neighbourhood and not on how much air the
field of view holds; a network that was trained on crops is the same network on whole slices.

References
----------
Ho et al., NeurIPS 2020, arXiv 2006.11239 (DDPM); Nichol and Dhariwal, ICML 2021, arXiv 2102.09672 (scale and shift by
the time); Song et al., ICLR 2021, arXiv 2010.02502 (DDIM); Zhang et al., IEEE TIP 2018, arXiv 1710.04026 (pixels of a
square as channels); Chen et al., ECCV 2022, arXiv 2204.04676 (normalisation over channels).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.weights import Card, WeightsError, load_card, load_weights

METHOD = "diffusion"
"""What the card of a prior states as its method."""

_FIRST_BETA, _LAST_BETA, _BETA_STEPS = 1e-4, 0.02, 1000
_LARGEST_BETA = 0.999
_LONGEST_PERIOD = 10_000.0
"""Of the sine waves that tell the network the time."""


class Denoiser(Protocol):
    """Predicts the noise eps in x_t: images (B, 1, H, W) and their times (B,), from 1 to N -> (B, 1, H, W)."""

    def __call__(self, x_t: Tensor, times: Tensor, /) -> Tensor: ...  # noqa: D102


class NoiseSchedule:
    """How much noise each time has: beta rises linearly, as in Ho et al.; of N = 1000 steps from 1e-4 to 0.02.

    Linear, not the cosine of Nichol and Dhariwal: what a shallow chain needs is noise in its first steps, and there the
    linear schedule has more (standard deviation 0.010 against 0.006 at t = 1, 0.044 against 0.025 at t = 10). With
    another N the betas are scaled by 1000 / N, so that both ends of the chain stay where they are.
    """

    def __init__(self, steps: int) -> None:
        betas = np.linspace(_FIRST_BETA, _LAST_BETA, steps) * (_BETA_STEPS / steps)
        self.steps = steps
        """N, the time of (almost) pure noise."""
        self.alpha_bar = np.concatenate([[1.0], np.cumprod(1.0 - np.minimum(betas, _LARGEST_BETA))])
        """abar by time, from t = 0 (1: no noise) to t = N; float64, as 1 - abar(1) would lose digits in float32."""

    def signal(self, time: int) -> float:
        """sqrt(abar(t)): what the clean image is multiplied by."""
        return math.sqrt(self.alpha_bar[time])

    def noise(self, time: int) -> float:
        """sqrt(1 - abar(t)): standard deviation of the noise."""
        return math.sqrt(1.0 - self.alpha_bar[time])


def q_sample(x_0: Tensor, times: Tensor, eps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Forward process: x_t = sqrt(abar(t)) x_0 + sqrt(1 - abar(t)) eps; one time (B,) for each image.

    References
    ----------
    Ho et al., arXiv 2006.11239, equation 4
    """
    alpha_bar = torch.from_numpy(schedule.alpha_bar)[times.cpu()].view(-1, 1, 1, 1)
    signal, noise = (part.sqrt().to(x_0) for part in (alpha_bar, 1.0 - alpha_bar))
    return signal * x_0 + noise * eps


def predicted_x_0(x_t: Tensor, eps: Tensor, time: int, schedule: NoiseSchedule) -> Tensor:
    """The clean image that the noise leaves: (x_t - sqrt(1 - abar(t)) eps) / sqrt(abar(t)).

    References
    ----------
    Ho et al., arXiv 2006.11239, equation 15; Song et al., arXiv 2010.02502, equation 9
    """
    return (x_t - schedule.noise(time) * eps) / schedule.signal(time)


def p_sample(x_t: Tensor, eps: Tensor, time: int, fresh: Tensor, schedule: NoiseSchedule) -> Tensor:
    """One ancestral step from t to t - 1, with the noise `fresh` ~ N(0, 1):

    x_(t-1) = (x_t - beta(t) / sqrt(1 - abar(t)) eps) / sqrt(alpha(t)) + sigma(t) fresh

    with alpha(t) = abar(t) / abar(t-1) = 1 - beta(t) and sigma(t)^2 = (1 - abar(t-1)) / (1 - abar(t)) beta(t), the
    variance of the posterior of x_(t-1), which is 0 at t = 1.

    References
    ----------
    Ho et al., arXiv 2006.11239, algorithm 2 and equation 7
    """  # noqa: D400
    alpha = float(schedule.alpha_bar[time] / schedule.alpha_bar[time - 1])
    mean = (x_t - (1.0 - alpha) / schedule.noise(time) * eps) / math.sqrt(alpha)
    return mean + schedule.noise(time - 1) / schedule.noise(time) * math.sqrt(1.0 - alpha) * fresh


def ddim_step(
    x_0: Tensor,
    eps: Tensor,
    times: tuple[int, int],
    schedule: NoiseSchedule,
    eta: float = 0.0,
    fresh: Tensor | None = None,
) -> Tensor:
    """One step from t to any earlier time s, `times` = (t, s), by way of the clean image x_0 that is predicted at t:

    x_s = sqrt(abar(s)) x_0 + sqrt(1 - abar(s) - sigma^2) eps + sigma fresh

    with sigma^2 = eta^2 (1 - abar(s)) / (1 - abar(t)) (1 - abar(t) / abar(s)). With eta = 0 the chain is deterministic;
    with eta = 1 and s = t - 1 this is `p_sample`, so with eta = 1 it is DDPM on fewer times.

    References
    ----------
    Song et al., arXiv 2010.02502, equations 12 and 16
    """  # noqa: D400
    time, earlier = times
    kept = float(schedule.alpha_bar[time] / schedule.alpha_bar[earlier])
    sigma = eta * schedule.noise(earlier) / schedule.noise(time) * math.sqrt(1.0 - kept)
    direction = math.sqrt(max(1.0 - float(schedule.alpha_bar[earlier]) - sigma**2, 0.0))
    x_s = schedule.signal(earlier) * x_0 + direction * eps
    return x_s if fresh is None else x_s + sigma * fresh


def chain_times(depth: int, steps: int) -> list[tuple[int, int]]:
    """The pairs (t, s) of a chain of `steps` steps from t = depth down to 0, as evenly spaced as integers are.

    Raises
    ------
    ValueError
        If there are more steps than times.
    """
    if not 1 <= steps <= depth:
        raise ValueError(f"a chain from time {depth} can not have {steps} steps")
    times = [round(depth * (steps - number) / steps) for number in range(steps + 1)]
    return list(pairwise(times))


@dataclass(frozen=True)
class Architecture:
    """Size of the network and length of its schedule; the card of the weights states it."""

    channels: int = 48
    """Feature maps at half resolution; each further halving has as many more."""
    levels: int = 3
    """Resolutions; the finest is half of the image's."""
    blocks: int = 2
    """Residual blocks at each level, on the way down and again on the way up."""
    steps: int = 1000
    """N of the noise schedule."""

    @property
    def stride(self) -> int:
        """Rows and columns have to be multiples of this."""
        return 1 << self.levels

    def widths(self) -> list[int]:
        """Feature maps of each level, the finest first."""
        return [self.channels * (level + 1) for level in range(self.levels)]


class ChannelNorm(nn.LayerNorm):
    """Each pixel to mean 0 and variance 1 over its channels, then scale and shift of each channel; shape kept."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + conv(norm(conv(norm(x))) scaled and shifted by the time); an untrained one is the identity."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = ChannelNorm(channels), ChannelNorm(channels)
        self.first, self.second = _conv(channels, channels), _zeroed(_conv(channels, channels))
        self.time = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """(B, C, H, W) and the time (B, E) -> (B, C, H, W)."""
        scale, shift = self.time(embedded)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1)
        h = self.first(functional.silu(self.first_norm(x)))
        return x + self.second(functional.silu(self.second_norm(h) * (1.0 + scale) + shift))  # type: ignore[no-any-return]


class DenoisingNetwork(nn.Module):
    """U-Net that predicts the noise in a slice; an untrained one predicts none."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths, embedding = architecture.widths(), 4 * architecture.channels
        self.architecture = architecture
        self.time = nn.Sequential(
            nn.Linear(architecture.channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.entry = _conv(4, widths[0])
        self.down = nn.ModuleList(_blocks(width, embedding, architecture.blocks) for width in widths)
        self.up = nn.ModuleList(_blocks(width, embedding, architecture.blocks) for width in widths)
        self.halving = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in _neighbours(widths))
        self.doubling = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in _neighbours(widths))
        self.exit_norm = ChannelNorm(widths[0])
        self.exit = _zeroed(_conv(widths[0], 4))

    def forward(self, x_t: Tensor, times: Tensor) -> Tensor:
        """(B, 1, H, W), (B,) -> eps (B, 1, H, W); H and W multiples of the stride."""
        embedded = self.time(self._waves(times))  # (B, E)
        x = self.entry(functional.pixel_unshuffle(x_t, 2))  # (B, C, H/2, W/2)
        levels: list[Tensor] = []
        for number, blocks in enumerate(self.down):
            x = _through(blocks, self.halving[number - 1](x) if number else x, embedded)
            levels.append(x)  # (B, C (n + 1), H/2^(n + 1), W/2^(n + 1))
        for number in reversed(range(len(levels))):
            if number < len(self.doubling):
                x = levels[number] + _doubled(self.doubling[number](x))
            x = _through(self.up[number], x, embedded)
        x = self.exit(functional.silu(self.exit_norm(x)))  # (B, 4, H/2, W/2)
        return functional.pixel_shuffle(x, 2)

    def _waves(self, times: Tensor) -> Tensor:
        """Sine and cosine of the time with periods from short to long: (B,) -> (B, channels)."""
        count = self.architecture.channels // 2
        exponents = torch.arange(count, device=times.device, dtype=torch.float32) / count
        angles = times[:, None].float() * (_BETA_STEPS / self.architecture.steps) * _LONGEST_PERIOD**-exponents
        return torch.cat([angles.sin(), angles.cos()], dim=1)


@dataclass(frozen=True)
class DiffusionPrior:
    """A trained network with its schedule, and the card that says what it knows."""

    card: Card
    network: DenoisingNetwork
    schedule: NoiseSchedule
    bf16: bool = False
    """Whether the layers compute in bfloat16; input and output are float32 all the same."""

    def __call__(self, x_t: Tensor, times: Tensor) -> Tensor:
        """Noise in x_t (B, 1, H, W) at the times (B,); differentiable in x_t."""
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=self.bf16):
            eps: Tensor = self.network(x_t.contiguous(memory_format=torch.channels_last), times)
        return eps.float()


def load_prior(weights: str, device: str = "cpu", bf16: bool = False) -> DiffusionPrior:
    """Load a prior of shipped weights or of a `.safetensors` file; loaded once per process, content and device.

    Raises
    ------
    models.weights.WeightsError
        If the weights are absent, differ from their card, are no diffusion prior, or do not fit the architecture that
        the card states.
    """
    card = load_card(weights)
    if card.method != METHOD:
        raise WeightsError(f"the weights {weights} are of the method {card.method}, not {METHOD}")
    network = _loaded_network(weights, card.sha256, device)
    return DiffusionPrior(card, network, NoiseSchedule(network.architecture.steps), bf16)


@lru_cache(maxsize=2)
def _loaded_network(weights: str, sha256: str, device: str) -> DenoisingNetwork:
    card, tensors = load_weights(weights)
    try:
        network = DenoisingNetwork(Architecture(**card.architecture))
        network.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        raise WeightsError(f"the weights {weights} do not fit the architecture of their card: {error}") from error
    # Without gradients of its weights, a step back through the network costs no more than one forward.
    network.eval().requires_grad_(False)
    return network.to(torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _blocks(channels: int, embedding: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(channels, embedding) for _ in range(count))


def _through(blocks: nn.Module, x: Tensor, embedded: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x, embedded)
    return x


def _neighbours(widths: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(widths))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _doubled(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W)."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
