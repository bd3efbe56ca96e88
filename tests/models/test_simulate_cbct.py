from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.feature_robustness import Subject, reconstructions, robustness
from models.feature_settings import FeatureSettings
from models.flat_panel import FlatPanel
from models.materials import MATERIALS
from models.simulate import (
    HEAD_AND_NECK_CBCT,
    PELVIS_CBCT,
    CbctSettings,
    Motion,
    SimulatedCbct,
    cbct_geometry,
    simulated_cbct,
)

SHAPE = (24, 56, 56)
SPACING = (5.0, 4.0, 4.0)
WIDE_SPACING = (5.0, 8.0, 8.0)
QUIET = FlatPanel(photons_per_mm2=1e10, electronic_photons=0.0, blur_fwhm_mm=0.0, lag=0.0, scatter_per_path=0.0)
HEAD = replace(HEAD_AND_NECK_CBCT, panel=QUIET, views=180, pixels_per_voxel=0.8)
"""As the preset, without scatter and noise, with half the views and coarser pixels."""
BONE_HU = 1000.0 * (MATERIALS["bone"].kv_per_mm() / MATERIALS["water"].kv_per_mm() - 1.0)


def radius_mm(
    centre_mm: tuple[float, float] = (0.0, 0.0), spacing: tuple[float, float, float] = SPACING
) -> NDArray[np.float64]:
    rows, columns = ((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE[1:], spacing[1:], strict=True))
    return np.asarray(np.hypot(rows[:, None] - centre_mm[0], columns[None, :] - centre_mm[1]))


def water(radius: float = 80.0, spacing: tuple[float, float, float] = SPACING) -> NDArray[np.float32]:
    return np.where(radius_mm(spacing=spacing) < radius, 0.0, -1000.0).astype(np.float32)[None].repeat(SHAPE[0], 0)


def with_rods(hu: float, *centres_mm: tuple[float, float]) -> NDArray[np.float32]:
    volume = water()
    for centre_mm in centres_mm:
        volume[:, radius_mm(centre_mm) < 14.0] = hu
    return volume


def scan(
    hu_zyx: NDArray[np.float32], settings: CbctSettings, spacing: tuple[float, float, float] = SPACING
) -> SimulatedCbct:
    return _kept_scan(hu_zyx.tobytes(), settings, spacing)


@cache
def _kept_scan(hu_bytes: bytes, settings: CbctSettings, spacing: tuple[float, float, float]) -> SimulatedCbct:
    """Several tests compare with the same quiet scan."""
    return scanned_anew(np.frombuffer(hu_bytes, np.float32).reshape(SHAPE), settings, spacing)


def scanned_anew(
    hu_zyx: NDArray[np.float32], settings: CbctSettings, spacing: tuple[float, float, float] = SPACING
) -> SimulatedCbct:
    return simulated_cbct(hu_zyx, spacing, settings, np.random.default_rng(0))


def mean_hu(image: SimulatedCbct, where: NDArray[np.bool_]) -> float:
    return float(image.hu_zyx[8:16, where].mean())


def test_water_of_a_middle_sized_cylinder_is_0_hu() -> None:
    settings = replace(HEAD_AND_NECK_CBCT, scatter_left=0.0)
    image = scan(water(), settings)
    assert mean_hu(image, radius_mm() < 65.0) == pytest.approx(0.0, abs=3.0)
    assert mean_hu(image, (radius_mm() > 92.0) & (radius_mm() < 105.0)) == pytest.approx(-1000.0, abs=6.0)


def test_water_of_a_wide_cylinder_is_0_hu_with_the_half_fan() -> None:
    image = scan(
        water(150.0, WIDE_SPACING),
        replace(PELVIS_CBCT, scatter_left=0.0, views=240, pixels_per_voxel=0.8),
        WIDE_SPACING,
    )
    assert mean_hu(image, radius_mm(spacing=WIDE_SPACING) < 125.0) == pytest.approx(0.0, abs=6.0)


def test_at_one_energy_bone_keeps_its_hu() -> None:
    image = scan(with_rods(BONE_HU, (30.0, 20.0)), replace(HEAD, tube=None))
    assert mean_hu(image, radius_mm((30.0, 20.0)) < 7.0) == pytest.approx(BONE_HU, rel=0.02)


