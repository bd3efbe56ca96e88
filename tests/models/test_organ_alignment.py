"""Where organs ought to lie by the image around them: balls in a made-up patient, moved by known distances."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask
from models.organ_alignment import (
    Alignment,
    alignment,
    organ_hu,
    organ_hu_departure_sd,
    organ_misfit_sd,
    organ_shift_sd,
    usual_alignment,
)
from models.organ_surroundings import surfaces, surroundings, usual_surroundings

SPACING = (3.0, 2.0, 2.0)
SHAPE = (24, 40, 40)
CENTRES = {"Liver": (36.0, 40.0, 28.0), "Spleen": (33.0, 36.0, 56.0)}
"""In mm from the first voxel; what lies in front of both is bone, what lies behind is air."""
RADIUS_MM = 12.0


def squared_mm(centre: tuple[float, float, float]) -> NDArray[np.float64]:
    places = np.indices(SHAPE).transpose(1, 2, 3, 0) * SPACING
    return np.asarray(((places - centre) ** 2).sum(axis=-1))


def organs() -> dict[str, Mask]:
    return {organ: np.asarray(squared_mm(centre) <= RADIUS_MM**2) for organ, centre in CENTRES.items()}


def image(moved_zyx_mm: tuple[float, float, float] = (0.0, 0.0, 0.0), seed: int = 6) -> NDArray[np.float64]:
    """The organs at 60 HU in fat, bone in front of them and air behind; all of it moved, then noise added."""
    rows = np.indices(SHAPE)[1] * SPACING[1] - moved_zyx_mm[1]
    hu = np.where(rows < 20.0, 300.0, np.where(rows > 58.0, -1000.0, -100.0))
    for centre in CENTRES.values():
        z, y, x = (start + by for start, by in zip(centre, moved_zyx_mm, strict=True))
        hu[squared_mm((z, y, x)) <= RADIUS_MM**2] = 60.0
    smooth = ndimage.gaussian_filter(hu, 0.7)
    return np.asarray(smooth + np.random.default_rng(seed).normal(0.0, 10.0, SHAPE))


def lie(hu: NDArray[Any], masks: Mapping[str, Mask]) -> Alignment:
    """Of these masks, where two images of unmoved organs tell what is usual."""
    usual = usual_surroundings(
        [
            {organ: surroundings(one) for organ, one in surfaces(image(seed=seed), organs(), SPACING).items()}
            for seed in (1, 2)
        ]
    )
    found = alignment(surfaces(hu, masks, SPACING), usual)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "moved_mm", [(0.0, 0.0, 0.0), (3.0, 0.0, 0.0), (0.0, -1.0, 2.5), (-2.0, 3.0, 0.0), (1.5, 1.5, -4.0)]
)
def test_the_image_tells_how_far_it_lies_from_the_organs_to_a_part_of_a_voxel(
    moved_mm: tuple[float, float, float],
) -> None:
    np.testing.assert_allclose(lie(image(moved_mm), organs()).shift_zyx_mm, moved_mm, atol=0.7)


def test_the_same_masks_and_image_give_the_same_shift() -> None:
    first, second = (lie(image(), organs()) for _ in range(2))
    np.testing.assert_array_equal(first.shift_zyx_mm, second.shift_zyx_mm)


def test_one_organ_in_the_wrong_place_has_a_misfit_and_the_other_has_none() -> None:
    here = lie(image(), organs())
    moved = {**organs(), "Spleen": np.roll(organs()["Spleen"], 5, axis=1)}
    there = lie(image(), moved)
    assert there.misfit_hu["Liver"] == here.misfit_hu["Liver"] < 20.0
    assert there.misfit_hu["Spleen"] > 4.0 * here.misfit_hu["Spleen"]


def test_of_organs_whose_surroundings_nobody_knows_nothing_is_said() -> None:
    assert alignment(surfaces(image(), organs(), SPACING), {}) is None
    assert surfaces(image(), {"Liver": np.zeros(SHAPE, bool)}, SPACING) == {}


def test_the_usual_is_the_mean_and_the_sd_of_patients_and_a_rare_organ_has_the_spread_of_all() -> None:
    several = [
        Alignment(np.array([z, 1.0, 0.0]), {"Liver": hu, **({"Spleen": hu + 5.0} if number < 2 else {})})
        for number, (z, hu) in enumerate([(0.0, 40.0), (2.0, 50.0), (4.0, 60.0)])
    ]
    usual = usual_alignment(several)
    assert (usual["organ_shift_z_mm"], usual["organ_shift_z_mm_sd"]) == (2.0, 2.0)
    assert (usual["organ_shift_y_mm"], usual["organ_shift_y_mm_sd"]) == (1.0, 0.0)
    # Variances are 100 and 50, their mean 75, which counts as much as four patients.
    assert usual["liver_misfit_hu_sd"] == pytest.approx(np.sqrt((2 * 100.0 + 4 * 75.0) / 6), abs=1e-3)
    assert usual["spleen_misfit_hu_sd"] == pytest.approx(np.sqrt((1 * 50.0 + 4 * 75.0) / 5), abs=1e-3)
    assert not usual_alignment(several[:1])


USUAL = {
    **{f"organ_shift_{axis}_mm": mean for axis, mean in (("z", -1.0), ("y", 0.0), ("x", 0.0))},
    **{f"organ_shift_{axis}_mm_sd": sd for axis, sd in (("z", 1.0), ("y", 0.5), ("x", 0.01))},
    "liver_misfit_hu": 50.0,
    "liver_misfit_hu_sd": 10.0,
}


def test_a_shift_counts_in_sd_between_patients_along_each_axis_and_none_is_finer_than_a_contour() -> None:
    shift = Alignment(np.array([1.0, 1.0, 0.7]), {})
    # 2 mm of 1 mm, 1 mm of 0.5 mm, 0.7 mm of 0.35 mm, which is the least SD.
    assert organ_shift_sd(shift, USUAL) == pytest.approx(np.sqrt(12.0))
    assert organ_shift_sd(Alignment(np.array([-1.0, 0.0, 0.0]), {}), USUAL) == 0.0
    assert organ_shift_sd(shift, {}) is None


def test_the_organ_with_the_worst_misfit_counts_and_a_good_fit_is_nothing_against_it() -> None:
    here = np.zeros(3)
    assert organ_misfit_sd(Alignment(here, {"Liver": 80.0, "Spleen": 900.0}), USUAL) == pytest.approx(3.0)
    assert organ_misfit_sd(Alignment(here, {"Liver": 20.0}), USUAL) == 0.0
    assert organ_misfit_sd(Alignment(here, {"Spleen": 900.0}), USUAL) is None


def test_the_hu_of_an_organ_are_held_against_the_usual() -> None:
    masks = {"Liver": organs()["Liver"]}
    usual = {"liver_hu": 30.0, "liver_hu_sd": 12.0}
    mean = organ_hu(image(), masks)["liver_hu"]
    assert organ_hu_departure_sd(image(), masks, usual) == pytest.approx((mean - 30.0) / 12.0)
    assert organ_hu_departure_sd(image(), masks, {}) is None
    assert organ_hu_departure_sd(image(), {"Liver": np.zeros(SHAPE, bool)}, usual) is None
