"""How far a generator looks: what lies further away from a pixel than this can not change it."""

import torch
from torch import nn

_MOST_PIXELS = 512


def reach_pixels(generator: nn.Module, channels: int, stride: int) -> int | None:
    """Largest distance along rows or columns between a pixel and one that it changes; None if there is no bound.

    `generator` maps (B, C, H, W) to (B, 1, H, W) with C = `channels`, H and W multiples of `stride`. Found by poison:
    a pixel that is not a number makes every pixel that is computed from it not a number. One pixel of every phase of
    the stride is tried.
    """
    size = 128
    while size <= _MOST_PIXELS:
        reach = _reach_within(generator, channels, stride, -(-size // stride) * stride)
        if reach < size // 2 - stride:
            return reach
        size *= 2
    return None


@torch.inference_mode()
def _reach_within(generator: nn.Module, channels: int, stride: int, size: int) -> int:
    reach = 0
    for phase in range(stride):
        place = size // 2 + phase
        image = torch.zeros(1, channels, size, size, device=next(generator.parameters()).device)
        image[:, :, place, place] = torch.nan
        poisoned = torch.nonzero(generator(image)[0, 0].isnan())
        reach = max(reach, int((poisoned - place).abs().max()) if len(poisoned) else 0)
    return reach
