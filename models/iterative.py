"""Iterative reconstruction of transmission scans: SIRT, ordered subsets (OS-SART) and statistical weights.

Line integrals are [slice, view, detector], images [slice, row, column] in 1/mm; slices are computed together and do not
influence each other. Every method can be stopped, slice by slice, where it explains the data down to their noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.scan_geometry import Floats
from models.scan_projector import ScanProjector

Images: TypeAlias = NDArray[np.float32]
"""[slice, row, column], 1/mm."""
Rays: TypeAlias = NDArray[np.float32]
"""[slice, view, detector]."""

_GOLDEN = 0.6180339887
_SECOND_DIFFERENCE = 6.0
"""Sum of squares of (1, -2, 1)."""
_MEDIAN_OF_SQUARE = 0.4549
"""Median of chi-squared with one degree of freedom."""


@dataclass(frozen=True)
class Iterations:
    """How long to iterate, and within which bounds."""

    most: int = 50
    non_negative: bool = True
    until_chi_squared: float | None = None
    """Discrepancy principle: a slice is left once the mean over rays of (A x - y)^2 / variance is this low; 1 is the
    noise level. None: all iterations."""


@dataclass(frozen=True)
class Iteration:
    """What a caller is told after every iteration."""

    number: int
    """From 1."""
    images: Images
    """Of all slices, as they are now; to be read, not kept."""
    chi_squared: NDArray[np.float64]
    """(slice,) mean over rays of (A x - y)^2 / variance; without variances, of (A x - y)^2.

    Over ordered subsets it is what each subset found before it was used, so it can stay above 1."""


Watcher: TypeAlias = Callable[[Iteration], None]


@dataclass(frozen=True)
class Subset:
    """Some views of a scan and their projector."""

    projector: ScanProjector
    views: NDArray[np.int_]
    """Indices into the views of the whole scan."""


def view_subsets(projector: ScanProjector, subsets: int) -> list[Subset]:
    """Every n-th view together, subsets in an order in which neighbours in time are far apart in angle.

    They take as much memory again as the projector.

    Raises
    ------
    ValueError
        If there are more subsets than views.
    """
    if not 1 <= subsets <= projector.geometry.views:
        raise ValueError(f"{projector.geometry.views} views make no {subsets} subsets")
    in_turn = np.argsort(np.arange(subsets) * _GOLDEN % 1.0)
    turns = [np.arange(first, projector.geometry.views, subsets) for first in in_turn]
    return [Subset(projector.of_views(views), views) for views in turns]


def inverse_variances(
    line_integrals: NDArray[Any], photons_per_ray: float | NDArray[Any], electronic_sd: float = 0.0
) -> Rays:
    """Statistical weight of every ray, N^2 / (N + s^2) with N photons counted and readout noise s in photons.

    Incident photons are one number, or an array that fits the rays; a ray without any has the weight 0. The variance is
    that of a logarithm to first order; where hardly a photon came through, it says too little.

    References
    ----------
    Thibault et al., Med Phys 2007, doi 10.1118/1.2789499
    """
    counted = photons_per_ray * np.exp(-np.asarray(line_integrals, np.float64))
    variance = np.asarray(counted + electronic_sd**2)
    weights = np.divide(counted**2, variance, out=np.zeros_like(variance), where=variance > 0.0)
    return np.asarray(weights, np.float32)


def estimated_photons(line_integrals: NDArray[Any]) -> float:
    """Incident photons of each ray, for scans that do not state them, from how neighbouring elements differ.

    The second difference along the detector has six times the variance of a ray, exp(l) / N, and little of the patient;
    the median over all rays leaves out edges. What is left of the patient makes the estimate too small, not too large.

    Raises
    ------
    ValueError
        If there are fewer than three elements, or the scan has no noise.
    """
    if line_integrals.shape[-1] < 3:
        raise ValueError("the noise of a scan can not be told from fewer than three elements")
    values = np.asarray(line_integrals, np.float64)
    bend = values[..., 2:] - 2.0 * values[..., 1:-1] + values[..., :-2]
    scaled = float(np.median(bend**2 * np.exp(-np.maximum(values[..., 1:-1], 0.0))))
    if scaled <= 0.0:
        raise ValueError("the scan has no noise")
    return _SECOND_DIFFERENCE * _MEDIAN_OF_SQUARE / scaled


def sirt(
    projector: ScanProjector,
    line_integrals: NDArray[Any],
    iterations: Iterations | None = None,
    inverse_variance: NDArray[Any] | None = None,
    start: NDArray[Any] | None = None,
    watcher: Watcher | None = None,
) -> Images:
    """Simultaneous iterative reconstruction: `ordered_subsets` with all views in one subset, which converges.

    References
    ----------
    Gilbert, J Theor Biol 1972, doi 10.1016/0022-5193(72)90180-4
    """
    whole = Subset(projector, np.arange(projector.geometry.views))
    return ordered_subsets([whole], line_integrals, iterations, inverse_variance, start, watcher)


def ordered_subsets(
    subsets: Sequence[Subset],
    line_integrals: NDArray[Any],
    iterations: Iterations | None = None,
    inverse_variance: NDArray[Any] | None = None,
    start: NDArray[Any] | None = None,
    watcher: Watcher | None = None,
) -> Images:
    """Least squares by x += D A' W (y - A x), D = 1 / (A' W A 1), over one subset of views after the other.

    (slice, view, detector) -> (slice, row, column) in 1/mm; the start is 0 unless one is given. Without variances W is
    one by the length of the ray: OS-SART. With W = 1 / variance it is weighted least squares with separable surrogates.
    Several subsets come near fast and then circle around the solution.

    Raises
    ------
    ValueError
        If the data do not fit the scan, or the noise level shall end it and no variance is known.

    References
    ----------
    Andersen and Kak, Ultrason Imaging 1984, doi 10.1177/016173468400600107;
    Erdogan and Fessler, Phys Med Biol 1999, doi 10.1088/0031-9155/44/11/311
    """
    settings = iterations or Iterations()
    if inverse_variance is None and settings.until_chi_squared is not None:
        raise ValueError("to stop at the noise level the variances have to be known")
    shape = (sum(len(subset.views) for subset in subsets), subsets[0].projector.geometry.detectors)
    data, variance = checked(shape, line_integrals, 1.0 if inverse_variance is None else inverse_variance)
    parts = [_Part.of(subset, data, variance, is_weighted=inverse_variance is not None) for subset in subsets]
    images = _started(subsets[0].projector, len(data), start)
    chi_squared, going = np.full(len(data), np.inf), np.arange(len(data))
    for number in range(1, settings.most + 1):
        squares = np.zeros(len(going))
        current = images[going]
        for part in parts:
            current, square = part.improved(current, going, settings.non_negative)
            squares += square
        images[going], chi_squared[going] = current, squares / data[0].size
        if watcher is not None:
            watcher(Iteration(number, images, chi_squared))
        going = still_going(chi_squared, settings)
        if not len(going):
            break
    return images


def still_going(chi_squared: NDArray[np.float64], settings: Iterations) -> NDArray[np.int_]:
    """Indices of the slices that are not yet explained down to their noise."""
    if settings.until_chi_squared is None:
        return np.arange(len(chi_squared))
    return np.flatnonzero(chi_squared > settings.until_chi_squared)


@dataclass(frozen=True)
class _Part:
    """One subset with its data; arrays begin with the slice."""

    projector: ScanProjector
    data: Rays
    weights: Rays
    """W of the update."""
    variance: Rays
    """1 / variance, or 1 where it is not known."""
    steps: Images
    """D of the update, 0 for pixels that no ray meets."""

    @classmethod
    def of(cls, subset: Subset, data: Rays, variance: Rays, is_weighted: bool) -> "_Part":
        projector, mine = subset.projector, data[:, subset.views]
        lengths = projector.forward(np.ones((1, *projector.geometry.image_shape), np.float32))
        known = variance[:, subset.views]
        weights = known if is_weighted else reciprocal(lengths)
        steps = reciprocal(projector.adjoint(weights * lengths))
        shape = (len(mine), *projector.geometry.image_shape)
        return cls(projector, mine, np.broadcast_to(weights, mine.shape), known, np.broadcast_to(steps, shape))

    def improved(self, images: Images, going: NDArray[np.int_], non_negative: bool) -> tuple[Images, Floats]:
        """One update of the slices `going`; also their sum of (A x - y)^2 / variance before it."""
        missing = self.data[going] - self.projector.forward(images)
        squares = np.sum(np.square(missing, dtype=np.float64) * self.variance[going], axis=(1, 2))
        images = images + self.steps[going] * self.projector.adjoint(missing * self.weights[going])
        return (np.maximum(images, 0.0) if non_negative else images), squares


def reciprocal(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / value, and 0 where there is next to nothing."""
    least = np.float32(1e-6) * values.max(initial=0.0)
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > least)


def checked(
    shape: tuple[int, int], line_integrals: NDArray[Any], inverse_variance: NDArray[Any] | float
) -> tuple[Rays, Rays]:
    """Data and 1 / variance as float32: (slice, view, detector).

    Raises
    ------
    ValueError
        If the data are not slices of this shape, or a variance is below 0 or no number.
    """
    data = np.asarray(line_integrals, np.float32)
    if data.ndim != 3 or data.shape[1:] != shape:
        raise ValueError(f"{data.shape} is not (slices, {shape[0]} views, {shape[1]} detectors)")
    weights = np.broadcast_to(np.asarray(inverse_variance, np.float32), data.shape)
    if not (np.isfinite(data).all() and np.isfinite(weights).all() and weights.min() >= 0.0):
        raise ValueError("line integrals and variances have to be numbers, and variances not negative")
    return data, weights


def _started(projector: ScanProjector, slices: int, start: NDArray[Any] | None) -> Images:
    shape = (slices, *projector.geometry.image_shape)
    return np.zeros(shape, np.float32) if start is None else np.array(np.broadcast_to(start, shape), np.float32)
