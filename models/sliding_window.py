"""Apply a network that was trained elsewhere patch by patch, the patches where those who trained it laid them.

References
----------
Isensee et al., Nat Methods 2021, doi 10.1038/s41592-020-01008-z (evenly spaced patches, Gaussian weights of an SD of an
eighth of the patch, and the mean over the mirrored images)
Cardoso et al., arXiv 2211.02701 (MONAI: patches one stride after the other, the same Gaussian with a least weight)
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from math import ceil
from typing import TypeAlias

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from models.imported import ImportedModel
from models.intensity import Hu

Network: TypeAlias = Callable[[Tensor], Tensor]
"""(1, C, D, H, W) -> (1, K, D, H, W)."""

_SD = 1.0 / 8.0
_LEAST_WEIGHT = 1e-3
"""Of `strides`."""
_SCALE = 10.0
"""Of `even`; the weights are rounded to half precision, where the smallest ones would vanish."""


def slid(
    network: Network, volume: Tensor, model: ImportedModel, done: Callable[[float], None] = lambda _: None
) -> Tensor:
    """Weighted mean of what the network makes of the patches that cover a volume (C, D, H, W); (K, D, H, W)."""
    padded, inner = _padded(volume, model.patch)
    weights = torch.from_numpy(window_weights(model))
    total, shares = torch.zeros(1), torch.zeros(padded.shape[1:])
    boxes = list(window_boxes(padded.shape[1:], model))
    for number, box in enumerate(boxes):
        result = mirrored_mean(network, padded[:, *box][None], model.mirrored)[0]
        if not number:
            total = torch.zeros(len(result), *padded.shape[1:])
        total[:, *box] += weights * result
        shares[box] += weights
        done((number + 1) / len(boxes))
    return total.div_(shares)[:, *inner]


def mirrored_mean(network: Network, patch: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean over the patch as it is and turned over along all combinations of axes; (1, C, D, H, W)."""
    turns = [turn for count in range(len(axes)) for turn in combinations([axis + 2 for axis in axes], count + 1)]
    total = network(patch)
    for turn in turns:
        # Not kept side by side: all results of a patch with a hundred organs fit into no memory.
        total = total + network(patch.flip(turn)).flip(turn)
    return total / (1 + len(turns))


def window_boxes(shape: Sequence[int], model: ImportedModel) -> Iterator[tuple[slice, slice, slice]]:
    """Where the patches lie in a volume that is nowhere smaller than one."""
    starts = _even_starts if model.windows == "even" else _stride_starts
    for place in product(*(starts(n, size, model.overlap) for n, size in zip(shape, model.patch, strict=True))):
        first, second, third = (slice(at, at + size) for at, size in zip(place, model.patch, strict=True))
        yield first, second, third


def window_weights(model: ImportedModel) -> Hu:
    """Weight of each voxel of a patch, above 0 everywhere."""
    if not model.gaussian:
        return np.ones(model.patch, np.float32)
    if model.windows == "strides":
        axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2.0) / (_SD * n)) ** 2) for n in model.patch]
        return np.asarray(np.maximum(np.einsum("i,j,k", *axes), _LEAST_WEIGHT), np.float32)
    point = np.zeros(model.patch)
    point[tuple(n // 2 for n in model.patch)] = 1.0
    smooth = ndimage.gaussian_filter(point, [_SD * n for n in model.patch], mode="constant")
    weights = (smooth * (_SCALE / smooth.max())).astype(np.float16)
    return np.asarray(np.where(weights == 0.0, weights[weights > 0.0].min(), weights), np.float32)


def _even_starts(length: int, size: int, overlap: float) -> list[int]:
    if size == 1:
        return list(range(length))
    steps = ceil((length - size) / (size * (1.0 - overlap)))
    return [round((length - size) / steps * number) for number in range(steps + 1)] if steps else [0]


def _stride_starts(length: int, size: int, overlap: float) -> list[int]:
    stride = max(1, int(size * (1.0 - overlap)))
    return [min(number * stride, length - size) for number in range(ceil((length - size) / stride) + 1)]


def _padded(volume: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """The volume in the middle of at least a patch of zeros, and where it lies there."""
    missing = [max(size - n, 0) for n, size in zip(volume.shape[1:], patch, strict=True)]
    inner = tuple(slice(gap // 2, gap // 2 + n) for gap, n in zip(missing, volume.shape[1:], strict=True))
    whole = torch.zeros(len(volume), *(n + gap for n, gap in zip(volume.shape[1:], missing, strict=True)))
    whole[:, *inner] = volume
    return whole, inner
