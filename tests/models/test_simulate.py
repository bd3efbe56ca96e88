from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.materials import MATERIALS, kv_hu_to_mv_hu
from models.simulate import (
    COARSE_MVCT,
    CentralPlaneSettings,
    MvctSettings,
    central_plane_cbct,
    mvct_geometry,
    simulated_mvct,
)

PIXEL_MM = 2.5
SPACING = (3.0, PIXEL_MM, PIXEL_MM)
NOISELESS = replace(COARSE_MVCT, photons_per_ray=1e12)
WATER = MATERIALS["water"]
BONE = MATERIALS["bone"]
BONE_KV_HU = 1000.0 * (BONE.kv_per_mm() / WATER.kv_per_mm() - 1.0)
BONE_MV_HU = 1000.0 * (BONE.mv_per_mm() / WATER.mv_per_mm() - 1.0)


def radius_mm(centre_mm: tuple[float, float] = (0.0, 0.0), pixels: int = 96) -> NDArray[np.float64]:
    axis_mm = (np.arange(pixels) - (pixels - 1) / 2) * PIXEL_MM
    return np.asarray(np.hypot(axis_mm[:, None] - centre_mm[0], axis_mm[None, :] - centre_mm[1]))


def water_disc(slices: int = 1) -> NDArray[np.float32]:
    return np.where(radius_mm() < 90.0, 0.0, -1000.0).astype(np.float32)[None].repeat(slices, 0)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_water_is_0_hu_and_air_is_minus_1000() -> None:
    mvct = simulated_mvct(water_disc(), SPACING, NOISELESS, rng())[0]
    assert mvct[radius_mm() < 75.0].mean() == pytest.approx(0.0, abs=2.0)
    assert mvct[radius_mm() > 105.0].mean() == pytest.approx(-1000.0, abs=2.0)


def test_bone_contrast_drops_by_the_ratio_of_attenuation() -> None:
    hu = water_disc()
    hu[0][radius_mm((20.0, 30.0)) < 20.0] = BONE_KV_HU
    mvct = simulated_mvct(hu, SPACING, NOISELESS, rng())[0]
    assert mvct[radius_mm((20.0, 30.0)) < 12.0].mean() == pytest.approx(BONE_MV_HU, rel=0.02)
    assert BONE_MV_HU / BONE_KV_HU == pytest.approx(0.48, abs=0.02)


def test_soft_tissue_contrast_shrinks() -> None:
    fat_hu, muscle_hu = kv_hu_to_mv_hu(np.array([-79.0, 43.0]))
    assert muscle_hu - fat_hu < 0.9 * (43.0 + 79.0)


def test_the_map_to_megavoltage_hu_never_turns_back() -> None:
    assert np.all(np.diff(kv_hu_to_mv_hu(np.arange(-1000.0, 3000.0, 10.0))) > 0.0)


def test_noise_falls_with_the_root_of_the_fluence() -> None:
    def noise_hu(photons: float) -> float:
        mvct = simulated_mvct(water_disc(8), SPACING, replace(COARSE_MVCT, photons_per_ray=photons), rng())
        return float(mvct[:, radius_mm() < 30.0].std())

    assert noise_hu(2e3) / noise_hu(8e3) == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("noise_sd_hu", [20.0, 40.0])
def test_noise_is_what_was_asked_for(noise_sd_hu: float) -> None:
    mvct = simulated_mvct(water_disc(8), SPACING, replace(COARSE_MVCT, noise_sd_hu=noise_sd_hu), rng())
    assert mvct[:, radius_mm() < 30.0].std() == pytest.approx(noise_sd_hu, rel=0.12)


def test_a_small_disc_stays_within_a_tenth_of_a_pixel() -> None:
    hu = water_disc()
    hu[0][radius_mm((-31.0, 22.0)) < 8.0] = 1000.0
    mvct = simulated_mvct(hu, SPACING, NOISELESS, rng())
    near = radius_mm((-31.0, 22.0)) < 16.0
    before, after = (
        np.array(ndimage.center_of_mass(np.where(near, np.maximum(image, 0.0), 0.0)))
        for image in (kv_hu_to_mv_hu(hu)[0], mvct[0])
    )
    assert np.abs(after - before).max() < 0.1


def test_shapes_that_are_not_square_keep_their_shape() -> None:
    hu = water_disc()[:, 10:90, :]
    mvct = simulated_mvct(hu, SPACING, NOISELESS, rng())
    assert mvct.shape == hu.shape
    assert mvct.dtype == np.float32


def test_pixels_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="not square"):
        simulated_mvct(water_disc(), (3.0, 2.0, 2.5), NOISELESS, rng())


def test_the_same_random_numbers_give_the_same_image() -> None:
    first, second = (simulated_mvct(water_disc(), SPACING, COARSE_MVCT, rng()) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_default_sampling_is_that_of_the_unit() -> None:
    geometry = mvct_geometry(np.zeros((1, 200, 200)), (3.0, 2.0, 2.0), MvctSettings().views, MvctSettings().detector_mm)
    assert 2 * geometry.views == 800
    assert 528 * geometry.detector_mm == pytest.approx(400.0)
    assert geometry.detectors * geometry.detector_mm > np.hypot(400.0, 400.0)


def test_scatter_cups_a_central_plane() -> None:
    cbct = central_plane_cbct(water_disc(4), SPACING, CentralPlaneSettings(photons_per_ray=1e12), rng())
    middle, rim = cbct[:, radius_mm() < 20.0].mean(), cbct[:, (radius_mm() > 65.0) & (radius_mm() < 80.0)].mean()
    assert -200.0 < middle < rim - 30.0


def test_without_scatter_a_central_plane_shows_water_as_water() -> None:
    cbct = central_plane_cbct(
        water_disc(), SPACING, CentralPlaneSettings(photons_per_ray=1e12, scatter_left=0.0), rng()
    )
    assert cbct[0][radius_mm() < 75.0].mean() == pytest.approx(0.0, abs=3.0)
