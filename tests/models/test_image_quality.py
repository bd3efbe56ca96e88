import numpy as np
import pytest
from numpy.typing import NDArray

from models.image_quality import cnr, cupping_hu, measured, noise_power, regions_of, whole_cnr
from models.intensity import Mask

PIXEL_MM = 4.0
FAT, MUSCLE, BONE = -100.0, 50.0, 700.0


def cylinder() -> tuple[NDArray[np.float64], Mask]:
    """Muscle of radius 160 mm with a shell of fat 40 mm wide about it and a rod of bone, in air."""
    row, column = np.indices((128, 128)) - 63.5
    radius_mm = PIXEL_MM * np.hypot(row, column)
    rod_mm = PIXEL_MM * np.hypot(row - 20, column)
    plane = np.select([rod_mm < 24.0, radius_mm < 160.0, radius_mm < 200.0], [BONE, MUSCLE, FAT], -1000.0)
    truth = np.repeat(plane[None], 8, axis=0)
    return truth, truth > -500.0


def white(sd: float, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, sd, (8, 128, 128))


def test_tissues_have_the_hu_they_were_given() -> None:
    truth, body = cylinder()
    values = measured(truth + 7.0, truth, regions_of(truth, body, PIXEL_MM))
    assert values["fat_mean", "hu"] == pytest.approx(FAT + 7.0)
    assert values["muscle_mean", "hu"] == pytest.approx(MUSCLE + 7.0)
    assert values["bone_mean", "hu"] == pytest.approx(BONE + 7.0)
    assert values["bone_sd", "hu"] == pytest.approx(0.0, abs=1e-6)


def test_regions_keep_away_from_other_tissues() -> None:
    truth, body = cylinder()
    regions = regions_of(truth, body, PIXEL_MM)
    blurred = truth.copy()
    blurred[:, :, 1:] = (truth[:, :, 1:] + truth[:, :, :-1]) / 2.0
    for tissue, hu in (("fat", FAT), ("muscle", MUSCLE), ("bone", BONE)):
        assert np.all(blurred[regions.tissues[tissue]] == hu)


@pytest.mark.parametrize(("pixel_mm", "window"), [(4.0, 3), (1.0, 9), (10.0, 3)])
def test_the_noise_window_is_about_twelve_millimetres(pixel_mm: float, window: int) -> None:
    truth, body = cylinder()
    assert regions_of(truth, body, pixel_mm).window_pixels == window


def test_cnr_is_contrast_over_noise() -> None:
    truth, body = cylinder()
    regions = regions_of(truth, body, PIXEL_MM)
    noisy = truth + np.where(truth == FAT, white(10.0), white(20.0))
    expected = (MUSCLE - FAT) / np.sqrt((10.0**2 + 20.0**2) / 2.0)
    assert cnr(noisy, regions, "muscle", "fat") == pytest.approx(expected, rel=0.03)
    assert whole_cnr(noisy, regions, "fat", "muscle") == pytest.approx(expected, rel=0.03)


def test_only_the_whole_cnr_counts_differences_between_muscles() -> None:
    truth, body = cylinder()
    regions = regions_of(truth, body, PIXEL_MM)
    other = truth + white(10.0)
    other[:4] += np.where(truth[:4] == MUSCLE, 40.0, 0.0)
    assert cnr(other, regions, "muscle", "fat") == pytest.approx((MUSCLE + 20.0 - FAT) / 10.0, rel=0.03)
    assert whole_cnr(other, regions, "muscle", "fat") < 0.8 * cnr(other, regions, "muscle", "fat")


def test_a_cup_is_negative_and_a_shift_is_none() -> None:
    truth, body = cylinder()
    regions = regions_of(truth, body, PIXEL_MM)
    assert cupping_hu(truth + 30.0, truth, regions) == pytest.approx(0.0, abs=1e-9)
    # 0 at the skin to -60 HU at the deepest point: two thirds of the depth lie between the middles of the zones.
    found = cupping_hu(truth - 60.0 * regions.depth, truth, regions)
    muscle = regions.tissues["muscle"]
    zones = [regions.depth[muscle & zone].mean() for zone in (regions.depth >= 2 / 3, regions.depth <= 1 / 3)]
    assert found == pytest.approx(-60.0 * (zones[0] - zones[1]))
    assert found is not None and -60.0 < found < -20.0


def test_white_noise_has_its_sd_and_a_flat_spectrum() -> None:
    image = white(30.0)
    corners = [(k, i, j) for k in range(8) for i in range(0, 128, 16) for j in range(0, 128, 16)]
    noise = noise_power(image, corners, 16, PIXEL_MM)
    assert noise.sd_hu == pytest.approx(30.0, rel=0.02)
    # White noise of variance s^2 has the power s^2 times the area of a pixel at every frequency.
    assert noise.power_hu2_mm2[2:] == pytest.approx(30.0**2 * PIXEL_MM**2, rel=0.1)
    assert noise.frequency_per_mm[-1] == pytest.approx(1.0 / (2.0 * PIXEL_MM))
    assert noise.mean_frequency_per_mm == pytest.approx(noise.frequency_per_mm.mean(), rel=0.06)


def test_a_wave_has_the_power_of_its_amplitude_at_its_frequency() -> None:
    column = np.arange(128)
    image = np.broadcast_to(20.0 * np.sin(2.0 * np.pi * column / 4.0), (1, 128, 128))
    noise = noise_power(image, [(0, 0, 0), (0, 64, 64)], 32, PIXEL_MM)
    assert noise.sd_hu == pytest.approx(20.0 / np.sqrt(2.0), rel=0.01)
    assert noise.frequency_per_mm[noise.power_hu2_mm2.argmax()] == pytest.approx(1.0 / (4.0 * PIXEL_MM))
    assert noise.mean_frequency_per_mm == pytest.approx(1.0 / (4.0 * PIXEL_MM), rel=0.03)


def test_a_slow_trend_is_no_noise() -> None:
    row, column = np.indices((32, 32)) / 32.0
    image = (100.0 * row**2 - 40.0 * row * column + 5.0 * column)[None]
    assert noise_power(image, [(0, 0, 0)], 32, PIXEL_MM).sd_hu == pytest.approx(0.0, abs=1e-9)


def test_smoothing_lowers_noise_and_its_mean_frequency() -> None:
    truth, body = cylinder()
    regions = regions_of(truth, body, PIXEL_MM)
    noisy = truth + white(30.0)
    smooth = (noisy + np.roll(noisy, 1, 1) + np.roll(noisy, 1, 2) + np.roll(noisy, (1, 1), (1, 2))) / 4.0
    values = [measured(image, truth, regions) for image in (noisy, smooth)]
    assert values[0]["noise_sd", "hu"] == pytest.approx(30.0, rel=0.03)
    # The mean of four has half the SD; patches of 8 pixels lose a tenth of it with their trend.
    assert values[1]["noise_sd", "hu"] == pytest.approx(0.9 * 15.0, rel=0.05)
    frequencies = [value["noise_mean_frequency", "per_mm"] for value in values]
    assert frequencies[1] < 0.8 * frequencies[0]


def test_what_a_patient_does_not_show_is_left_out() -> None:
    truth, body = cylinder()
    without_bone = np.where(truth == BONE, MUSCLE, truth)
    names = {name for name, _ in measured(without_bone, truth, regions_of(without_bone, body, PIXEL_MM))}
    assert "fat_mean" in names and "bone_mean" not in names
    nothing = np.full(truth.shape, -1000.0)
    assert measured(nothing, nothing, regions_of(nothing, np.zeros(truth.shape, bool), PIXEL_MM)) == {}
