"""Hot spots are cut at a stated level, and counted."""

import numpy as np
import pytest

from models.dose_samples import DoseRefused
from models.dosiomics import cut_dose


def test_what_is_above_the_level_is_cut_and_counted_in_the_region() -> None:
    gy = np.array([[[100.0, 200.0, 291.0, 5000.0, 400.0]]])
    region = np.array([[[True, True, True, True, False]]])
    found = cut_dose(gy, region, 290.0)
    assert found.gy_zyx.tolist() == [[[100.0, 200.0, 290.0, 290.0, 290.0]]]
    assert (found.level_gy, found.cut_percent) == (290.0, 50.0)


@pytest.mark.parametrize(
    ("gy", "inside", "level_gy", "sentence"),
    [
        (1.0, True, 0.0, "The level at which a dose is cut is not above 0 Gy"),
        (1.0, False, 1.0, "The region has no voxel"),
        (np.nan, True, 1.0, "The dose has voxels without a number"),
    ],
)
def test_a_dose_that_can_not_be_cut_is_refused(gy: float, inside: bool, level_gy: float, sentence: str) -> None:
    with pytest.raises(DoseRefused, match=f"^{sentence}$"):
        cut_dose(np.full((1, 1, 1), gy), np.full((1, 1, 1), inside), level_gy)


def test_a_region_on_another_grid_is_refused() -> None:
    with pytest.raises(DoseRefused, match="not on the grid"):
        cut_dose(np.ones((1, 1, 2)), np.ones((1, 1, 1), np.bool_), 1.0)
