import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import body_mask
from models.phantoms import head_and_neck_phantom
from models.stability_measures import (
    UNITS,
    air_xor_fraction,
    dice,
    domain_measures,
    edge_shift_mm,
    largest_local_change_hu,
    mean_change_hu,
    noise_growth,
    stability_measures,
)
from models.weights import TrainingDomain

SPACING = (6.0, 2.0, 2.0)
HU = head_and_neck_phantom((8, 128, 128), SPACING, np.random.default_rng(0)).hu_zyx
BODY = body_mask(HU)
DOMAIN = TrainingDomain(
    modality="simulated MVCT",
    pixel_spacing_mm=(1.0, 4.0),
    slice_spacing_mm=(1.0, 3.0),
    body_mean_hu=0.0,
    body_mean_sd_hu=20.0,
    patients=2,
    slices=10,
)


def shifted(rows: float, columns: float) -> NDArray[np.float32]:
    return np.asarray(ndimage.shift(HU, (0, rows, columns), order=3, mode="nearest"), np.float32)


def test_the_same_image_has_no_change_at_all() -> None:
    values = stability_measures(HU, HU, SPACING)
    assert values.pop("edge_shift_mm") == pytest.approx(0.0, abs=0.01)
    assert set(values.values()) == {0.0}


def test_every_measure_has_a_unit() -> None:
    names = {*stability_measures(HU, HU, SPACING), *domain_measures(DOMAIN, HU, SPACING)}
    assert names == set(UNITS)


def test_a_shift_of_all_values_is_the_mean_change() -> None:
    assert mean_change_hu(HU, HU + 30.0, BODY) == pytest.approx(30.0, rel=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(0.5, 0.0), (0.0, -0.8), (0.3, 0.4)])
def test_a_displacement_is_found_to_a_twentieth_of_a_pixel(rows: float, columns: float) -> None:
    expected_mm = 2.0 * float(np.hypot(rows, columns))
    assert edge_shift_mm(HU, shifted(rows, columns), SPACING) == pytest.approx(expected_mm, abs=0.2)


def test_more_contrast_is_no_displacement() -> None:
    assert edge_shift_mm(HU, np.where(HU > 100.0, 1.6 * HU - 60.0, HU), SPACING) < 0.2


def test_noise_taken_away_is_a_small_displacement() -> None:
    noisy = HU + np.random.default_rng(0).normal(0.0, 35.0, HU.shape)
    assert edge_shift_mm(noisy, HU, SPACING) < 0.4


def test_an_image_without_edges_has_no_displacement() -> None:
    flat = np.zeros((2, 64, 64), np.float32)
    assert edge_shift_mm(flat, flat, SPACING) == 0.0


def test_a_structure_that_vanished_is_a_large_local_change_but_noise_is_not() -> None:
    vanished = HU.copy()
    vanished[4, 60:66, 60:66] -= 500.0
    noisy = HU + np.random.default_rng(0).normal(0.0, 35.0, HU.shape)
    noise_change = largest_local_change_hu(HU, noisy, BODY, SPACING)
    assert largest_local_change_hu(HU, vanished, BODY, SPACING) > 2.0 * noise_change


def test_air_that_was_filled_is_counted() -> None:
    filled = np.where(BODY, np.maximum(HU, 0.0), HU)
    expected = float((HU[BODY] < -500.0).mean())
    assert expected > 0.0
    assert air_xor_fraction(HU, filled, BODY) == pytest.approx(expected)


def test_dice_of_half_an_overlap() -> None:
    first, second = np.zeros((1, 2, 4), bool), np.zeros((1, 2, 4), bool)
    first[..., :2], second[..., 1:3] = True, True
    assert dice(first, second) == pytest.approx(0.5)
    assert dice(first & ~first, second & ~second) == 1.0


def test_a_volume_without_a_body_measures_nothing() -> None:
    air = np.full((2, 64, 64), -1000.0, np.float32)
    assert set(stability_measures(air, air, SPACING).values()) == {0.0}


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        stability_measures(HU, HU[:4], SPACING)


def test_spacing_outside_the_training_range_is_measured_in_mm() -> None:
    values = domain_measures(DOMAIN, HU, (5.0, 0.75, 0.75))
    assert values["pixel_spacing_outside_mm"] == pytest.approx(0.25)
    assert values["slice_spacing_outside_mm"] == pytest.approx(2.0)


def test_departure_of_the_mean_is_in_standard_deviations() -> None:
    uniform = np.full((2, 32, 32), 40.0, np.float32)
    assert domain_measures(DOMAIN, uniform, SPACING)["body_mean_departure_sd"] == pytest.approx(2.0)


def noisy(sd_hu: float, seed: int = 1) -> NDArray[np.float32]:
    """Water in the form of the phantom."""
    return np.asarray(
        np.where(BODY, 0.0, -1000.0) + np.random.default_rng(seed).normal(0.0, sd_hu, HU.shape), np.float32
    )


@pytest.mark.parametrize(("before_hu", "after_hu", "growth"), [(20.0, 30.0, 0.5), (20.0, 60.0, 2.0), (20.0, 10.0, 0.0)])
def test_noise_that_grows_is_found_and_noise_that_is_taken_away_is_none(
    before_hu: float, after_hu: float, growth: float
) -> None:
    assert noise_growth(noisy(before_hu), noisy(after_hu, 2), BODY) == pytest.approx(growth, abs=0.05)


def test_more_contrast_of_bone_and_fat_is_hardly_noise() -> None:
    noise = np.random.default_rng(1).normal(0.0, 20.0, HU.shape)
    contrast = np.where(HU > 100.0, 1.6 * HU - 60.0, np.where(HU < -50.0, 1.2 * HU, HU))
    assert noise_growth(HU + noise, contrast + noise, BODY) < 0.05


def test_noise_of_an_empty_image_has_not_grown() -> None:
    assert noise_growth(HU, HU, np.zeros_like(BODY)) == 0.0


def test_what_is_not_known_of_the_training_is_no_measure() -> None:
    unknown = DOMAIN.model_copy(update={"pixel_spacing_mm": None, "slice_spacing_mm": None, "body_mean_hu": None})
    assert domain_measures(unknown, np.zeros((4, 8, 8), np.float32), SPACING) == {}
