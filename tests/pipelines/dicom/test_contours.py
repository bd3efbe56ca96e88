"""Masks to contours and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pipelines.dicom.contours import filled, outlines


def area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon.T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def ring(size: int = 21, outer: float = 8, inner: float = 4) -> NDArray[np.bool_]:
    row, column = np.mgrid[:size, :size] - size // 2
    radius = np.hypot(row, column)
    return np.asarray((radius <= outer) & (radius > inner))


def test_one_pixel_is_a_diamond_around_its_centre() -> None:
    mask = np.zeros((5, 7), dtype=np.bool_)
    mask[2, 3] = True
    (polygon,) = outlines(mask)
    assert sorted(map(tuple, polygon.tolist())) == [(2.5, 2.0), (3.0, 1.5), (3.0, 2.5), (3.5, 2.0)]


def test_a_rectangle_has_eight_corners_half_a_pixel_outside() -> None:
    mask = np.zeros((9, 9), dtype=np.bool_)
    mask[2:6, 3:8] = True
    (polygon,) = outlines(mask)
    assert len(polygon) == 8
    assert area(polygon) == pytest.approx(4 * 5 - 4 * 0.125)


def test_a_hole_is_joined_to_its_contour_and_stays_a_hole() -> None:
    mask = ring()
    polygons = outlines(mask)
    assert len(polygons) == 1
    assert np.array_equal(filled(polygons, mask.shape), mask)
    assert area(polygons[0]) == pytest.approx(mask.sum(), rel=0.05)


def test_a_mask_that_fills_the_image_comes_back() -> None:
    mask = np.ones((4, 6), dtype=np.bool_)
    assert np.array_equal(filled(outlines(mask), mask.shape), mask)


def test_a_contour_in_a_contour_is_a_hole_and_one_outside_of_the_image_is_nothing() -> None:
    outer = np.array([[0.5, 0.5], [8.5, 0.5], [8.5, 8.5], [0.5, 8.5]])
    inner = outer / 2 + 2
    assert filled([outer, inner], (10, 10)).sum() == 64 - 16
    assert filled([outer + 100, outer - 100], (10, 10)).sum() == 0
    assert filled([outer * 100 - 200], (10, 10)).all()


def test_an_empty_mask_has_no_contour() -> None:
    assert outlines(np.zeros((3, 3), dtype=np.bool_)) == []


@settings(max_examples=200, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(2, 12), st.integers(2, 12))))
def test_any_mask_comes_back_exactly(mask: NDArray[np.bool_]) -> None:
    assert np.array_equal(filled(outlines(mask), (mask.shape[0], mask.shape[1])), mask)
