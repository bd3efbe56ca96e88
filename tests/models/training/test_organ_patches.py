from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.training.organ_patches import OrganPatches, mirrored, resized_labels
from models.training.organ_volumes import OrganVolume, organ_volume
from models.training.segmentation_settings import Augmentation, SegmentationSettings
from models.training.volumes import TrainingDataError
from tests.models.training.organ_phantoms import ORGANS, SETTINGS, SPACING, patient, patients

NOTHING = Augmentation(mirror=0.0, largest_scaling=0.0, largest_turn_deg=0.0, largest_noise_hu=0.0, jitter_hu=0.0)
AS_THEY_ARE = replace(SETTINGS, spacing_zyx_mm=SPACING)
BRAIN, MANDIBLE, LEFT, RIGHT = range(1, 5)


def in_columns(settings: SegmentationSettings = AS_THEY_ARE) -> OrganPatches:
    """A patient whose HU tell the column: 0, 10, 20, ... from the right to the left side."""
    one = patient(1, "train")
    hu = np.broadcast_to(10.0 * np.arange(30, dtype=np.float32), one.volume.hu_zyx.shape)
    volume = replace(one.volume, hu_zyx=np.ascontiguousarray(hu))
    return OrganPatches([replace(one, volume=volume)], replace(settings, windows_hu=((-1000.0, 1000.0),)))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_patches_are_those_of_the_image_and_its_labels() -> None:
    one, batch = patient(1, "train"), in_columns().batch(6, rng(), NOTHING)
    assert batch.channels.shape == (6, 1, 16, 16, 16) and batch.labels.shape == (6, 16, 16, 16)
    assert batch.labels.dtype == torch.int64 and batch.drawn.all()
    for channels, labels in zip(batch.channels, batch.labels, strict=True):
        hu = (channels[0] * 1000.0).round()
        columns = torch.where(hu > -1000.0, hu / 10.0, -1.0)
        of_left = columns[labels == LEFT]
        expected = np.argwhere(one.labels_zyx == LEFT)[:, 2]
        assert all(expected.min() <= int(column) <= expected.max() for column in of_left)
        assert float(columns.diff(dim=-1)[columns[..., :-1] >= 0.0].max()) == 1.0  # never mirrored


def test_a_mirrored_patient_has_its_left_organs_called_right() -> None:
    patches = in_columns()
    straight = patches.batch(8, rng(), NOTHING)
    turned = patches.batch(8, rng(), replace(NOTHING, mirror=1.0))
    torch.testing.assert_close(turned.channels, straight.channels.flip(-1))
    back = turned.labels.flip(-1)
    for ours, other in ((BRAIN, BRAIN), (MANDIBLE, MANDIBLE), (LEFT, RIGHT), (RIGHT, LEFT)):
        assert torch.equal(back == ours, straight.labels == other)
    assert bool((straight.labels == LEFT).any()) and bool((straight.labels == RIGHT).any())


def test_what_was_drawn_is_mirrored_too_and_an_organ_without_its_mate_is_unknown() -> None:
    channels, labels = np.zeros((1, 1, 1, 4), np.float32), np.array([[[0, 1, 2, 3]]], np.uint8)
    turned, found, drawn = mirrored(channels, labels, np.array([True, False, True]), ["Eye_L", "Eye_R", "Lung_L"])
    assert turned.shape == channels.shape
    # Mirrored they are 3 2 1 0: no right lung has a number, the eyes change places.
    assert found.tolist() == [[[0, 1, 2, 0]]]
    assert drawn.tolist() == [False, True, False]


def test_most_patches_are_around_organs_and_each_organ_is_drawn_as_often() -> None:
    patches = OrganPatches([patient(1, "train")], replace(AS_THEY_ARE, organ_share=1.0, patch_zyx=(4, 4, 4)))
    labels = patches.batch(60, rng(), NOTHING).labels
    shown = [float((labels == organ).flatten(1).any(dim=1).float().mean()) for organ in (MANDIBLE, LEFT, RIGHT)]
    assert min(shown) > 0.1
    assert float((labels > 0).flatten(1).any(dim=1).float().mean()) == 1.0


