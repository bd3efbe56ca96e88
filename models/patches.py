"""Apply a network to a volume patch by patch, the overlapping results blended with Gaussian weights.

References
----------
Isensee et al., Nat Methods 2021, doi 10.1038/s41592-020-01008-z (patches half their size apart; weights that are a
Gaussian with an SD of an eighth of the patch)
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

Shape: TypeAlias = tuple[int, int, int]
"""Slices, rows, columns."""

OVERLAP = 0.5
"""Part of the patch that it has in common with the next one, at least."""
_SD = 1.0 / 8.0


def blended(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    patch_zyx: Shape,
    fill: Tensor,
    done: Callable[[float], None] = lambda _: None,
) -> Tensor:
    """Weighted mean of what the network makes of the patches that cover the volume.

    Parameters
    ----------
    network
        Of a patch (1, C, D, H, W) to (1, K, D, H, W).
    volume
        (C, Z, Y, X); where it is smaller than a patch, it is filled up around.
    fill
        What lies around the volume, a value for each channel (C,).
    done
        Called after each patch with the part that is done.

    Returns
    -------
    (K, Z, Y, X)
    """
    filled, inner = _filled(volume, patch_zyx, fill)
    weights = gaussian_weights(patch_zyx)
    total = torch.zeros(1)
    shares = torch.zeros(filled.shape[1:])
    boxes = list(patch_boxes(_shape(filled), patch_zyx))
    for number, box in enumerate(boxes):
        result = network(filled[:, *box][None])[0]
        if not number:
            total = torch.zeros(len(result), *filled.shape[1:])
        total[:, *box] += weights * result
        shares[box] += weights
        done((number + 1) / len(boxes))
    return (total / shares)[:, *inner]


def patch_boxes(shape_zyx: Shape, patch_zyx: Shape, overlap: float = OVERLAP) -> Iterator[tuple[slice, slice, slice]]:
    """The fewest evenly spaced patches that cover the volume and overlap by that part, at least."""
    axes = [_starts(n, size, overlap) for n, size in zip(shape_zyx, patch_zyx, strict=True)]
    for starts in product(*axes):
        z, y, x = (slice(start, start + size) for start, size in zip(starts, patch_zyx, strict=True))
        yield z, y, x


@lru_cache(maxsize=4)
def gaussian_weights(patch_zyx: Shape) -> Tensor:
    """Weight of each voxel of a patch: 1 in the middle, falling to the sides, above 0 in the corners; (D, H, W)."""
    axes = [torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2.0) / (_SD * n)) ** 2) for n in patch_zyx]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    # Not raised to a least weight: along the sides of the volume that would even out what overlaps there.
    return z * y * x


def _starts(length: int, size: int, overlap: float) -> list[int]:
    steps = -(-(length - size) // max(1, int(size * (1.0 - overlap))))
    return [round(number * (length - size) / steps) for number in range(steps + 1)] if steps else [0]


def _filled(volume: Tensor, patch_zyx: Shape, fill: Tensor) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """The volume in the middle of at least a patch, and where it lies there."""
    shape = _shape(volume)
    whole = [max(n, size) for n, size in zip(shape, patch_zyx, strict=True)]
    starts = [(size - n) // 2 for n, size in zip(shape, whole, strict=True)]
    z, y, x = (slice(start, start + n) for start, n in zip(starts, shape, strict=True))
    padded = fill.view(-1, 1, 1, 1).repeat(1, *whole)
    padded[:, z, y, x] = volume
    return padded, (z, y, x)


def _shape(volume: Tensor) -> Shape:
    _, slices, rows, columns = volume.shape
    return slices, rows, columns
