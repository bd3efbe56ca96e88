"""Images made ready for registration: in their place, without couch, with the field of view that they have."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.intensity import AIR_HU
from models.placed_image import PlacedImage, field_of_view, halved, prepared

SHAPE = (12, 60, 60)
AFFINE = np.array([[-1.25, 0, 0, 30.0], [0, 1.25, 0, -20.0], [0, 0, -3, 7.0], [0, 0, 0, 1]])
"""Feet first: columns to the patient's right, slices to his feet."""


def cylinder(radius: float = 18.0, center: tuple[float, float] = (28.0, 33.0)) -> NDArray[np.float32]:
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = np.hypot(y - center[0], x - center[1]) <= radius
    return np.where(inside, 40.0, AIR_HU).astype(np.float32)


def test_coarser_voxels_leave_the_body_where_it_is() -> None:
    image = PlacedImage(cylinder(), AFFINE, np.ones(SHAPE, np.bool_))
    center = AFFINE[:3, :3] @ (33.0, 28.0, 5.5) + AFFINE[:3, 3]
    fine = prepared(image, 2.5)
    assert fine.spacing_zyx_mm == pytest.approx((3.0, 2.5, 2.5))
    assert fine.body_center_lps() == pytest.approx(center, abs=0.1)
    assert halved(fine).spacing_zyx_mm == pytest.approx((3.0, 5.0, 5.0))
    assert halved(fine).body_center_lps() == pytest.approx(center, abs=1.0)


def test_a_couch_is_taken_away_whether_it_touches_the_body_or_not() -> None:
    for top in (46, 50):
        hu = cylinder()
        hu[:, top : top + 3, 4:56] = 300.0
        image = prepared(PlacedImage(hu, AFFINE, np.ones(SHAPE, np.bool_)), 2.5)
        without = prepared(PlacedImage(cylinder(), AFFINE, np.ones(SHAPE, np.bool_)), 2.5)
        assert image.body.sum() == pytest.approx(without.body.sum(), rel=0.05)
        assert image.hu_zyx[:, -4:, :8].max() == AIR_HU


def test_the_field_of_view_is_a_circle_where_corners_are_fill_and_nothing_where_all_is() -> None:
    noisy = np.random.default_rng(1).normal(-990, 10, SHAPE).astype(np.float32)
    assert field_of_view(noisy).all()
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    circle = np.hypot(y - 29.5, x - 29.5) <= 25.0
    noisy[:, ~circle] = -1024.0
    noisy[0] = -1024.0
    seen = field_of_view(noisy)
    assert not seen[0].any()
    assert all(np.array_equal(plane, circle) for plane in seen[1:])


def test_the_edge_of_the_field_of_view_is_no_skin() -> None:
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    seen = np.broadcast_to(np.hypot(y - 29.5, x - 29.5) <= 12.0, SHAPE)
    image = prepared(PlacedImage(cylinder(), AFFINE, seen), 2.5)
    assert image.counts.any()
    assert image.hu_zyx[image.counts].min() == pytest.approx(40.0)


def test_what_can_not_be_prepared_is_refused() -> None:
    with pytest.raises(ValueError, match="shows no body"):
        prepared(PlacedImage(np.full(SHAPE, AIR_HU), AFFINE), 2.5)
    fine = prepared(PlacedImage(cylinder(), AFFINE, np.ones(SHAPE, np.bool_)), 2.5)
    speck = np.zeros_like(fine.body)
    speck[3, 7, 7] = True
    with pytest.raises(ValueError, match="too little of a body"):
        halved(replace(fine, body=speck))
    with pytest.raises(ValueError, match="field of view has the shape"):
        prepared(PlacedImage(cylinder(), AFFINE, np.ones((1, 2, 3), np.bool_)), 2.5)