def test_a_softer_beam_shows_bone_brighter() -> None:
    shown = [mean_hu(scan(with_rods(800.0, (30.0, 20.0)), replace(HEAD, tube=tube)), radius_mm((30.0, 20.0)) < 7.0)
             for tube in (HEAD_AND_NECK_CBCT.tube, PELVIS_CBCT.tube, None)]  # fmt: skip
    assert shown == sorted(shown, reverse=True)
    assert shown[0] < 1300.0


def test_hardening_darkens_the_line_between_two_bones() -> None:
    bones = with_rods(BONE_HU, (0.0, -45.0), (0.0, 45.0))
    between, beside = radius_mm() < 10.0, radius_mm((50.0, 0.0)) < 10.0
    hardened, straight = scan(bones, HEAD), scan(bones, replace(HEAD, tube=None))
    assert mean_hu(hardened, between) < mean_hu(hardened, beside) - 20.0
    assert mean_hu(straight, between) == pytest.approx(mean_hu(straight, beside), abs=6.0)


def cupping_hu(image: SimulatedCbct) -> float:
    return mean_hu(image, (radius_mm() > 55.0) & (radius_mm() < 70.0)) - mean_hu(image, radius_mm() < 20.0)


def test_scatter_cups_and_the_correction_takes_it_away() -> None:
    panel = replace(QUIET, scatter_per_path=HEAD_AND_NECK_CBCT.panel.scatter_per_path)
    cupping = [cupping_hu(scan(water(), replace(HEAD, panel=panel, scatter_left=left))) for left in (1.0, 0.15, 0.0)]
    assert cupping[0] > 30.0
    assert 3.0 < cupping[1] < 0.4 * cupping[0]
    assert cupping[2] == pytest.approx(0.0, abs=2.0)


def test_noise_falls_with_the_root_of_the_photons() -> None:
    few, many, all_but_endless = (
        scan(water(), replace(HEAD, panel=replace(QUIET, photons_per_mm2=photons))).hu_zyx
        for photons in (2e3, 8e3, 1e10)
    )
    noise = [float((image - all_but_endless)[6:18, radius_mm() < 60.0].std()) for image in (few, many)]
    assert noise[0] / noise[1] == pytest.approx(2.0, rel=0.05)


def test_few_views_make_streaks() -> None:
    rods = with_rods(BONE_HU, (0.0, -40.0))
    spread = [
        scan(rods, replace(HEAD, views=views)).hu_zyx[12, radius_mm((0.0, 30.0)) < 25.0].std() for views in (30, 360)
    ]
    assert spread[0] > 2.0 * spread[1]


@pytest.mark.parametrize(
    "settings", [HEAD, replace(PELVIS_CBCT, panel=QUIET, views=240, pixels_per_voxel=0.8)], ids=["full fan", "half fan"]
)
def test_a_small_ball_stays_within_a_tenth_of_a_voxel(settings: CbctSettings) -> None:
    up = (np.arange(SHAPE[0]) - (SHAPE[0] - 1) / 2) * SPACING[0]
    distance = np.hypot(up[:, None, None] - 17.0, radius_mm((-31.0, 22.0)))
    ball = np.clip((10.0 - distance) / 4.0 + 0.5, 0.0, 1.0)
    image = scan(np.maximum(water(), (1000.0 * ball).astype(np.float32)), settings).hu_zyx
    near = distance < 20.0
    before, after = (
        np.array(ndimage.center_of_mass(np.where(near & (hu > 100.0), hu, 0.0))) for hu in (1000.0 * ball, image)
    )
    assert np.abs(after - before).max() < 0.1


def test_outside_the_field_of_view_is_air() -> None:
    image = scan(water(150.0, WIDE_SPACING), HEAD, WIDE_SPACING)
    assert np.all(image.hu_zyx[~image.seen] == -1000.0)
    assert image.seen[12].sum() * 64.0 == pytest.approx(np.pi * 125.0**2, rel=0.06)
    assert image.hu_zyx.shape == image.seen.shape == SHAPE


