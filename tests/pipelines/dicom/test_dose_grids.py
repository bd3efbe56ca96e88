"""Doses on the grid of an image, and doses added up when somebody asks for it."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.base import InputRejected
from pipelines.dicom.dose import Dose
from pipelines.dicom.dose_grids import dose_on, summed
from pipelines.dicom.volume import Volume


def volume(
    sizes_zyx: tuple[int, int, int], spacing_xyz: tuple[float, float, float], first_xyz: tuple[float, ...]
) -> Volume:
    affine = np.diag([*spacing_xyz, 1.0])
    affine[:3, 3] = first_xyz
    return Volume(np.zeros(sizes_zyx), affine)


def linear(grid: Volume) -> Volume:
    """30 Gy + 0.1 Gy/mm along x - 0.2 along y + 0.3 along z."""
    k, j, i = (axis.ravel() for axis in np.indices(grid.array_zyx.shape))
    places = grid.points_lps(np.stack([i, j, k], axis=1).astype(np.float64))
    return grid.with_array((30.0 + places @ [0.1, -0.2, 0.3]).reshape(grid.array_zyx.shape))


def dose(grid: Volume, summation: str = "PLAN", plan: str = "1.2.3", dose_type: str = "PHYSICAL") -> Dose:
    return Dose(linear(grid), "1.2.9", dose_type, summation, plan)


COARSE = volume((8, 9, 10), (3.0, 3.0, 3.0), (-13.5, -12.0, -10.5))


def test_a_linear_dose_is_itself_on_the_grid_of_an_image() -> None:
    image = volume((5, 11, 12), (1.25, 1.25, 2.5), (-6.0, -7.0, -5.0))
    assert dose_on(dose(COARSE), image).array_zyx == pytest.approx(linear(image).array_zyx)


def test_a_turned_image_gets_the_dose_of_its_place() -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[0.0, 2.0, 0.0], [-2.0, 0.0, 0.0], [0.0, 0.0, 2.0]]
    image = Volume(np.zeros((3, 4, 5)), affine)
    assert dose_on(dose(COARSE), image).array_zyx == pytest.approx(linear(image).array_zyx)


def test_where_there_is_no_dose_there_is_no_number() -> None:
    image = volume((1, 1, 4), (3.0, 3.0, 3.0), (9.0, 0.0, 0.0))
    # The last voxel centre of the dose lies at 13.5 mm, its face at 15 mm.
    assert np.isnan(dose_on(dose(COARSE), image).array_zyx).tolist() == [[[False, False, False, True]]]


def test_doses_of_two_plans_are_added_where_both_are() -> None:
    other = volume((8, 9, 4), (3.0, 3.0, 3.0), (-4.5, -12.0, -10.5))
    total = summed([dose(COARSE), dose(other, plan="1.2.4")])
    assert (total.dose_summation_type, total.rt_plan_uid) == ("MULTI_PLAN", "")
    assert total.volume.same_grid(other)
    assert total.volume.array_zyx == pytest.approx(2.0 * linear(other).array_zyx)


def test_beams_add_up_to_their_plan() -> None:
    total = summed([dose(COARSE, "BEAM")] * 3)
    assert (total.dose_summation_type, total.rt_plan_uid) == ("PLAN", "1.2.3")
    assert total.volume.array_zyx == pytest.approx(3.0 * linear(COARSE).array_zyx)


def test_one_dose_is_its_own_sum() -> None:
    one = dose(COARSE, "FRACTION")
    assert summed([one]) is one


@pytest.mark.parametrize(
    ("doses", "sentence"),
    [
        ([], "There is no dose to add up"),
        ([dose(COARSE), dose(COARSE, "BEAM")], "Two of the doses are of one plan, which would be counted twice"),
        ([dose(COARSE), dose(COARSE)], "Two of the doses are of one plan, which would be counted twice"),
        (
            [dose(COARSE), dose(COARSE, plan="1.2.4", dose_type="EFFECTIVE")],
            "A physical dose and an effective one can not be added up",
        ),
        (
            [dose(COARSE), replace(dose(COARSE, plan="1.2.4"), frame_of_reference_uid="1.2.8")],
            "The doses have different Frames of Reference",
        ),
        (
            [dose(COARSE), dose(volume((2, 2, 2), (3.0, 3.0, 3.0), (90.0, 0.0, 0.0)), plan="1.2.4")],
            "The doses cover no common box of the first dose grid",
        ),
    ],
)
def test_doses_that_do_not_add_up_are_refused(doses: list[Dose], sentence: str) -> None:
    with pytest.raises(InputRejected, match=f"^{sentence}$"):
        summed(doses)
