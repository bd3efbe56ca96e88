import numpy as np

from models.training.organ_volumes import PELVIS_ORGANS, organ_data_sha256
from models.training.pelvis_volumes import pelvis_volumes

SHAPE, SPACING = (48, 40, 40), (4.0, 4.0, 4.0)


def test_a_patient_has_ct_mr_and_four_organs_on_the_grid_that_is_asked_for() -> None:
    (one,) = pelvis_volumes(1, 123, "validation", shape_zyx=SHAPE, spacing_zyx_mm=SPACING)
    assert one.volume.patient_id == "pelvis-000123"
    assert one.volume.split == "validation"
    assert one.volume.hu_zyx.shape == one.labels_zyx.shape == SHAPE
    assert one.mr_zyx is not None and one.mr_zyx.shape == SHAPE
    assert one.volume.spacing_zyx_mm == SPACING
    assert one.organs == PELVIS_ORGANS and all(one.drawn)
    assert all(mask.any() for mask in one.masks().values())


def test_the_same_numbers_are_the_same_patients_whatever_else_is_made() -> None:
    three = pelvis_volumes(3, 7, "train", shape_zyx=SHAPE, spacing_zyx_mm=SPACING)
    last = pelvis_volumes(1, 9, "train", shape_zyx=SHAPE, spacing_zyx_mm=SPACING)
    assert organ_data_sha256(three[2:]) == organ_data_sha256(last)
    assert len({organ_data_sha256([one]) for one in three}) == 3


def test_every_patient_has_another_grid_where_none_is_asked_for() -> None:
    # Two whose pixels are coarse.
    volumes = [*pelvis_volumes(1, 1, "train"), *pelvis_volumes(1, 12, "train")]
    spacings = [one.volume.spacing_zyx_mm for one in volumes]
    assert len(set(spacings)) == 2
    assert all(2.0 <= z <= 5.0 and 0.9 <= y <= 3.0 and y == x for z, y, x in spacings)
    assert all(220.0 <= one.labels_zyx.shape[0] * one.volume.spacing_zyx_mm[0] <= 325.0 for one in volumes)
    assert all(np.isin([1, 2, 3, 4], one.labels_zyx).all() for one in volumes)
