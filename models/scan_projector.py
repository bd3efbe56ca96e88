"""Projector of any two-dimensional scan with its exact adjoint, for arrays and, differentiable, for tensors.

Images are [slice, row, column], sinograms [slice, view, detector]. The matrix and its transpose are both kept: 8 bytes
per crossing of a ray with a line of pixels, each. One slice is multiplied by scipy, more at once by torch, which reads
the same memory: measured side by side, each is the faster one there (tests/benchmarks/projection_speed.py).
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from models.projector import joseph_matrix
from models.scan_geometry import ScanGeometry

Array = NDArray[Any]


class ScanProjector:
    """Line integrals A x by Joseph's method, and A' y; values per mm become numbers without unit."""

    def __init__(
        self,
        geometry: ScanGeometry,
        dtype: type[np.floating[Any]] = np.float32,
        matrix: sparse.csr_array | None = None,
    ) -> None:
        """Build the matrix, or take the one given: (views * detectors, rows * columns)."""
        self.geometry = geometry
        self.dtype = dtype
        self._matrix = joseph_matrix(geometry.grid, *geometry.lines(), dtype) if matrix is None else matrix
        self._transposed = sparse.csr_array(self._matrix.T.tocsr())
        self._tensors = shared_tensor(self._matrix), shared_tensor(self._transposed)

    @property
    def memory_bytes(self) -> int:
        """Size of the matrix and of its transpose."""
        parts = (part for m in (self._matrix, self._transposed) for part in (m.data, m.indices, m.indptr))
        return sum(int(part.nbytes) for part in parts)

    def forward(self, images: Array) -> Array:
        """A x: ([slice,] row, column) -> ([slice,] view, detector)."""
        columns = self._columns(images, self.geometry.image_shape)
        return self._rows(_product(self._matrix, self._tensors[0], columns), images, self.geometry.sinogram_shape)

    def adjoint(self, sinograms: Array) -> Array:
        """A' y, the exact transpose: ([slice,] view, detector) -> ([slice,] row, column)."""
        columns = self._columns(sinograms, self.geometry.sinogram_shape)
        return self._rows(_product(self._transposed, self._tensors[1], columns), sinograms, self.geometry.image_shape)

    def of_views(self, views: Sequence[int] | NDArray[np.int_]) -> "ScanProjector":
        """Projector of the views of these indices only, in this order; it has memory of its own."""
        width = self.geometry.detectors
        rays = (np.asarray(views)[:, None] * width + np.arange(width)).ravel()
        return ScanProjector(self.geometry.with_views(views), self.dtype, sparse.csr_array(self._matrix[rays]))

    def _columns(self, arrays: Array, shape: tuple[int, int]) -> Array:
        if arrays.shape[-2:] != shape or arrays.ndim not in (2, 3):
            raise ValueError(f"{arrays.shape} is not ([slice,] {shape[0]}, {shape[1]})")
        return np.ascontiguousarray(arrays.reshape(-1, shape[0] * shape[1]).T, self.dtype)

    @staticmethod
    def _rows(columns: Array, like: Array, shape: tuple[int, int]) -> Array:
        return np.ascontiguousarray(columns.T).reshape(*like.shape[:-2], *shape)


class _LineIntegrals(torch.autograd.Function):
    """A x, whose gradient is A' of the gradient that arrives."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, projector: ScanProjector) -> torch.Tensor:
        ctx.projector = projector
        return torch.from_numpy(projector.forward(images.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Backprojection.apply(gradients[0], ctx.projector), None  # type: ignore[no-untyped-call]


class _Backprojection(torch.autograd.Function):
    """A' y, whose gradient is A of the gradient that arrives."""

    @staticmethod
    def forward(ctx: Any, sinograms: torch.Tensor, projector: ScanProjector) -> torch.Tensor:
        ctx.projector = projector
        return torch.from_numpy(projector.adjoint(sinograms.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _LineIntegrals.apply(gradients[0], ctx.projector), None  # type: ignore[no-untyped-call]


def line_integrals(images: torch.Tensor, projector: ScanProjector) -> torch.Tensor:
    """A x with its gradient, on the CPU: (B, 1, H, W) per mm -> (B, views, detectors), of the projector's dtype."""
    projected: torch.Tensor = _LineIntegrals.apply(images[:, 0], projector)  # type: ignore[no-untyped-call]
    return projected


def backprojection(sinograms: torch.Tensor, projector: ScanProjector) -> torch.Tensor:
    """A' y with its gradient, on the CPU: (B, views, detectors) -> (B, 1, H, W), of the projector's dtype."""
    summed: torch.Tensor = _Backprojection.apply(sinograms, projector)  # type: ignore[no-untyped-call]
    return summed[:, None]


def _product(matrix: sparse.csr_array, tensor: torch.Tensor, columns: Array) -> Array:
    """Matrix times columns, by whichever is faster for so many."""
    if columns.shape[1] == 1:
        return np.asarray(matrix @ columns)
    return np.asarray((tensor @ torch.from_numpy(columns)).numpy())


def shared_tensor(matrix: sparse.csr_array) -> torch.Tensor:
    """Torch's view of the same memory."""
    with warnings.catch_warnings():
        # Torch calls its CSR layout a beta at the first use in a process.
        warnings.simplefilter("ignore", UserWarning)
        rows, columns, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
        return torch.sparse_csr_tensor(rows, columns, values, matrix.shape, check_invariants=False)