def test_an_augmented_patch_differs_a_little_and_keeps_its_organs() -> None:
    patches = OrganPatches([patient(1, "train")], AS_THEY_ARE)
    plain = patches.batch(4, rng(), NOTHING)
    noisy = patches.batch(4, rng(), replace(NOTHING, largest_noise_hu=20.0, jitter_hu=15.0))
    assert not torch.equal(noisy.channels, plain.channels)
    assert float((noisy.channels - plain.channels).abs().mean()) < 0.1
    assert torch.equal(noisy.labels[0], plain.labels[0])


def test_a_larger_patient_has_larger_organs() -> None:
    settings = replace(AS_THEY_ARE, organ_share=1.0)
    sizes = []
    for scaling in (0.0, 0.5):
        patches = OrganPatches([patient(1, "train")], settings)
        batch = patches.batch(40, rng(), replace(NOTHING, largest_scaling=scaling))
        sizes.append([int((labels == LEFT).sum()) for labels in batch.labels])
    assert max(sizes[1]) > 1.5 * max(sizes[0])


def test_beyond_the_image_there_is_air() -> None:
    settings = replace(AS_THEY_ARE, patch_zyx=(40, 40, 40), windows_hu=((-1000.0, 1000.0),))
    batch = OrganPatches([patient(1, "train")], settings).batch(2, rng(), NOTHING)
    corner = batch.channels[:, 0, [0, 0, -1], [0, -1, 0], [0, -1, -1]]
    assert float(corner.max()) < -0.9 and not batch.labels[:, 0, 0].any()


def test_the_mr_is_left_out_of_a_part_of_the_patches_in_training_only() -> None:
    settings = replace(AS_THEY_ARE, takes_mr=True, mr_dropout=0.5)
    patches = OrganPatches([patient(1, "train", has_mr=True)], settings)
    with_mr = patches.batch(40, rng(), NOTHING).channels[:, -1].flatten(1).any(dim=1)
    assert 8 < int(with_mr.sum()) < 32
    assert patches.batch(10, rng()).channels[:, -1].flatten(1).any(dim=1).all()


def test_a_patient_without_mr_has_an_empty_channel() -> None:
    patches = OrganPatches([patient(1, "train")], replace(AS_THEY_ARE, takes_mr=True))
    batch = patches.batch(3, rng())
    assert batch.channels.shape[1] == 4 and not batch.channels[:, -1].any()


def test_resized_labels_keep_place_and_size() -> None:
    labels = patient(1, "train").labels_zyx
    found = resized_labels(labels, (60, 30, 45))
    for organ in (BRAIN, MANDIBLE):
        assert (found == organ).mean() == pytest.approx((labels == organ).mean(), rel=0.15)
        middle = [np.argwhere(array == organ).mean(axis=0) / array.shape for array in (labels, found)]
        np.testing.assert_allclose(middle[0], middle[1], atol=0.03)


def without_organs() -> OrganVolume:
    return organ_volume(patient(1, "train").volume, {}, ORGANS)


def without_body() -> OrganVolume:
    one = patient(1, "train")
    return replace(one, volume=replace(one.volume, hu_zyx=np.full((30, 30, 30), -1000.0, np.float32)))


@pytest.mark.parametrize(
    ("volumes", "settings", "reason"),
    [
        ([], SETTINGS, "no training volume"),
        ([without_organs()], SETTINGS, "none of the organs"),
        ([without_body()], SETTINGS, "no volume shows a body"),
        (patients(), replace(SETTINGS, organs=("Brain",)), "other organs"),
        (patients(), replace(SETTINGS, patch_zyx=(16, 16, 18)), "16 x 16 x 18 voxels has sides that are no multiple"),
    ],
)
def test_data_that_do_not_suffice_are_refused(
    volumes: Sequence[OrganVolume], settings: SegmentationSettings, reason: str
) -> None:
    with pytest.raises(TrainingDataError, match=reason):
        OrganPatches(volumes, settings)
