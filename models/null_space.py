"""How much of an image no ray of a scan sees: the part in the null space of the projector.

References
----------
Bhadra et al., IEEE Trans Med Imaging 2021, doi 10.1109/TMI.2021.3077857
"""

import numpy as np

from models.iterative import Images
from models.scan_geometry import Floats
from models.scan_projector import ScanProjector

_ITERATIONS = 40


def null_space_share(projector: ScanProjector, images: Images, iterations: int = _ITERATIONS) -> Floats:
    """Energy of each image that its line integrals do not tell, as a part of the whole: (slice,), 0 to 1.

    The measurable part is the smallest image with the same line integrals, found by conjugate gradients on A' A from 0
    (CGLS). They find what is measured well first; what they have not found after these iterations is measured so weakly
    that it counts as not measured.

    References
    ----------
    Hestenes and Stiefel, J Res Natl Bur Stand 1952, doi 10.6028/jres.049.044
    """
    measurable = np.zeros_like(images)
    left = projector.forward(images)
    direction = slope = projector.adjoint(left)
    squares = _squares(slope)
    for _ in range(iterations):
        rays = projector.forward(direction)
        length = _ratio(squares, _squares(rays))
        measurable = measurable + length * direction
        left = left - length * rays
        slope = projector.adjoint(left)
        before, squares = squares, _squares(slope)
        direction = slope + _ratio(squares, before) * direction
    unseen = _squares(images - measurable)[:, 0, 0]
    return np.asarray(unseen / np.maximum(_squares(images)[:, 0, 0], np.finfo(np.float64).tiny))


def _squares(arrays: Images) -> Floats:
    """Sum of squares of each slice: (slice, 1, 1)."""
    return np.asarray(np.square(arrays, dtype=np.float64).sum(axis=(1, 2), keepdims=True), np.float64)


def _ratio(numerator: Floats, denominator: Floats) -> Images:
    safe = np.maximum(denominator, np.finfo(np.float64).tiny)
    return np.asarray(numerator / safe, np.float32)
