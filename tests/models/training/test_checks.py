import numpy as np
import pytest

from models.training.checks import check_training_data
from models.training.volumes import Domain, Split, TrainingDataError, TrainingVolume

BATCH = 4


def volume(
    patient_id: str,
    domain: Domain = "planning_ct",
    slices: int = 6,
    split: Split | None = "train",
    pixel_mm: float = 1.0,
) -> TrainingVolume:
    hu = np.zeros((slices, 32, 48), np.float32)
    return TrainingVolume(patient_id, split, hu, (3.0, pixel_mm, pixel_mm), domain)


def test_two_patients_with_planning_ct_suffice() -> None:
    check_training_data([volume("A"), volume("B")], BATCH)


def test_patients_may_differ_in_spacing() -> None:
    check_training_data([volume("A", pixel_mm=1.0), volume("B", pixel_mm=2.7)], BATCH)


def test_the_mvct_of_one_and_the_planning_ct_of_another_suffice() -> None:
    check_training_data([volume("A"), volume("B", "mvct")], BATCH)


@pytest.mark.parametrize(
    ("volumes", "reason"),
    [
        ([], "there is no training volume"),
        ([volume("A", split="test"), volume("B", split="validation")], "there is no training volume"),
        ([volume("A", "mvct"), volume("B", "mvct")], "there is no planning CT among the training volumes"),
        ([volume("A"), volume("A"), volume("A", "mvct")], "needs at least two patients, and there is one"),
        ([volume("A"), volume("B", split="test")], "needs at least two patients, and there is one"),
        ([volume("A"), volume("B", "mvct", 3)], "3 training slices of MVCT are fewer than a batch of 4"),
        (
            [volume("A", slices=1), volume("B", slices=2)],
            "3 training slices of planning CT are fewer than a batch of 4",
        ),
    ],
)
def test_data_that_do_not_suffice_are_refused(volumes: list[TrainingVolume], reason: str) -> None:
    with pytest.raises(TrainingDataError, match=reason):
        check_training_data(volumes, BATCH)


def test_fewer_slices_than_a_batch_can_not_be_asked_for() -> None:
    with pytest.raises(TrainingDataError, match="3 slices of each domain are fewer than a batch of 4"):
        check_training_data([volume("A"), volume("B")], BATCH, slices=3)


def test_a_slice_has_to_hold_the_crop() -> None:
    check_training_data([volume("A"), volume("B")], BATCH, crop_pixels=32)
    with pytest.raises(TrainingDataError, match="a slice of 32 pixels is smaller than the crop of 33 pixels"):
        check_training_data([volume("A"), volume("B")], BATCH, crop_pixels=33)
