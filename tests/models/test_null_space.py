import numpy as np
import pytest

from models.null_space import null_space_share
from models.scan_projector import ScanProjector
from tests.scans import parallel_scan

SCAN = parallel_scan(pixels=32, views=4)


def test_what_rays_make_is_measurable() -> None:
    projector = ScanProjector(SCAN)
    rays = np.random.default_rng(0).random((1, *SCAN.sinogram_shape)).astype(np.float32)
    assert null_space_share(projector, projector.adjoint(rays), iterations=200)[0] < 0.02


def test_what_no_ray_sees_is_in_the_null_space() -> None:
    """Least squares leave the unseen part of noise behind; all of that is unseen, and it is most of the noise."""
    projector = ScanProjector(SCAN)
    matrix = np.stack([projector.forward(pixel).ravel() for pixel in np.eye(32 * 32).reshape(-1, 32, 32)], axis=1)
    noise = np.random.default_rng(1).normal(size=32 * 32)
    seen = np.linalg.pinv(matrix, rcond=1e-6) @ (matrix @ noise)
    images = np.stack([noise - seen, noise]).reshape(2, 32, 32).astype(np.float32)
    shares = null_space_share(projector, images, iterations=300)
    assert shares[0] == pytest.approx(1.0, abs=0.01)
    assert shares[1] == pytest.approx(np.sum((noise - seen) ** 2) / np.sum(noise**2), abs=0.02)


def test_an_empty_image_has_no_unseen_part() -> None:
    assert null_space_share(ScanProjector(SCAN), np.zeros((1, 32, 32), np.float32))[0] == 0.0
