import numpy as np
import pytest
from scipy.stats import norm

from models.brain_atlas import atlas_regions
from models.grey_white_ratio import (
    INSET_MM,
    RegionTooSmall,
    grey_white_ratios,
    histogram_gradient,
    region_medians_hu,
)
from tests.models.heads import head, laid


@pytest.mark.parametrize(("seed", "oedema"), [(1, 0.1), (2, 0.9)])
def test_the_ratio_of_a_head_is_that_of_its_grey_and_white_hu_to_three_hundredths(seed: int, oedema: float) -> None:
    anatomy = head(seed, oedema).anatomy
    medians = region_medians_hu(head(seed, oedema).hu_zyx, atlas_regions(laid(seed, oedema).at, INSET_MM))
    truth = anatomy.seen_deep_grey_hu / anatomy.seen_white_hu
    assert grey_white_ratios(medians)["gwr_basal_ganglia"] == pytest.approx(truth, abs=0.03)


def test_ratios_are_those_of_the_formulas() -> None:
    medians = {
        "caudate": 36.0, "putamen": 39.0, "posterior_limb": 26.0, "corpus_callosum": 24.0, "medial_cortex": 33.0,
        "centrum_semiovale": 30.0,
    }  # fmt: skip
    found = grey_white_ratios(medians)
    expected = {"gwr_basal_ganglia": 1.5, "gwr_putamen": 1.5, "gwr_cerebrum": 1.1, "gwr_average": 1.3}
    assert found == pytest.approx(expected)


def test_voxels_outside_of_the_window_do_not_count() -> None:
    hu = np.array([[[-900.0] * 30 + [35.0] * 41 + [2000.0] * 50]], np.float32)
    assert region_medians_hu(hu, {"putamen": np.ones(hu.shape, np.bool_)}) == {"putamen": 35.0}


def test_a_region_with_hardly_a_voxel_is_refused() -> None:
    hu = np.full((1, 1, 30), 35.0, np.float32)
    with pytest.raises(RegionTooSmall, match="posterior limb has 5 voxels"):
        region_medians_hu(hu, {"posterior_limb": np.arange(30)[None, None] < 5})


def test_the_histogram_of_a_normal_tissue_rises_fastest_one_sd_below_its_mean() -> None:
    # The smoothing adds its own variance of 4 HU^2; the steepest slope of a normal density is 0.242 / SD^2.
    hu = norm.ppf((np.arange(200_000) + 0.5) / 200_000, 35.0, 4.0).reshape(1, 1, -1).astype(np.float32)
    sd = float(np.hypot(4.0, 2.0))
    found = histogram_gradient(hu, np.ones(hu.shape, np.bool_))
    assert found.grey_level_hu == pytest.approx(35.0 - sd, abs=0.1)
    assert found.gradient == pytest.approx(norm.pdf(1.0) / sd**2, rel=0.01)


def test_the_rise_to_the_peak_of_fluid_is_passed_over() -> None:
    fluid, tissue = np.full(90_000, 7.0), norm.ppf((np.arange(60_000) + 0.5) / 60_000, 35.0, 4.0)
    hu = np.concatenate([fluid, tissue]).reshape(1, 1, -1).astype(np.float32)
    found = histogram_gradient(hu, np.ones(hu.shape, np.bool_))
    assert found.grey_level_hu == pytest.approx(35.0 - np.hypot(4.0, 2.0), abs=0.2)
