import numpy as np
import pytest

from models.local_agreement import Placed, local_correlation
from models.rigid_motion import shift

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def waves(shape: tuple[int, int, int] = (20, 40, 40)) -> Placed:
    z, y, x = np.indices(shape)
    return Placed((100.0 * np.sin(x / 3.0 + z / 4.0) * np.cos(y / 5.0)).astype(np.float32), AFFINE)


def masks(image: Placed) -> tuple[np.ndarray, np.ndarray]:
    region = np.zeros(image.hu_zyx.shape, np.bool_)
    region[8:12, 18:22, 18:22] = True
    return region, np.ones_like(region)


def test_an_image_agrees_with_itself() -> None:
    image = waves()
    assert local_correlation(image, image, np.eye(4), *masks(image)) == pytest.approx(1.0)


def test_an_image_agrees_with_itself_elsewhere_when_the_registration_says_so() -> None:
    image = waves()
    moved = Placed(image.hu_zyx, AFFINE.copy())
    moved.affine[:3, 3] = (10.0, -6.0, 3.0)
    back = shift(np.array([-10.0, 6.0, -3.0]))
    assert local_correlation(image, moved, back, *masks(image)) == pytest.approx(1.0, abs=1e-6)
    assert local_correlation(image, moved, np.eye(4), *masks(image)) < 0.7


def test_what_is_not_seen_and_what_lies_far_away_does_not_count() -> None:
    image = waves((20, 40, 80))
    other = Placed(image.hu_zyx.copy(), AFFINE)
    other.hu_zyx[:, :, 60:] = -1000.0
    region, seen = masks(image)
    other.hu_zyx[:4] = 500.0
    seen[:4] = False
    assert local_correlation(image, other, np.eye(4), region, seen) == pytest.approx(1.0)


def test_without_region_or_contrast_nothing_is_said() -> None:
    image = waves()
    region, seen = masks(image)
    flat = Placed(np.zeros_like(image.hu_zyx), AFFINE)
    assert np.isnan(local_correlation(image, flat, np.eye(4), region, seen))
    assert np.isnan(local_correlation(image, image, np.eye(4), np.zeros_like(region), seen))
