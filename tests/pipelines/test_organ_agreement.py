"""Organs that were found against those that were carried over: figures that arithmetic gives too."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.dicom.volume import Volume
from pipelines.organ_agreement import agreement, measured

GRID = Volume(
    np.zeros((10, 20, 20), np.float32), np.array([[-1.5, 0, 0, 9], [0, 2.0, 0, 4], [0, 0, -3, 1], [0, 0, 0, 1.0]])
)


def box(low: tuple[int, int, int], high: tuple[int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(GRID.array_zyx.shape, np.bool_)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def test_a_shifted_box_has_the_dice_and_shift_of_arithmetic() -> None:
    found, carried = box((2, 4, 6), (6, 12, 14)), box((2, 4, 4), (6, 12, 12))
    (organ,) = agreement({"PAROTID_L": found}, {"parotid_l": carried}, GRID)
    assert organ.organ == "Parotid_L"
    assert organ.dice == pytest.approx(6 / 8)
    assert organ.centroid_shift_lps_mm == pytest.approx((-3.0, 0.0, 0.0))
    assert organ.volume_ratio == pytest.approx(1.0)
    assert 0.0 < organ.mean_surface_distance_mm < 3.0


def test_a_larger_organ_has_a_ratio_above_one_and_equal_ones_agree() -> None:
    small, large = box((2, 4, 4), (4, 8, 8)), box((2, 4, 4), (6, 8, 8))
    grown, same = agreement({"Rectum": large, "Bladder": small}, {"Bladder": small, "Rectum": small}, GRID)
    assert (grown.organ, grown.volume_ratio) == ("Rectum", 2.0)
    assert grown.centroid_shift_lps_mm == pytest.approx((0.0, 0.0, -3.0))
    assert (same.dice, same.mean_surface_distance_mm, same.centroid_shift_mm, same.volume_ratio) == (1.0, 0.0, 0.0, 1.0)


def test_only_organs_that_both_have_are_compared() -> None:
    some, none = box((2, 4, 4), (4, 8, 8)), box((0, 0, 0), (0, 0, 0))
    assert agreement({"Rectum": some, "Larynx": none, "Brain": some}, {"Larynx": some, "Brain": none}, GRID) == ()
    with pytest.raises(ValueError, match="two masks are of the same organ"):
        agreement({"Rectum": some, "RECTUM": some}, {}, GRID)


def test_figures_have_names_with_their_units() -> None:
    some = box((2, 4, 4), (4, 8, 8))
    figures = measured(agreement({"Parotid_L": some}, {"Parotid_L": some}, GRID))
    assert [(one.name, one.value, one.unit) for one in figures] == [
        ("parotid_l_dice", 1.0, "1"),
        ("parotid_l_mean_surface_distance_mm", 0.0, "mm"),
        ("parotid_l_centroid_shift_mm", 0.0, "mm"),
        ("parotid_l_volume_ratio", 1.0, "1"),
    ]
