"""Displacement of one image of a pair against the other, as a whole and block by block, to a fraction of a voxel.

Displacements are found by least squares on the gradients of both images. Nothing is learnt and nothing is searched.

References
----------
Lucas and Kanade, Proc IJCAI 1981, 674-679 (displacement from gradients)
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.coarse_pair import CoarsePair, block_sums, smoothed
from models.intensity import Mask

_SIGMA_VOXELS = 1.0
_TISSUE_HU = (-600.0, 250.0)
"""Bone has other HU at megavoltage, and its edges would outweigh all others."""
_REACH_VOXELS = 2
_MOST_STEPS, _LARGEST_STEP, _LARGEST_WHOLE, _ENOUGH = 4, 2.0, 6.0, 0.02
"""Voxels: a step further than the edges are wide means nothing."""

_CELL_MM = 16.0
"""A block is two cells long along each axis, and blocks lie a cell apart."""
_LEAST_INSIDE = 0.2
_PRIOR_MM = 5.0
"""SD of the displacement of a block before anything is measured: what a block hardly shows counts as not moved."""
_NOISE_HU2, _CORRELATED_VOXELS = 100.0, 30.0
"""Variance of what is left when nothing has moved, and the voxels that share one noise after the smoothing."""
_SIGMA_BLOCKS = 0.9
"""Neighbouring blocks share half of their voxels, and tissue bends together: their mean has less noise."""
_LEAST_WEIGHT = 0.2
_ENDS = 3
"""Slices at both ends are left out: what a network makes of the last ones has nothing to rest on."""

_Sums: TypeAlias = NDArray[np.float64]
"""(..., 21): sums of the products of six terms: three gradients, the output, 1, and the input."""

_TERMS = 6


def whole_displacement_zyx_mm(pair: CoarsePair) -> NDArray[np.float64]:
    """One displacement for the whole body, from input to output; 0 where there is no body.

    A gain and an offset of the HU are found along with it: another contrast is no motion. Found beyond some 20 mm it
    is a number that says "far", and no distance.
    """
    fixed, moving = _prepared(pair, _TISSUE_HU)
    near = ndimage.binary_dilation(pair.body, iterations=_REACH_VOXELS).astype(np.float32)
    whole = np.zeros(3)
    if not near.any():
        return whole
    moved = moving
    for _ in range(_MOST_STEPS):
        step = np.clip(_with_gain(_sums(fixed, moved, near, None)), -_LARGEST_STEP, _LARGEST_STEP)
        whole = np.clip(whole + step, -_LARGEST_WHOLE, _LARGEST_WHOLE)
        if np.abs(step).max() < _ENOUGH:
            break
        moved = ndimage.shift(moving, -whole, order=1, mode="nearest")
    return np.asarray(whole * np.array(pair.spacing_zyx_mm))


def bend_mm(pair: CoarsePair) -> float:
    """How far the part that has moved most has moved: the largest displacement among blocks of 32 mm, smoothed, mm.

    Only what edges show is found: tissue that slides along an edge looks as before.
    """
    fixed, moving = _prepared(pair, _TISSUE_HU)
    near = _near_body(pair.body)
    spacing = np.array(pair.spacing_zyx_mm)
    cell = tuple(max(1, min(round(_CELL_MM / mm), n // 2)) for mm, n in zip(spacing, near.shape, strict=True))
    part = _of_two(block_sums(near, cell)[..., None])[..., 0] / (8.0 * np.prod(cell))
    used = part > _LEAST_INSIDE
    if not used.any():
        return 0.0
    field = np.zeros((*used.shape, 3))
    field[used] = _of_blocks(_of_two(_sums(fixed, moving, near, cell))[used], spacing) * spacing
    weight = np.maximum(smoothed(used, _SIGMA_BLOCKS), _LEAST_WEIGHT)
    mean = np.stack([smoothed(field[..., axis], _SIGMA_BLOCKS) / weight for axis in range(3)], axis=-1)
    return float(np.linalg.norm(mean[used], axis=1).max())


def _prepared(pair: CoarsePair, range_hu: tuple[float, float]) -> tuple[NDArray[Any], NDArray[Any]]:
    before, after = (smoothed(np.clip(image, *range_hu), _SIGMA_VOXELS) for image in (pair.before, pair.after))
    return before, after


def _near_body(body: Mask) -> NDArray[np.float32]:
    near = ndimage.binary_dilation(body, iterations=_REACH_VOXELS)
    if len(near) > 4 * _ENDS:
        near[:_ENDS] = near[-_ENDS:] = False
    return np.asarray(near, np.float32)


def _sums(
    fixed: NDArray[Any], moved: NDArray[Any], near: NDArray[Any], cell: tuple[int, ...] | None
) -> _Sums:  # fmt: skip
    """Over all voxels that are near, or in cells of so many voxels: (cells along z, y, x, 21)."""
    gradients = np.gradient((fixed + moved) / 2.0)
    terms = [*(part.astype(np.float32) for part in gradients), moved, np.ones_like(moved), fixed]
    pairs = [(i, j) for i in range(_TERMS) for j in range(i, _TERMS)]
    if cell is None:
        there = near > 0.0
        matrix = np.stack([term[there] for term in terms]).astype(np.float64)
        whole = matrix @ matrix.T
        return np.array([whole[pair] for pair in pairs])
    weighted = [term * near for term in terms]
    return np.stack([block_sums(weighted[i] * terms[j], cell) for i, j in pairs], axis=-1).astype(np.float64)


def _of_two(cells: NDArray[Any]) -> NDArray[Any]:
    """Sums over two neighbouring cells along the first three axes."""
    for axis in range(3):
        if cells.shape[axis] > 1:
            count = cells.shape[axis] - 1
            cells = cells.take(range(count), axis) + cells.take(range(1, count + 1), axis)
    return cells


def _full(sums: _Sums) -> NDArray[np.float64]:
    """(n, 21) -> (n, 6, 6), symmetric."""
    full = np.zeros((len(sums), _TERMS, _TERMS))
    rows, columns = np.triu_indices(_TERMS)
    full[:, rows, columns] = full[:, columns, rows] = sums
    return full


def _with_gain(sums: _Sums) -> NDArray[np.float64]:
    """Displacement in voxels, with gain and offset free."""
    full = _full(sums[None])[0]
    scale = np.maximum(np.sqrt(np.diagonal(full)[:5]), 1e-6)
    normal = full[:5, :5] / np.outer(scale, scale) + 1e-9 * np.eye(5)
    found = np.linalg.solve(normal, full[:5, 5] / scale) / scale
    return np.asarray(found[:3] / np.clip(found[3], 0.2, 5.0))


def _of_blocks(sums: _Sums, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Displacement of each block in voxels, (n, 3); the offset is free, and the prior holds what is not shown."""
    full = _full(sums)
    count = np.maximum(full[:, 4, 4], 1.0)
    rest = full[:, :, 5] - full[:, :, 3]  # products with what differs, input less output
    gradients = full[:, :3, 4]
    matrix = full[:, :3, :3] - gradients[:, :, None] * gradients[:, None, :] / count[:, None, None]
    right = rest[:, :3] - gradients * rest[:, 4, None] / count[:, None]
    differing = full[:, 5, 5] - 2.0 * full[:, 3, 5] + full[:, 3, 3] - rest[:, 4] ** 2 / count
    variance = (np.maximum(differing, 0.0) / count + _NOISE_HU2) * _CORRELATED_VOXELS
    normal = matrix / variance[:, None, None] + np.diag((spacing / _PRIOR_MM) ** 2)
    return np.asarray(np.linalg.solve(normal, (right / variance[:, None])[..., None])[..., 0])
