import numpy as np
import pytest
from numpy.typing import NDArray

from models.spatial_autocorrelation import moran_and_geary

SPACING = (3.0, 1.0, 2.0)


def pair_by_pair(image: NDArray[np.float64], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The formulas of the manual as they stand."""
    points, values = np.argwhere(mask) * np.array(SPACING), image[mask]
    deviations, n = values - values.mean(), len(values)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    weights = 1.0 / distances
    variation = (deviations**2).sum()
    moran = n / weights.sum() * (weights * np.outer(deviations, deviations)).sum() / variation
    geary = (n - 1) / 2 / weights.sum() * (weights * (values[:, None] - values) ** 2).sum() / variation
    return float(moran), float(geary)


@pytest.mark.parametrize("seed", range(4))
def test_both_measures_are_those_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 3))
    image, mask = rng.normal(40.0, 20.0, shape), rng.random(shape) < 0.6
    mask.ravel()[:2] = True
    assert moran_and_geary(image, mask, SPACING) == pytest.approx(pair_by_pair(image, mask), abs=1e-10)


def test_neighbours_alike_are_correlated_and_a_single_intensity_is_wholly() -> None:
    ramp = np.broadcast_to(np.arange(12.0), (12, 12, 12)).copy()
    everywhere = np.ones(ramp.shape, np.bool_)
    moran, geary = moran_and_geary(ramp, everywhere, (1.0, 1.0, 1.0))
    assert moran > 0.1
    assert geary < 0.9
    assert moran_and_geary(np.full(ramp.shape, 7.0), everywhere, (1.0, 1.0, 1.0)) == (1.0, 1.0)


def test_a_single_voxel_has_no_pair() -> None:
    with pytest.raises(ValueError, match="no pair"):
        moran_and_geary(np.ones((1, 1, 1)), np.ones((1, 1, 1), np.bool_), SPACING)
