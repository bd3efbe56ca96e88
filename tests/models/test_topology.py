import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from models.topology import TopologyUnavailable, betti_curves, diagram, life_summary

INSIDE, OUTSIDE = 0.0, 1.0
Z, Y, X = np.ogrid[-12:13, -12:13, -12:13]


def ball(radius: float, z: float = 0.0) -> NDArray[np.bool_]:
    return np.asarray((Z - z) ** 2 + Y**2 + X**2 <= radius**2)


SHAPES = {
    "ball": (ball(9), (1, 0, 0)),
    "two balls": (ball(4, -6) | ball(4, 6), (2, 0, 0)),
    "torus": ((np.sqrt(Y**2 + X**2) - 7) ** 2 + Z**2 <= 9, (1, 1, 0)),
    "hollow sphere": (ball(9) & ~ball(5), (1, 0, 1)),
    "hollow torus": (
        ((np.sqrt(Y**2 + X**2) - 7) ** 2 + Z**2 <= 16) & ((np.sqrt(Y**2 + X**2) - 7) ** 2 + Z**2 > 4),
        (1, 2, 1),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_betti_numbers_of_a_shape_are_those_of_its_homology(name: str) -> None:
    shape, known = SHAPES[name]
    found = diagram(np.where(shape, INSIDE, OUTSIDE))
    curves = betti_curves(found, np.array([-0.5, 0.5, 1.5]))
    np.testing.assert_array_equal(curves.T, [(0, 0, 0), known, (1, 0, 0)])


@pytest.mark.parametrize("name", SHAPES)
def test_a_region_has_the_homology_of_its_shape_whatever_surrounds_it(name: str) -> None:
    shape, known = SHAPES[name]
    values = np.random.default_rng(0).normal(0.0, 1.0, shape.shape)
    found = diagram(values, shape)
    np.testing.assert_array_equal(betti_curves(found, np.array([values.max() + 1]))[:, 0], known)
    assert found.birth.max() <= values[shape].max()


def test_a_valley_is_born_at_its_floor_and_dies_at_the_pass_to_a_deeper_one() -> None:
    # Two valleys of depth 10 and 30 with a pass of height 50 between them.
    row = np.array([60.0, 30.0, 50.0, 10.0, 70.0])
    found = diagram(row.reshape(1, 1, -1)).of_dimension(0)
    assert list(zip(found.birth, found.death, strict=True)) == [(10.0, np.inf), (30.0, 50.0)]
    assert found.life[1] == 20.0


def test_short_lives_are_what_noise_makes() -> None:
    shape, _ = SHAPES["hollow sphere"]
    noisy = np.where(shape, INSIDE, OUTSIDE) + np.random.default_rng(1).normal(0.0, 0.05, shape.shape)
    found = diagram(noisy)
    assert len(found.birth) > 500
    lasting = found.longer_than(0.5)
    assert sorted(lasting.dimension) == [0, 2]
    assert lasting.of_dimension(2).birth[0] == pytest.approx(INSIDE, abs=0.25)
    assert lasting.of_dimension(2).death[0] == pytest.approx(OUTSIDE, abs=0.3)


def test_betti_numbers_add_up_to_the_euler_characteristic() -> None:
    present = np.random.default_rng(2).random((7, 8, 9)) < 0.4
    betti = betti_curves(diagram(np.where(present, INSIDE, OUTSIDE)), np.array([0.5]))[:, 0]
    assert betti[0] - betti[1] + betti[2] == euler_characteristic(present)


def euler_characteristic(present: NDArray[np.bool_]) -> int:
    """Corners less edges plus faces less voxels of the closed voxels."""
    cells = np.zeros([2 * n + 1 for n in present.shape], np.bool_)
    for index in np.argwhere(present):
        cells[tuple(slice(2 * i, 2 * i + 3) for i in index)] = True
    # An odd index is the inside of a voxel along that axis, an even one its border.
    dimension = np.indices(cells.shape).astype(np.int64) % 2
    return int(np.where(dimension.sum(axis=0) % 2, -1, 1)[cells].sum())


@pytest.mark.parametrize(
    ("values", "mask"),
    [
        (np.zeros((3, 3)), None),
        (np.full((2, 2, 2), np.nan), None),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2), np.bool_)),
        (np.zeros((2, 2, 2)), np.ones((2, 2, 3), np.bool_)),
    ],
)
def test_what_is_no_volume_is_refused(values: NDArray[np.float64], mask: NDArray[np.bool_] | None) -> None:
    with pytest.raises(ValueError, match=r"volume of finite values|region is empty"):
        diagram(values, mask)


def test_a_summary_counts_and_measures_what_vanishes() -> None:
    # Floors 0, 10, 30 and passes 20, 50 between them: lives of 10 and 20, and one without end.
    found = life_summary(diagram(np.array([0.0, 20.0, 10.0, 50.0, 30.0]).reshape(1, 1, -1)))
    assert (found["h0_count"], found["h0_life_sum"], found["h0_life_max"]) == (2.0, 30.0, 20.0)
    assert found["h0_life_entropy"] == pytest.approx(np.log2(3.0) - 2.0 / 3.0)
    assert {found[f"h{dimension}_{what}"] for dimension in (1, 2) for what in ("count", "life_sum", "life_max")} == {0}
    assert found["h2_life_entropy"] == 0.0


def test_lives_are_chosen_by_where_they_begin() -> None:
    found = diagram(np.array([0.0, 20.0, 10.0, 50.0, 30.0]).reshape(1, 1, -1))
    assert list(found.born_between(10.0, 30.0).birth) == [30.0, 10.0]
    assert list(found.born_between(10.0, 29.0).birth) == [10.0]


def test_the_absence_of_the_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gudhi", None)
    with pytest.raises(TopologyUnavailable, match="install rtnode with the extra radiomics"):
        diagram(np.zeros((2, 2, 2)))
