from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from models.phantoms import Phantom, fraction_of, head_and_neck_phantom, pelvis_phantom

SHAPE = (40, 96, 96)
SPACING = (6.0, 4.0, 4.0)
KINDS = (head_and_neck_phantom, pelvis_phantom)
Maker = Callable[[tuple[int, int, int], tuple[float, float, float], np.random.Generator], Phantom]


def made(kind: Maker, seed: int = 0) -> Phantom:
    return kind(SHAPE, SPACING, np.random.default_rng(seed))


def centre(phantom: Phantom, name: str) -> tuple[float, float, float]:
    slice_, row, column = ndimage.center_of_mass(phantom.masks[name])
    return float(slice_), float(row), float(column)


@pytest.mark.parametrize("kind", KINDS)
def test_every_mask_is_inside_the_body_and_on_the_grid(kind: Maker) -> None:
    phantom = made(kind)
    for mask in phantom.masks.values():
        assert mask.shape == SHAPE and mask.dtype == np.bool_ and mask.any()
        assert not (mask & ~phantom.masks["External"]).any()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (head_and_neck_phantom, {"Brainstem", "SpinalCord", "Parotid_L", "Parotid_R", "Mandible", "PTV_High"}),
        (
            pelvis_phantom,
            {"Prostate", "SeminalVes", "Bladder", "Rectum", "Femur_Head_L", "Femur_Head_R", "PTV_High"},
        ),
    ],
)
def test_organs_have_their_tg_263_names(kind: Maker, names: set[str]) -> None:
    assert names <= set(made(kind).masks)


def test_columns_run_to_the_left_rows_to_posterior_slices_to_the_head() -> None:
    head = made(head_and_neck_phantom)
    assert centre(head, "Parotid_L")[2] > centre(head, "Parotid_R")[2]
    assert centre(head, "SpinalCord")[1] > centre(head, "Mandible")[1]
    assert centre(head, "Brain")[0] > centre(head, "SpinalCord")[0]
    pelvis = made(pelvis_phantom)
    assert centre(pelvis, "Femur_Head_L")[2] > centre(pelvis, "Femur_Head_R")[2]
    assert centre(pelvis, "Rectum")[1] > centre(pelvis, "Bladder")[1]
    assert centre(pelvis, "Bladder")[0] > centre(pelvis, "Prostate")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_tissues_have_realistic_hu(kind: Maker) -> None:
    phantom = made(kind)
    assert phantom.hu_zyx.dtype == np.float32
    # Noise below -1024 HU is cut off, which lifts the mean of noisy air.
    air = phantom.hu_zyx[~ndimage.binary_dilation(phantom.masks["External"])]
    assert air.mean() == pytest.approx(-1000.0, abs=10.0)
    assert -150.0 < np.median(phantom.hu_zyx[phantom.masks["External"]]) < 100.0
    assert 500.0 < np.percentile(phantom.hu_zyx[phantom.masks["External"]], 99.8) < 1500.0


def test_the_bladder_holds_water() -> None:
    phantom = made(pelvis_phantom)
    inner = ndimage.binary_erosion(phantom.masks["Bladder"], iterations=2)
    assert inner.any()
    # Urine has 0 to 15 HU.
    assert phantom.hu_zyx[inner].mean() == pytest.approx(7.5, abs=10.0)


def test_the_pelvis_has_an_mr_on_the_grid_of_its_ct_that_no_other_day_and_no_head_has() -> None:
    phantom = made(pelvis_phantom)
    assert phantom.mr_zyx is not None and phantom.mr_zyx.shape == phantom.hu_zyx.shape
    urine = ndimage.binary_erosion(phantom.masks["Bladder"], iterations=2)
    assert phantom.mr_zyx[urine].mean() > 1.4 * phantom.mr_zyx[phantom.masks["Prostate"]].mean()
    assert fraction_of(phantom, 1, np.random.default_rng(0)).mr_zyx is None
    assert made(head_and_neck_phantom).mr_zyx is None


def test_the_prostate_lies_10_mm_below_the_middle_of_the_image() -> None:
    for seed in range(3):
        above_mm = (centre(made(pelvis_phantom, seed), "Prostate")[0] - (SHAPE[0] - 1) / 2) * SPACING[0]
        assert above_mm == pytest.approx(-10.0, abs=4.0)


def test_an_organ_that_the_image_misses_has_no_mask_and_without_a_prostate_there_is_no_patient() -> None:
    low = pelvis_phantom((3, 64, 64), (3.0, 6.0, 6.0), np.random.default_rng(0))
    assert all(mask.any() for mask in low.masks.values()) and "Bladder" not in low.masks
    with pytest.raises(ValueError, match="does not show the prostate"):
        pelvis_phantom((8, 4, 2), (5.0, 5.0, 400.0), np.random.default_rng(0))


def test_the_dose_is_the_prescription_in_the_target_and_falls_outside() -> None:
    phantom = made(pelvis_phantom)
    assert phantom.dose_gy_zyx[phantom.masks["PTV_High"]].min() == pytest.approx(78.0, rel=1e-3)
    assert phantom.dose_gy_zyx[phantom.masks["Femur_Head_L"]].mean() < 39.0
    assert phantom.dose_gy_zyx[~phantom.masks["External"]].max() == 0.0


def test_the_same_seed_makes_the_same_patient_and_another_seed_another() -> None:
    np.testing.assert_array_equal(made(pelvis_phantom, 1).hu_zyx, made(pelvis_phantom, 1).hu_zyx)
    assert np.abs(made(pelvis_phantom, 1).hu_zyx - made(pelvis_phantom, 2).hu_zyx).max() > 100.0


def test_the_tumour_shrinks_from_fraction_to_fraction() -> None:
    head = made(head_and_neck_phantom)
    voxels = [fraction_of(head, day, np.random.default_rng(0)).masks["GTVp"].sum() for day in (1, 15, 30)]
    assert voxels[0] > voxels[1] > voxels[2] > 0


def test_a_fraction_moves_the_patient_by_millimetres() -> None:
    head = made(head_and_neck_phantom)
    moved = fraction_of(head, 1, np.random.default_rng(3))
    shift_mm = (np.array(centre(moved, "Brain")) - centre(head, "Brain")) * SPACING
    assert 0.2 < np.linalg.norm(shift_mm) < 6.0
    assert moved.hu_zyx.shape == head.hu_zyx.shape
