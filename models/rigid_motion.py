"""Rigid motions as 4 x 4 matrices in LPS mm: of points and of images."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Matrix: TypeAlias = NDArray[np.float64]
"""4 x 4; points are columns (x, y, z, 1) in LPS mm."""


def carried(points_lps: NDArray[np.floating[Any]], matrix: Matrix) -> NDArray[np.float64]:
    """Points (n, 3) in LPS mm where the matrix takes them."""
    return np.asarray(points_lps @ matrix[:3, :3].T + matrix[:3, 3], np.float64)


def resampled(
    array_zyx: NDArray[Any],
    affine: Matrix,
    shape_zyx: tuple[int, ...],
    onto_affine: Matrix,
    matrix: Matrix,
    outside: float,
) -> NDArray[np.float32]:
    """An image moved by `matrix` (4 x 4, LPS mm) and read on another grid, linearly; `outside` where it ends."""
    to_index = np.linalg.inv(affine) @ np.linalg.inv(matrix) @ onto_affine
    reversed_ = to_index[:3, :3][::-1, ::-1]
    return np.asarray(
        ndimage.affine_transform(
            np.asarray(array_zyx, np.float32), reversed_, to_index[:3, 3][::-1], shape_zyx, order=1, cval=outside
        ),
        np.float32,
    )


def inverse(matrix: Matrix) -> Matrix:
    """The motion back."""
    return np.asarray(np.linalg.inv(matrix), np.float64)


def shift(by_lps_mm: NDArray[np.float64]) -> Matrix:
    """The motion that only shifts, by so many mm along each axis."""
    matrix = np.eye(4)
    matrix[:3, 3] = by_lps_mm
    return matrix
