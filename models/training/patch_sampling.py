"""Cut a patch out of a volume, scaled and turned about its middle; arrays are [slice, row, column]."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch.nn import functional

from models.intensity import Hu
from models.patches import Shape


def turning(
    angles_deg: NDArray[np.float64], scale: float, spacing_zyx_mm: tuple[float, float, float]
) -> NDArray[np.float64]:  # fmt: skip
    """3 x 3 matrix from an offset in the patch to one in the volume, both [z, y, x] in voxels; `scale` voxels for one.

    The angles turn about the patient's axes, in the order of the array's; they are angles of the patient, so the
    spacing counts.
    """
    rotation: NDArray[np.float64] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    spacing = np.array(spacing_zyx_mm)
    return np.asarray(scale * rotation * spacing[None, :] / spacing[:, None])


def cut(
    volume_zyx: NDArray[Any],
    centre_zyx: NDArray[np.float64],
    shape_zyx: Shape,
    matrix: NDArray[np.float64],
    fill: float,
) -> Hu:
    """Patch whose middle lies at `centre_zyx`, linear between the voxels of the volume; `fill` beyond it."""
    return _sampled(volume_zyx.astype(np.float32) - np.float32(fill), centre_zyx, shape_zyx, matrix, "bilinear") + fill


def cut_labels(
    labels_zyx: NDArray[np.uint8], centre_zyx: NDArray[np.float64], shape_zyx: Shape, matrix: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """As `cut`, of the nearest voxel; 0 beyond the volume."""
    return _sampled(labels_zyx.astype(np.float32), centre_zyx, shape_zyx, matrix, "nearest").astype(np.uint8)


def _sampled(
    volume: NDArray[np.float32], centre: NDArray[np.float64], shape: Shape, matrix: NDArray[np.float64], mode: str
) -> Hu:
    offsets = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2.0 for n in shape]
    sizes = torch.tensor(volume.shape, dtype=torch.float32)
    # Of each axis of the volume from -1 to 1, from side to side, columns first, as grid_sample has it.
    grid = torch.empty(*shape, 3)
    for axis in range(3):
        z, y, x = (float(part) for part in matrix[axis])
        place = offsets[0].view(-1, 1, 1) * z + offsets[1].view(-1, 1) * y + offsets[2] * x
        grid[..., 2 - axis] = (2.0 * (place + float(centre[axis])) + 1.0) / sizes[axis] - 1.0
    source = torch.from_numpy(volume)[None, None]
    return np.asarray(functional.grid_sample(source, grid[None], mode=mode, align_corners=False)[0, 0].numpy())
