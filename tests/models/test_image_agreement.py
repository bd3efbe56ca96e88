"""Two images of one anatomy against each other, with differences that were put there."""

import numpy as np
import pytest

from models.image_agreement import image_difference

OTHER = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
BODY = OTHER >= 500


def test_a_constant_offset_is_the_mean_and_every_size() -> None:
    found = image_difference(OTHER - 7.0, OTHER, BODY)
    assert (found.mean_hu, found.mean_absolute_hu, found.p95_absolute_hu) == (-7.0, 7.0, 7.0)


def test_what_lies_outside_the_body_does_not_count() -> None:
    found = image_difference(np.where(BODY, OTHER, OTHER + 900.0), OTHER, BODY)
    assert (found.mean_hu, found.p95_absolute_hu) == (0.0, 0.0)


def test_differences_of_both_signs_cancel_in_the_mean_alone() -> None:
    signs = np.where(np.arange(1000).reshape(OTHER.shape) % 2, 4.0, -4.0)
    found = image_difference(OTHER + signs, OTHER, BODY)
    assert (found.mean_hu, found.mean_absolute_hu) == (0.0, 4.0)


def test_the_percentile_leaves_out_the_largest_twentieth() -> None:
    one = OTHER.copy()
    one.ravel()[500:520] += 100.0  # 4 % of the body
    assert image_difference(one, OTHER, BODY).p95_absolute_hu == 0.0
    one.ravel()[520:540] += 100.0
    assert image_difference(one, OTHER, BODY).p95_absolute_hu == 100.0


def test_images_of_different_shape_and_an_empty_body_are_refused() -> None:
    with pytest.raises(ValueError, match="not on one grid"):
        image_difference(OTHER[1:], OTHER, BODY)
    with pytest.raises(ValueError, match="without a voxel"):
        image_difference(OTHER, OTHER, np.zeros_like(BODY))
