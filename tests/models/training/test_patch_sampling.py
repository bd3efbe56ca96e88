import numpy as np
import pytest

from models.training.patch_sampling import cut, cut_labels, turning

VOLUME = np.random.default_rng(0).normal(0.0, 100.0, (9, 11, 13)).astype(np.float32)
SPACING = (3.0, 2.0, 1.0)


def test_an_unturned_patch_is_the_region_itself() -> None:
    found = cut(VOLUME, np.array([4.0, 5.0, 6.0]), (3, 5, 7), np.eye(3), -1000.0)
    np.testing.assert_allclose(found, VOLUME[3:6, 3:8, 3:10], atol=1e-2)
    labels = (VOLUME > 0.0).astype(np.uint8)
    found_labels = cut_labels(labels, np.array([4.0, 5.0, 6.0]), (3, 5, 7), np.eye(3))
    assert np.array_equal(found_labels, labels[3:6, 3:8, 3:10])


def test_beyond_the_volume_there_is_what_was_said() -> None:
    found = cut(VOLUME, np.array([0.0, 5.0, 6.0]), (5, 3, 3), np.eye(3), -1000.0)
    np.testing.assert_allclose(found[:2], -1000.0)
    np.testing.assert_allclose(found[2:], VOLUME[0:3, 4:7, 5:8], atol=1e-2)
    assert not cut_labels(np.ones((3, 3, 3), np.uint8), np.array([9.0, 1.0, 1.0]), (3, 3, 3), np.eye(3)).any()


@pytest.mark.parametrize(("axis", "first", "second"), [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_quarter_turn_takes_one_axis_to_the_next_in_millimetres(axis: int, first: int, second: int) -> None:
    angles = np.zeros(3)
    angles[axis] = 90.0
    matrix = turning(angles, 1.0, SPACING)
    step = np.zeros(3)
    step[first] = 1.0
    turned_mm = (matrix @ step) * SPACING
    expected = np.zeros(3)
    expected[second] = SPACING[first]
    np.testing.assert_allclose(turned_mm, expected, atol=1e-9)


def test_turning_keeps_lengths_and_scaling_changes_them() -> None:
    matrix = turning(np.array([10.0, -7.0, 12.0]), 1.2, SPACING)
    step_mm = np.array([3.0, -4.0, 5.0])
    turned_mm = (matrix @ (step_mm / SPACING)) * SPACING
    assert np.linalg.norm(turned_mm) == pytest.approx(1.2 * np.linalg.norm(step_mm))


def test_a_turned_ball_stays_a_ball_of_its_size() -> None:
    z, y, x = (np.arange(31) - 15 for _ in range(3))
    ball = (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= 10**2).astype(np.uint8)
    matrix = turning(np.array([12.0, -12.0, 9.0]), 1.0, (1.0, 1.0, 1.0))
    turned = cut_labels(ball, np.array([15.0, 15.0, 15.0]), (31, 31, 31), matrix)
    assert turned.sum() == pytest.approx(ball.sum(), rel=0.01)
    assert (turned != ball).sum() < 0.1 * ball.sum()  # the rim, one way or the other
    half = cut_labels(ball, np.array([15.0, 15.0, 15.0]), (31, 31, 31), 2.0 * np.eye(3))
    assert half.sum() == pytest.approx(ball.sum() / 8.0, rel=0.05)
