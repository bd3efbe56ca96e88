"""How far a network looks: what lies further away from a pixel than this can not change it."""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.intensity import Mask

Box: TypeAlias = tuple[slice, slice]
"""(rows, columns)."""

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


def box_of_needed(needed: Mask, reach: int | None, stride: int) -> Box:
    """What has to be computed of a slice [row, column] to have the pixels that are needed; there must be one.

    The box keeps the phase of the stride, so inside, the result is that of the whole slice; it may pass the end.
    """
    if reach is None:
        return slice(None), slice(None)
    rows, columns = (_grown_range(np.flatnonzero(needed.any(axis=axis)), reach, stride) for axis in (1, 0))
    return rows, columns


def _grown_range(indices: NDArray[np.intp], reach: int, stride: int) -> slice:
    """From the first to the last index and `reach` further, out to multiples of the stride."""
    start = max(0, int(indices[0]) - reach) // stride * stride
    return slice(start, -(-(int(indices[-1]) + 1 + reach) // stride) * stride)