def test_the_presets_see_160_to_180_mm_at_the_rim() -> None:
    shape = (120, 61, 61)
    for settings, lateral_mm in ((HEAD_AND_NECK_CBCT, 250.0), (PELVIS_CBCT, 450.0)):
        seen = cbct_geometry((2.0, 8.0, 8.0), settings).seen(shape, (2.0, 8.0, 8.0))
        rim = 30 + int(lateral_mm / 2.0 / 8.0)
        assert 150.0 < 2.0 * seen[:, 30, rim].sum() < 2.0 * seen[:, 30, 30].sum() <= 204.0
        assert seen[60, 30].sum() * 8.0 == pytest.approx(lateral_mm, abs=10.0)


def test_the_half_fan_shows_what_the_full_fan_cuts_off() -> None:
    wide = water(200.0, WIDE_SPACING)
    at_rim = radius_mm((0.0, 170.0), WIDE_SPACING) < 16.0
    full, half = (
        scan(wide, HEAD, WIDE_SPACING),
        scan(wide, replace(PELVIS_CBCT, panel=QUIET, views=240, pixels_per_voxel=0.8), WIDE_SPACING),
    )
    assert mean_hu(full, at_rim) == -1000.0
    assert mean_hu(half, at_rim) == pytest.approx(0.0, abs=15.0)


def test_who_moves_in_every_view_is_just_elsewhere() -> None:
    rods = with_rods(600.0, (20.0, 10.0))
    moved = scan(rods, replace(HEAD, motion=Motion((0.0, 8.0, 0.0), share=1.0))).hu_zyx
    still = scan(rods, HEAD).hu_zyx
    inside = radius_mm() < 60.0
    assert np.abs(np.roll(still, 2, axis=1) - moved)[12, inside].mean() < 5.0


@pytest.mark.parametrize("cycles", [1, 8])
def test_who_moves_in_some_views_leaves_streaks(cycles: int) -> None:
    rods = with_rods(BONE_HU, (0.0, -40.0))
    away = (radius_mm((0.0, -40.0)) > 30.0) & (radius_mm() < 65.0)
    motion = Motion((0.0, 8.0, 0.0), share=0.3, cycles=cycles)
    assert motion.shifted_views(400).mean() == pytest.approx(0.3, abs=0.01)
    still, moved = (scan(rods, replace(HEAD, motion=one)).hu_zyx[12, away] for one in (None, motion))
    assert np.abs(still).max() < 40.0
    assert np.abs(moved - still).max() > 60.0


def test_lag_turns_what_is_off_centre_with_the_gantry() -> None:
    rods = with_rods(BONE_HU, (0.0, -50.0))
    lagging, prompt = (scan(rods, replace(HEAD, panel=replace(QUIET, lag=lag))).hu_zyx for lag in (0.3, 0.0))
    difference = np.abs(lagging - prompt)[8:16].mean(axis=0)
    assert difference[radius_mm((0.0, -50.0)) < 20.0].mean() > 5.0
    assert difference[radius_mm((0.0, 20.0)) < 15.0].mean() < 3.0


def test_the_same_random_numbers_give_the_same_image() -> None:
    settings = replace(HEAD, panel=HEAD_AND_NECK_CBCT.panel, views=60)
    first, second = (scanned_anew(water(), settings).hu_zyx for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_features_are_compared_between_reconstructions_of_one_patient() -> None:
    image, region = water(60.0)[:10], np.zeros((10, *SHAPE[1:]), np.bool_)
    region[3:7] = radius_mm() < 30.0
    noisy = FlatPanel(photons_per_mm2=1e5)
    sharp = replace(HEAD_AND_NECK_CBCT, views=30, panel=noisy, lateral_field_mm=150.0, axial_field_mm=50.0)
    statistics = FeatureSettings.model_validate({"families": ["statistics"], "margin_mm": 0.0})
    perturbation = {"reconstruction": reconstructions([sharp, replace(sharp, hann_cut=0.3)])}
    rows = {row.tag: row for row in robustness([Subject(image, region, SPACING)], statistics, perturbation)}
    # The softer kernel takes noise away and leaves the mean.
    assert rows["stat_var"].cov > 0.5
    assert rows["stat_mean"].cov < 0.1
    assert np.isnan(rows["stat_mean"].icc)
