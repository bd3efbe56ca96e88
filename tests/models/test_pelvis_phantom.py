"""Made-up pelves against what was drawn for them: sizes, places, tissues, and that a seed is a patient."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask
from models.pelvis_anatomy import BLADDER_ML, PROSTATE_ML, SEMINAL_VESICLES_ML, PelvisAnatomy
from models.pelvis_noise import TissuePatch, real_texture
from models.pelvis_phantom import PelvisPhantom, parametric_pelvis

ORGANS = ("Bladder", "Prostate", "SeminalVes", "Rectum")
SHAPE, SPACING = (72, 64, 64), (2.5, 2.5, 2.5)
"""The small pelvis; all four organs are inside."""
SEEDS = (0, 1, 2, 3)
VOXEL_ML = float(np.prod(SPACING)) / 1000.0


def made(seed: int, texture: TissuePatch | None = None) -> PelvisPhantom:
    return parametric_pelvis(SHAPE, SPACING, np.random.default_rng(seed), texture)


@pytest.fixture(scope="module")
def pelves() -> dict[int, PelvisPhantom]:
    return {seed: made(seed) for seed in SEEDS}


def centre_mm(phantom: PelvisPhantom, name: str) -> NDArray[np.float64]:
    return np.asarray(np.argwhere(phantom.masks[name]).mean(axis=0) * SPACING)


def seed_with(anatomy: dict[int, PelvisAnatomy], hips: tuple[str, ...]) -> int:
    return next(seed for seed, one in anatomy.items() if one.metal_hips == hips)


def inner(phantom: PelvisPhantom, name: str, voxels: int = 2) -> Mask:
    return np.asarray(ndimage.binary_erosion(phantom.masks[name], iterations=voxels))


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_the_volumes_that_were_drawn(pelves: dict[int, PelvisPhantom], seed: int) -> None:
    masks, anatomy = pelves[seed].masks, pelves[seed].anatomy
    drawn = {
        "Prostate": (anatomy.prostate_ml, PROSTATE_ML),
        "SeminalVes": (anatomy.seminal_vesicles_ml, SEMINAL_VESICLES_ML),
        "Bladder": (anatomy.bladder_ml, BLADDER_ML),
    }
    for name, (ml, (low, high)) in drawn.items():
        assert masks[name].sum() * VOXEL_ML == pytest.approx(ml, rel=0.1)
        assert low <= ml <= high


@pytest.mark.parametrize("seed", SEEDS)
def test_no_voxel_belongs_to_two_organs_and_none_lies_outside_the_body(
    pelves: dict[int, PelvisPhantom], seed: int
) -> None:
    masks = pelves[seed].masks
    assert all(masks[name].any() for name in ORGANS)
    assert not any((masks[one] & masks[other]).any() for one, other in combinations(ORGANS, 2))
    assert not any((masks[name] & ~masks["External"]).any() for name in ORGANS)


@pytest.mark.parametrize("seed", SEEDS)
def test_vesicles_lie_over_the_prostate_behind_the_bladder_and_touch_the_prostate(
    pelves: dict[int, PelvisPhantom], seed: int
) -> None:
    phantom = pelves[seed]
    vesicles, prostate = centre_mm(phantom, "SeminalVes"), centre_mm(phantom, "Prostate")
    assert vesicles[0] > prostate[0] + 5.0
    # At their own height: a full bladder hangs over them.
    heights = np.unique(np.argwhere(phantom.masks["SeminalVes"])[:, 0])
    beside = phantom.masks["Bladder"][heights]
    assert not beside.any() or vesicles[1] > np.argwhere(beside).mean(axis=0)[1] * SPACING[1]
    assert centre_mm(phantom, "Rectum")[1] > prostate[1]
    assert centre_mm(phantom, "Bladder")[0] > prostate[0]
    assert (ndimage.binary_dilation(phantom.masks["SeminalVes"]) & phantom.masks["Prostate"]).any()


def test_left_is_where_columns_are_high() -> None:
    wide = parametric_pelvis((24, 48, 96), (4.0, 4.0, 4.0), np.random.default_rng(0))
    assert np.argwhere(wide.masks["Femur_Head_L"]).mean(axis=0)[2] > 47.5
    assert np.argwhere(wide.masks["Femur_Head_R"]).mean(axis=0)[2] < 47.5


def test_a_seed_is_a_patient() -> None:
    one, same, other = made(7), made(7), made(8)
    assert one.anatomy.prostate_ml == same.anatomy.prostate_ml != other.anatomy.prostate_ml
    for image in ("hu_zyx", "mr_zyx"):
        assert getattr(one, image).tobytes() == getattr(same, image).tobytes() != getattr(other, image).tobytes()
    assert all((one.masks[name] == same.masks[name]).all() for name in one.masks)


def test_the_patient_is_the_same_on_every_grid(pelves: dict[int, PelvisPhantom]) -> None:
    coarse = parametric_pelvis((36, 40, 40), (5.0, 4.0, 4.0), np.random.default_rng(1))
    assert coarse.anatomy.prostate_ml == pelves[1].anatomy.prostate_ml
    middle_mm = (np.array(SHAPE) - 1) / 2 * SPACING, (np.array([36, 40, 40]) - 1) / 2 * np.array([5.0, 4.0, 4.0])
    at = np.argwhere(coarse.masks["Prostate"]).mean(axis=0) * (5.0, 4.0, 4.0) - middle_mm[1]
    np.testing.assert_allclose(at, centre_mm(pelves[1], "Prostate") - middle_mm[0], atol=1.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_tissues_have_the_hu_that_were_drawn_once_noise_is_averaged(
    pelves: dict[int, PelvisPhantom], seed: int
) -> None:
    phantom, tissues = pelves[seed], pelves[seed].anatomy.tissues
    bladder = inner(phantom, "Bladder", 4)
    assert phantom.hu_zyx[bladder].mean() == pytest.approx(tissues["urine"].hu, abs=3.0)
    low, high = sorted((tissues["prostate"].hu, tissues["peripheral_zone"].hu))
    gland = np.median(phantom.hu_zyx[inner(phantom, "Prostate")])
    assert low - 4.0 < gland < high + 4.0


def test_noise_has_the_drawn_size_and_grains() -> None:
    phantom = parametric_pelvis((40, 128, 128), (3.0, 1.0, 1.0), np.random.default_rng(2))
    urine = inner(phantom, "Bladder", 6)
    assert urine.sum() > 3000
    residual = (phantom.hu_zyx - phantom.hu_zyx[urine].mean())[urine]
    assert residual.std() == pytest.approx(phantom.anatomy.noise_sd_hu, rel=0.15)
    beside = urine[:, :, 1:] & urine[:, :, :-1]
    neighbours = (phantom.hu_zyx[:, :, 1:][beside], phantom.hu_zyx[:, :, :-1][beside])
    assert np.corrcoef(*neighbours)[0, 1] > 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_mr_shows_what_ct_hides(pelves: dict[int, PelvisPhantom], seed: int) -> None:
    phantom = pelves[seed]
    mr, masks = phantom.mr_zyx, phantom.masks
    urine, gland = mr[inner(phantom, "Bladder", 4)].mean(), inner(phantom, "Prostate", 1)
    assert urine > 1.4 * mr[gland].mean()
    zones = np.percentile(mr[gland], [10, 90])
    assert zones[1] > 1.5 * zones[0]
    assert mr[masks["SeminalVes"]].mean() > 1.2 * np.percentile(mr[gland], 30)
    assert mr[~masks["External"]].size == 0 or mr[~masks["External"]].mean() < 0.2 * urine
    assert mr.min() >= 0.0


def test_metal_is_there_for_those_who_have_it_and_on_their_side() -> None:
    anatomies = {seed: PelvisAnatomy.drawn(np.random.default_rng(seed)) for seed in range(120)}
    shape, spacing = (12, 30, 64), (5.0, 5.0, 5.0)
    for hips in ((), ("L",), ("R",), ("L", "R")):
        seed = seed_with(anatomies, hips)
        phantom = parametric_pelvis(shape, spacing, np.random.default_rng(seed))
        for side in ("L", "R"):
            brightest = phantom.hu_zyx[phantom.masks[f"Femur_Head_{side}"]].max()
            assert (brightest > 2500.0) == (side in hips)
    share = np.mean([bool(one.metal_hips) for one in anatomies.values()])
    assert 0.03 < share < 0.2


def test_metal_throws_a_dark_band_between_two_hips() -> None:
    anatomies = {seed: PelvisAnatomy.drawn(np.random.default_rng(seed)) for seed in range(120)}
    phantom = parametric_pelvis((12, 30, 64), (5.0, 5.0, 5.0), np.random.default_rng(seed_with(anatomies, ("L", "R"))))
    heads = (np.argwhere(phantom.masks[f"Femur_Head_{side}"]).mean(axis=0) for side in ("L", "R"))
    z, row, column = np.rint(np.mean(list(heads), axis=0)).astype(int)
    between = phantom.hu_zyx[z - 1 : z + 2, row - 1 : row + 2, column - 4 : column + 5]
    assert np.median(between) < 0.0


def test_real_texture_takes_the_place_of_noise_in_soft_tissue_alone() -> None:
    # Stripes that no scanner makes, so that they can be told from noise.
    stripes = np.zeros((8, 32, 32), np.float32)
    stripes[:, :, ::2] = 40.0
    plain, laid = made(3), made(3, TissuePatch(stripes, SPACING))
    difference = laid.hu_zyx - plain.hu_zyx
    bone_or_gas = (plain.hu_zyx > 400.0) | (plain.hu_zyx < -500.0)
    assert np.abs(difference[bone_or_gas]).max() == 0.0
    urine = inner(laid, "Bladder", 4)
    assert laid.hu_zyx[urine].mean() == pytest.approx(plain.hu_zyx[urine].mean(), abs=3.0)
    columns = difference[..., 1:] * difference[..., :-1]
    assert columns[urine[..., 1:]].mean() < -100.0


def test_the_border_of_two_tissues_leaves_no_ghost_in_the_texture() -> None:
    # Fat beside muscle, both even: there is no texture to lay.
    halves = np.full((8, 32, 32), -100.0, np.float32)
    halves[:, :, 16:] = 50.0
    laid = real_texture(TissuePatch(halves, SPACING), (8, 40, 40), (3.0, 2.0, 2.0), np.random.default_rng(0))
    assert laid.shape == (8, 40, 40)
    assert np.abs(laid).max() < 0.01


def test_organs_that_the_image_misses_have_no_voxel() -> None:
    phantom = parametric_pelvis((4, 8, 8), (3.0, 3.0, 3.0), np.random.default_rng(0))
    assert phantom.masks["External"].all()
    assert not phantom.masks["Femur_Head_L"].any()
