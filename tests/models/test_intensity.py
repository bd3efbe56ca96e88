import numpy as np
import pytest

from models.intensity import body_mask, denormalised, normalised, written_back

WINDOW = (-600.0, 400.0)


def test_the_window_maps_to_minus_one_and_one() -> None:
    assert normalised(np.array([-1000.0, -600.0, -100.0, 400.0, 2000.0]), WINDOW).tolist() == [-1, -1, 0, 1, 1]


def test_there_and_back_is_the_identity_inside_the_window() -> None:
    hu = np.linspace(-600.0, 400.0, 101)
    np.testing.assert_allclose(denormalised(normalised(hu, WINDOW), WINDOW), hu, atol=1e-3)


def test_voxels_outside_the_window_keep_their_input_value() -> None:
    hu = np.array([-1000.0, -600.0, 0.0, 400.0, 3000.0], np.float32)
    assert written_back(hu, np.zeros(5), WINDOW).tolist() == [-1000.0, -600.0, -100.0, 400.0, 3000.0]


def test_a_result_beyond_the_range_is_clipped_to_the_window() -> None:
    assert written_back(np.zeros(1), np.array([1.5]), WINDOW).tolist() == [400.0]


def test_the_body_is_the_largest_component_with_its_holes() -> None:
    hu = np.full((3, 20, 20), -1000.0)
    hu[:, 4:14, 4:14] = 0.0
    hu[:, 7:10, 7:10] = -1000.0
    hu[:, 17:19, :] = 0.0
    body = body_mask(hu)
    assert body.sum() == 3 * 100
    assert body[1, 8, 8] and not body[1, 18, 5]


@pytest.mark.parametrize("hu", [-1000.0, -400.0])
def test_air_has_no_body(hu: float) -> None:
    assert not body_mask(np.full((2, 4, 4), hu)).any()
