"""One step of a reconstruction that has a guess: the image between that guess and what was measured.

Line integrals are [slice, view, detector], images [slice, row, column] in 1/mm; slices do not influence each other.
"""

from dataclasses import dataclass

import numpy as np

from models.iterative import Images, Rays, reciprocal
from models.scan_geometry import Floats
from models.scan_projector import ScanProjector


@dataclass(frozen=True)
class MeasuredRays:
    """Slices as they were measured, and how well."""

    projector: ScanProjector
    line_integrals: Rays
    """[slice, view, detector]."""
    inverse_variance: Rays
    """Of each ray, of the same shape; 0 leaves a ray out."""

    def repeated(self, times: int) -> "MeasuredRays":
        """Every slice so many times, one after the other."""
        line_integrals, weights = (
            np.repeat(rays, times, axis=0) for rays in (self.line_integrals, self.inverse_variance)
        )
        return MeasuredRays(self.projector, line_integrals, weights)

    def of(self, slices: slice) -> "MeasuredRays":
        """Only these slices."""
        return MeasuredRays(self.projector, self.line_integrals[slices], self.inverse_variance[slices])

    def squares(self, images: Images) -> Rays:
        """(A x - y)^2 / variance of each ray: (slice, view, detector); 1 on average where only noise is left."""
        residual = self.projector.forward(images) - self.line_integrals
        return np.asarray(self.inverse_variance * residual**2, np.float32)

    def chi_squared(self, images: Images) -> Floats:
        """Mean of `squares` over the rays that count: (slice,)."""
        used = np.maximum(np.count_nonzero(self.inverse_variance, axis=(1, 2)), 1)
        return np.asarray(self.squares(images).sum(axis=(1, 2), dtype=np.float64) / used)

    def curvature(self) -> Images:
        """A' W A 1, which bounds the curvature of the misfit along any pixel: (slice, row, column)."""
        ones = np.ones((len(self.line_integrals), *self.projector.geometry.image_shape), np.float32)
        return self.projector.adjoint(self.inverse_variance * self.projector.forward(ones))


def nearest_to_data(
    measured: MeasuredRays, guess: Images, guess_sd_per_mm: float, iterations: int, curvature: Images | None = None
) -> Images:
    """Some iterations, from the guess, towards the minimiser over x >= 0 of

    1/2 sum (A x - y)^2 / variance + 1/2 sum (x - guess)^2 / sd^2

    by accelerated gradient descent, each pixel with a step of its own. Nothing attenuates less than nothing, and to
    know that is worth as much as many views: it holds the noise out of the air. `curvature` is that of the measurement,
    if it is at hand already.

    References
    ----------
    Beck and Teboulle, SIAM J Imaging Sci 2009, doi 10.1137/080716542;
    Erdogan and Fessler, Phys Med Biol 1999, doi 10.1088/0031-9155/44/11/311
    """  # noqa: D400
    pull = np.float32(1.0 / guess_sd_per_mm**2)
    steps = reciprocal((measured.curvature() if curvature is None else curvature) + pull)
    weights, projector = measured.inverse_variance, measured.projector
    images = ahead = np.maximum(guess, np.float32(0.0))
    momentum = 1.0
    for _ in range(iterations):
        slope = projector.adjoint(weights * (projector.forward(ahead) - measured.line_integrals))
        moved = np.maximum(ahead - steps * (slope + pull * (ahead - guess)), np.float32(0.0))
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = moved + np.float32((momentum - 1.0) / following) * (moved - images)
        images, momentum = moved, following
    return images
