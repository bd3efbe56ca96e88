import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erf

from models.edge_sharpness import edge_rise_mm

SIDE = 128
EVERYWHERE = np.ones((SIDE, SIDE), bool)
TEN_TO_NINETY = 2.5631
"""Of a step smoothed by a Gaussian of SD 1."""


def disc(sigma_pixels: float, high_hu: float = 500.0) -> NDArray[np.float64]:
    row, column = np.indices((SIDE, SIDE))
    outside = np.hypot(row - 63.3, column - 64.1) - 40.0
    return np.asarray(high_hu * 0.5 * (1.0 - erf(outside / sigma_pixels / np.sqrt(2.0))))


@pytest.mark.parametrize(("sigma", "tolerance"), [(0.8, 0.02), (1.0, 0.02), (1.5, 0.05)])
def test_the_rise_of_a_smoothed_step_is_that_of_its_error_function(sigma: float, tolerance: float) -> None:
    found = edge_rise_mm(disc(sigma), disc(0.8), EVERYWHERE, 1.5)
    assert found == pytest.approx(TEN_TO_NINETY * sigma * 1.5, rel=tolerance)


def test_a_wider_edge_is_wider_though_its_ends_are_out_of_reach() -> None:
    rises = [edge_rise_mm(disc(sigma), disc(0.8), EVERYWHERE, 1.0) or 0.0 for sigma in (1.5, 2.0, 3.0)]
    assert rises == sorted(rises) and rises[-1] < 8.0


def test_contrast_alone_does_not_change_the_rise() -> None:
    weak, strong = (edge_rise_mm(disc(1.0, high), disc(0.8), EVERYWHERE, 1.0) for high in (100.0, 1000.0))
    assert weak == pytest.approx(strong)


def test_an_image_without_the_edge_has_the_longest_rise() -> None:
    assert edge_rise_mm(np.zeros((SIDE, SIDE)), disc(0.8), EVERYWHERE, 1.0) == 8.0


def test_a_truth_with_no_strong_edge_in_the_region_measures_nothing() -> None:
    assert edge_rise_mm(disc(1.0), disc(0.8, 200.0), EVERYWHERE, 1.0) is None
    middle = np.zeros_like(EVERYWHERE)
    middle[50:70, 50:70] = True
    assert edge_rise_mm(disc(1.0), disc(0.8), middle, 1.0) is None


@pytest.mark.parametrize("behind_hu", [0.0, 400.0])
def test_a_thin_bar_is_no_edge_that_stands_alone(behind_hu: float) -> None:
    truth = np.zeros((SIDE, SIDE))
    truth[:, 60:63] = 900.0
    truth[:, 63:] = behind_hu
    assert edge_rise_mm(truth, truth, EVERYWHERE, 1.0) is None
