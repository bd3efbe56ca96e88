import numpy as np
import pytest
from numpy.typing import NDArray

from models.metrics import mae_hu, ms_ssim, psnr_db, ssim

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
    x, y, c1 = 2024.0, 1524.0, (0.01 * 4024.0) ** 2  # 1000 and 500 HU, counted from -1024
    expected = (2 * x * y + c1) / (x * x + y * y + c1)
    assert ssim(np.full(ALL.shape, 1000.0), np.full(ALL.shape, 500.0), ALL) == pytest.approx(expected)


@pytest.mark.parametrize("level_hu", [-900.0, -30.0, 0.0, 800.0])
def test_a_small_offset_is_a_small_loss_of_ssim_at_any_hu(level_hu: float) -> None:
    flat = np.full(ALL.shape, level_hu)
    assert 0.9 < ssim(flat + 60.0, flat, ALL) < 1.0


def test_ssim_of_a_negative_is_its_structure_term() -> None:
    assert ssim(1000.0 + noise(), 1000.0 - noise(), ALL) < 0.0


def test_ssim_falls_with_noise() -> None:
    values = [ssim(noise() + level * noise(1), noise(), ALL) for level in (0.1, 0.5, 1.0)]
    assert values[0] > values[1] > values[2]


def test_an_empty_mask_is_refused() -> None:
    for measure in (mae_hu, psnr_db, ssim, ms_ssim):
        with pytest.raises(ValueError, match="empty"):
            measure(noise(), noise(), ~ALL)


LARGE = np.ones((1, 128, 128), bool)


@pytest.mark.parametrize(
    ("mask", "weight"),
    [(LARGE, 0.1333), (ALL, 0.2856 / (0.0448 + 0.2856)), (ALL[:, :8, :8], 1.0)],
    ids=["five scales", "two scales", "one scale"],
)
def test_ms_ssim_of_two_flat_images_is_the_luminance_at_the_coarsest_scale(
    mask: NDArray[np.bool_], weight: float
) -> None:
    x, y, c1 = 2024.0, 1524.0, (0.01 * 4024.0) ** 2  # 1000 and 500 HU, counted from -1024
    expected = ((2 * x * y + c1) / (x * x + y * y + c1)) ** weight
    assert ms_ssim(np.full(mask.shape, 1000.0), np.full(mask.shape, 500.0), mask) == pytest.approx(expected)


def test_ms_ssim_of_a_fainter_pattern_is_its_contrast_term() -> None:
    # A checkerboard of single pixels is gone at the second scale, so only the finest scale sees the difference.
    board = np.where(np.indices(LARGE.shape).sum(axis=0) % 2, 250.0, -250.0)
    # Sample variance of 49 pixels of which 25 have one value: 250^2 (1 - 1 / 49^2) 49 / 48.
    variance, c2 = 250.0**2 * (1.0 - 1.0 / 49.0**2) * 49.0 / 48.0, (0.03 * 4024.0) ** 2
    contrast = (2.0 * 0.5 * variance + c2) / (1.25 * variance + c2)
    assert ms_ssim(0.5 * board, board, LARGE) == pytest.approx(contrast**0.0448, abs=1e-4)


def test_ms_ssim_sees_only_the_mask() -> None:
    truth = np.random.default_rng(0).normal(0.0, 100.0, LARGE.shape)
    spoiled, mask = truth.copy(), LARGE.copy()
    mask[:, :, 64:] = False
    spoiled[:, :, 112:] += 900.0
    assert ms_ssim(truth, truth, mask) == pytest.approx(1.0)
    assert ms_ssim(spoiled, truth, mask) == pytest.approx(1.0, abs=2e-3)
    assert ms_ssim(spoiled, truth, LARGE) < 0.9


def test_noise_costs_less_at_many_scales_than_at_one() -> None:
    rng = np.random.default_rng(0)
    row, column = np.indices((128, 128))
    truth = (300.0 * np.sin(row / 9.0) * np.sin(column / 11.0))[None]
    noisy = truth + rng.normal(0.0, 60.0, truth.shape)
    assert ssim(noisy, truth, LARGE) < ms_ssim(noisy, truth, LARGE) < 1.0


def test_a_small_mask_ends_the_scales() -> None:
    mask = np.zeros(LARGE.shape, bool)
    mask[0, 60, 60] = True
    flat, small = np.full(LARGE.shape, 500.0), np.full((1, 8, 8), 500.0)
    # One pixel is a quarter of the next coarser one: a single scale is left.
    assert ms_ssim(flat + 500.0, flat, mask) == pytest.approx(ms_ssim(small + 500.0, small, ALL[:1, :8, :8]))
