import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import j1

from models.lesions import (
    Invented,
    Lesion,
    contrast_recovery,
    coverage,
    invented,
    placed,
    planted,
    soft_places,
)

SIDE = 96
MUSCLE = np.full((SIDE, SIDE), 50.0, np.float32)
EVERYWHERE = np.ones((SIDE, SIDE), bool)
LESION = Lesion(48.3, 47.6, 50.0)


def blob(row: int, column: int, contrast_hu: float, diameter_mm: float = 5.0) -> NDArray[np.float32]:
    return planted(MUSCLE, [Lesion(row, column, contrast_hu)], 1.0, diameter_mm)


def counted(image: NDArray[np.float32], truth: NDArray[np.float32] = MUSCLE) -> Invented:
    return invented(image, truth, EVERYWHERE, 1.0)


@pytest.mark.parametrize("pixel_mm", [0.5, 1.0, 1.6])
def test_a_disc_covers_its_area_wherever_its_middle_lies(pixel_mm: float) -> None:
    for row in (20.0, 20.25, 20.5):
        area = coverage(Lesion(row, 31.1, 1.0), (SIDE, SIDE), pixel_mm).sum() * pixel_mm**2
        assert area == pytest.approx(np.pi * 2.5**2, rel=0.02)


def test_a_plus_covers_two_bars_less_their_crossing() -> None:
    width, length = 5.0 / 3.0, 5.0
    area = coverage(Lesion(20.0, 31.0, 1.0, "plus"), (SIDE, SIDE), 0.25).sum() * 0.25**2
    assert area == pytest.approx(2.0 * width * length - width**2, rel=0.05)


def test_a_lesion_changes_nothing_but_its_own_pixels() -> None:
    difference = planted(MUSCLE, [LESION], 1.0) - MUSCLE
    row, column = np.indices(MUSCLE.shape)
    assert difference.max() == 50.0
    assert not difference[np.hypot(row - 48.3, column - 47.6) > 3.3].any()


def test_a_lesion_at_the_rim_of_the_image_is_cut() -> None:
    assert coverage(Lesion(0.0, 50.0, 1.0), (SIDE, SIDE), 1.0).sum() == pytest.approx(
        np.pi * 2.5**2 / 2 + 2.5, rel=0.05
    )


@pytest.mark.parametrize("lesion", [LESION, Lesion(48.3, 47.6, -50.0), Lesion(48.3, 47.6, 50.0, "plus")])
def test_a_perfect_image_recovers_all_of_the_contrast(lesion: Lesion) -> None:
    assert contrast_recovery(planted(MUSCLE, [lesion], 1.6), MUSCLE, lesion, 1.6) == pytest.approx(1.0, abs=1e-5)


def test_an_image_without_the_lesion_recovers_none() -> None:
    assert contrast_recovery(MUSCLE, MUSCLE, LESION, 1.0) == 0.0


def test_half_the_lesion_is_half_its_contrast() -> None:
    half = planted(MUSCLE, [Lesion(48.3, 47.6, 25.0)], 1.0)
    assert contrast_recovery(half, MUSCLE, LESION, 1.0) == pytest.approx(0.5, abs=1e-5)


def test_a_smoothed_lesion_has_the_contrast_of_a_disc_convolved_with_a_gaussian() -> None:
    pixel_mm, sigma_mm, radius_mm, central_mm = 0.125, 1.5, 2.5, 1.25
    lesion = Lesion(160.0, 160.0, 50.0)
    flat = np.zeros((321, 321), np.float32)
    image = ndimage.gaussian_filter(planted(flat, [lesion], pixel_mm), sigma_mm / pixel_mm)
    # Mean over r < 1.25 mm of the disc of 2.5 mm convolved with the Gaussian, by the Hankel transform.
    k = np.linspace(1e-6, 12.0, 20001)
    smoothed = radius_mm * j1(k * radius_mm) * np.exp(-0.5 * (k * sigma_mm) ** 2)
    mean = np.trapezoid(smoothed * 2.0 * j1(k * central_mm) / (k * central_mm), k)
    assert contrast_recovery(image, flat, lesion, pixel_mm) == pytest.approx(mean, abs=0.005)


def test_lesions_lie_in_soft_tissue_well_apart() -> None:
    truth = MUSCLE.copy()
    truth[:, :30] = 800.0
    places = soft_places(truth, EVERYWHERE, 1.0)
    lesions = placed(places, [("disc", 50.0)] * 5, 1.0, np.random.default_rng(0))
    middles = np.array([(lesion.row, lesion.column) for lesion in lesions])
    distances = np.hypot(*(middles[:, None] - middles[None]).transpose(2, 0, 1))
    assert len(lesions) == 5 and distances[distances > 0.0].min() >= 19.0
    assert middles[:, 1].min() > 35.0 and middles.min() > 5.0 and middles.max() < SIDE - 6.0


def test_where_there_is_no_room_there_are_fewer_lesions() -> None:
    places = np.zeros_like(EVERYWHERE)
    places[40:44, 40:44] = True
    assert len(placed(places, [("disc", 50.0)] * 5, 1.0, np.random.default_rng(0))) == 1
    assert not placed(np.zeros_like(EVERYWHERE), [("disc", 50.0)], 1.0, np.random.default_rng(0))


def test_the_truth_has_nothing_invented() -> None:
    assert counted(MUSCLE) == Invented(0, 0)


@pytest.mark.parametrize("contrast_hu", [60.0, -60.0])
def test_a_false_blob_is_counted_whether_bright_or_dark(contrast_hu: float) -> None:
    assert counted(blob(40, 50, contrast_hu)) == Invented(1, 0)


def test_two_false_blobs_are_two_and_a_faint_one_is_none() -> None:
    two = planted(MUSCLE, [Lesion(30, 30, 60.0), Lesion(60, 60, 60.0), Lesion(30, 60, 20.0)], 1.0)
    assert counted(two) == Invented(2, 0)


def test_a_lesion_that_is_missing_was_erased_not_invented() -> None:
    assert counted(MUSCLE, blob(40, 50, 45.0)) == Invented(0, 1)
    assert counted(MUSCLE, blob(40, 50, 45.0)).blobs == 1


def test_the_noise_of_single_pixels_is_no_blob() -> None:
    noise = np.random.default_rng(0).normal(0.0, 20.0, MUSCLE.shape).astype(np.float32)
    assert counted(MUSCLE + noise).blobs == 0


def test_an_edge_that_is_less_sharp_is_no_blob() -> None:
    truth = MUSCLE.copy()
    truth[:, 48:] = -150.0
    assert counted(np.asarray(ndimage.gaussian_filter(truth, 3.0)), truth).blobs == 0


def test_outside_of_soft_tissue_nothing_is_counted() -> None:
    bone = np.full_like(MUSCLE, 900.0)
    assert counted(bone + blob(40, 50, 200.0) - MUSCLE, bone).blobs == 0
