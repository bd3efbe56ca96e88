import numpy as np
import pytest
from numpy.typing import NDArray

from models.metrics import mae_hu, psnr_db, ssim

ALL = np.ones((2, 16, 16), bool)


def noise(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, 100.0, (2, 16, 16))


def test_a_shift_of_the_values_is_the_mean_absolute_error() -> None:
    assert mae_hu(noise() + 12.5, noise(), ALL) == pytest.approx(12.5)


def test_only_the_mask_counts() -> None:
    image, mask = noise(), ALL.copy()
    mask[0] = False
    spoiled = image.copy()
    spoiled[0] += 1000.0
    assert mae_hu(spoiled, image, mask) == 0.0
    assert psnr_db(spoiled, image, mask) == float("inf")


def test_psnr_of_a_known_error() -> None:
    # Error 40.24 of a peak of 4024: 20 log10(100).
    assert psnr_db(noise() + 40.24, noise(), ALL) == pytest.approx(40.0, abs=1e-6)


def test_values_beyond_the_range_do_not_count_as_error() -> None:
    truth = np.full((1, 8, 8), 3000.0)
    assert psnr_db(truth + 500.0, truth, np.ones(truth.shape, bool)) == float("inf")


def test_ssim_of_equal_images_is_one() -> None:
    assert ssim(noise(), noise(), ALL) == pytest.approx(1.0)


def test_ssim_of_two_flat_images_is_its_luminance_term() -> None:
    x, y, c1 = 1000.0, 500.0, (0.01 * 4024.0) ** 2
    expected = (2 * x * y + c1) / (x * x + y * y + c1)
    assert ssim(np.full(ALL.shape, x), np.full(ALL.shape, y), ALL) == pytest.approx(expected)


def test_ssim_of_a_negative_is_its_structure_term() -> None:
    assert ssim(1000.0 + noise(), 1000.0 - noise(), ALL) < 0.0


def test_ssim_falls_with_noise() -> None:
    values = [ssim(noise() + level * noise(1), noise(), ALL) for level in (0.1, 0.5, 1.0)]
    assert values[0] > values[1] > values[2]


def test_an_empty_mask_is_refused() -> None:
    for measure in (mae_hu, psnr_db, ssim):
        with pytest.raises(ValueError, match="empty"):
            measure(noise(), noise(), ~ALL)
