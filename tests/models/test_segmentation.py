from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.intensity import Hu
from models.segmentation import largest_pieces, resized, segmented, working_shape
from models.segmentation_measures import dice
from models.unet import Segmenter, load_segmenter
from tests.models.segmenters import TASK, by_hu, saved_by_hu, saved_segmenter

WITH_MR = TASK.model_copy(update={"takes_mr": True})
Box = tuple[slice, slice, slice]


def ct(shape: tuple[int, int, int], boxes: dict[float, Box]) -> Hu:
    hu = np.zeros(shape, np.float32)
    for value, box in boxes.items():
        hu[box] = value
    return hu


def around_a_corner(shape: tuple[int, int, int]) -> tuple[Box, Box]:
    """A box near the head, the back and the left of the patient, and one at the opposite corner, smaller."""
    z, y, x = shape
    near = (slice(3 * z // 5, 4 * z // 5), slice(3 * y // 5, 4 * y // 5), slice(3 * x // 5, 4 * x // 5))
    return near, (slice(z // 5, z // 3), slice(y // 5, y // 3), slice(x // 5, x // 3))


def test_organs_stay_where_they_are_and_on_their_side(tmp_path: Path) -> None:
    shape = (30, 40, 50)
    left, right = around_a_corner(shape)
    found = segmented(by_hu(tmp_path), ct(shape, {500.0: left, 1000.0: right}), TASK.spacing_zyx_mm)
    expected = np.zeros(shape, np.uint8)
    expected[left], expected[right] = 1, 2
    np.testing.assert_array_equal(found.labels_zyx, expected)
    assert found.mask("Parotid_L")[left].all() and found.masks()["Parotid_R"].sum() == expected[right].size
    assert found.mean_probability["Parotid_L"] > 0.99


def test_the_network_itself_can_tell_organs_by_their_hu(tmp_path: Path) -> None:
    left, right = around_a_corner((30, 40, 50))
    hu = ct((30, 40, 50), {500.0: left, 1000.0: right})
    found = segmented(load_segmenter(saved_by_hu(tmp_path), bf16=True), hu, TASK.spacing_zyx_mm)
    np.testing.assert_array_equal(found.labels_zyx, segmented(by_hu(tmp_path), hu, TASK.spacing_zyx_mm).labels_zyx)


@pytest.mark.parametrize("spacing_zyx_mm", [(5.0, 1.5, 1.5), (1.5, 4.0, 2.0), (3.0, 1.0, 3.0)])
def test_on_other_grids_organs_are_off_by_no_more_than_their_rim(
    tmp_path: Path, spacing_zyx_mm: tuple[float, float, float]
) -> None:
    z, y, x = (round(150 / mm) for mm in spacing_zyx_mm)
    box, _ = around_a_corner((z, y, x))
    found = segmented(by_hu(tmp_path), ct((z, y, x), {500.0: box}), spacing_zyx_mm)
    truth = np.zeros((z, y, x), bool)
    truth[box] = True
    assert dice(found.mask("Parotid_L"), truth) > 0.95
    middle, expected = (np.argwhere(mask).mean(axis=0) for mask in (found.mask("Parotid_L"), truth))
    np.testing.assert_allclose(middle, expected, atol=0.3)


def test_a_volume_of_one_slice_is_segmented(tmp_path: Path) -> None:
    hu = ct((1, 20, 20), {500.0: (slice(0, 1), slice(5, 15), slice(2, 8))})
    assert segmented(by_hu(tmp_path), hu, TASK.spacing_zyx_mm).mask("Parotid_L").sum() == 60


def test_an_organ_that_is_not_found_is_an_empty_mask_of_no_certainty(tmp_path: Path) -> None:
    found = segmented(by_hu(tmp_path), ct((8, 8, 8), {}), TASK.spacing_zyx_mm)
    assert not found.mask("Parotid_R").any() and isnan(found.mean_probability["Parotid_R"])


def test_segmenting_twice_gives_the_same(tmp_path: Path) -> None:
    hu = np.random.default_rng(0).normal(300.0, 400.0, (12, 20, 20)).astype(np.float32)
    first, second = (segmented(by_hu(tmp_path), hu, (4.0, 2.0, 2.0)) for _ in range(2))
    assert np.array_equal(first.labels_zyx, second.labels_zyx) and first.mean_probability == second.mean_probability


class MrAbove(nn.Module):
    """Organ 1 where the last channel is above 0; keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, channels: Tensor) -> Tensor:
        self.seen.append(channels)
        mr = 50.0 * (channels[:, -1] - 0.5)
        return torch.stack([torch.zeros_like(mr), mr, torch.full_like(mr, -9.0)], dim=1)


def with_mr(folder: Path) -> tuple[Segmenter, MrAbove]:
    network = MrAbove()
    return replace(by_hu(folder, WITH_MR), network=network), network


def test_an_mr_is_one_more_channel_and_the_ct_alone_has_zeros_there(tmp_path: Path) -> None:
    model, network = with_mr(tmp_path)
    hu = np.full((16, 16, 16), 40.0, np.float32)
    mr = np.zeros_like(hu)
    mr[4:8, 4:8, 4:8] = 100.0
    assert not segmented(model, hu, TASK.spacing_zyx_mm).mask("Parotid_L").any()
    assert float(network.seen[0][:, -1].abs().max()) == 0.0 and network.seen[0].shape[1] == 3
    np.testing.assert_array_equal(segmented(model, hu, TASK.spacing_zyx_mm, mr).mask("Parotid_L"), mr > 0.0)


def test_an_mr_for_a_network_that_takes_none_or_on_another_grid_is_refused(tmp_path: Path) -> None:
    hu = np.zeros((4, 4, 4), np.float32)
    with pytest.raises(ValueError, match="takes no MR"):
        segmented(by_hu(tmp_path), hu, TASK.spacing_zyx_mm, hu)
    with pytest.raises(ValueError, match="shape"):
        segmented(with_mr(tmp_path)[0], hu, TASK.spacing_zyx_mm, hu[1:])


def test_progress_rises_to_one(tmp_path: Path) -> None:
    done: list[float] = []
    segmented(by_hu(tmp_path), ct((20, 20, 20), {}), (3.0, 3.0, 3.0), progress=lambda part, what: done.append(part))
    assert done == sorted(done) and done[-1] == pytest.approx(1.0)


def test_the_working_grid_covers_the_same_field_of_view() -> None:
    assert working_shape((41, 512, 512), (5.0, 0.75, 0.75), (3.0, 3.0, 3.0)) == (68, 128, 128)
    assert working_shape((1, 2, 2), (1.0, 1.0, 1.0), (3.0, 3.0, 3.0)) == (1, 1, 1)


def test_resizing_averages_and_keeps_the_directions() -> None:
    volume = np.indices((8, 12, 16)).astype(np.float32)
    for axis in range(3):
        smaller = resized(volume[axis], (4, 6, 8))
        inner = np.moveaxis(smaller, axis, 0)[1:-1]
        np.testing.assert_allclose(np.diff(inner, axis=0), 2.0, atol=0.01)
        assert smaller.mean() == pytest.approx(volume[axis].mean(), abs=0.01)
    np.testing.assert_array_equal(resized(volume[1], (8, 12, 16)), volume[1])


def test_the_largest_piece_is_kept() -> None:
    mask = np.zeros((5, 9, 9), bool)
    mask[1:3, 1:4, 1:4], mask[4, 8, 8] = True, True
    expected = mask.copy()
    expected[4, 8, 8] = False
    np.testing.assert_array_equal(largest_pieces(mask), expected)
    np.testing.assert_array_equal(largest_pieces(expected), expected)
    assert not largest_pieces(np.zeros_like(mask)).any()


def in_air(hu: Hu, before: tuple[int, int, int], after: tuple[int, int, int]) -> Hu:
    return np.pad(hu, list(zip(before, after, strict=True)), constant_values=-1000.0)


def body_with_organs() -> tuple[Hu, NDArray[np.uint8]]:
    """A body with an organ on each side, 10 voxels of air around it."""
    hu = ct((16, 16, 20), {500.0: (slice(3, 8), slice(4, 9), slice(12, 17)), 1000.0: (slice(9, 13),) * 3})
    labels = np.where(hu == 500.0, 1, np.where(hu == 1000.0, 2, 0)).astype(np.uint8)
    return in_air(hu, (10, 10, 10), (10, 10, 10)), np.pad(labels, 10)


def test_much_air_around_the_body_changes_no_organ(tmp_path: Path) -> None:
    hu, expected = body_with_organs()
    before, after = (0, 21, 5), (17, 40, 33)
    wide = segmented(by_hu(tmp_path), in_air(hu, before, after), TASK.spacing_zyx_mm)
    np.testing.assert_array_equal(wide.labels_zyx, np.pad(expected, list(zip(before, after, strict=True))))


def test_the_network_sees_the_same_patches_however_much_air_there_is(tmp_path: Path) -> None:
    hu, _ = body_with_organs()
    hu += np.random.default_rng(0).normal(0.0, 30.0, hu.shape).astype(np.float32)
    # A network with instance normalisation, whose answer depends on all that is in its patch.
    model = load_segmenter(saved_segmenter(tmp_path))
    near, far = (segmented(model, in_air(hu, n, n), TASK.spacing_zyx_mm) for n in ((0, 0, 0), (9, 13, 11)))
    assert len(np.unique(near.labels_zyx)) > 1
    np.testing.assert_array_equal(far.labels_zyx[9:-9, 13:-13, 11:-11], near.labels_zyx)


@pytest.mark.parametrize(("distance_mm", "is_found"), [(9, True), (30, False)])
def test_beyond_the_margin_of_the_body_nothing_is_an_organ(tmp_path: Path, distance_mm: int, is_found: bool) -> None:
    hu, expected = body_with_organs()
    hu = in_air(hu, (0, 0, 0), (0, 0, 10))
    column = 10 + 20 + distance_mm // 3
    hu[15:18, 15:18, column : column + 3] = 500.0
    found = segmented(by_hu(tmp_path), hu, TASK.spacing_zyx_mm).labels_zyx
    np.testing.assert_array_equal(found[:, :, : expected.shape[2] - 10], expected[:, :, :-10])
    assert bool((found[:, :, expected.shape[2] - 10 :] == 1).any()) is is_found


def test_an_image_without_a_body_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    found = segmented(by_hu(tmp_path), np.full((8, 8, 8), -1000.0, np.float32), TASK.spacing_zyx_mm)
    assert not found.labels_zyx.any() and found.labels_zyx.shape == (8, 8, 8)


def test_of_a_pair_both_halves_are_kept_but_no_crumb() -> None:
    mask = np.zeros((4, 10, 20), bool)
    mask[1:3, 2:6, 2:6] = mask[1:3, 2:6, 12:15] = True
    crumb = mask.copy()
    crumb[0, 9, 19] = True
    np.testing.assert_array_equal(largest_pieces(crumb, 2), mask)
    assert largest_pieces(crumb).sum() == 2 * 4 * 4
    crumb[1:3, 2:6, 12:15] = False
    assert largest_pieces(crumb, 2).sum() == 2 * 4 * 4


def two_organs() -> Hu:
    """One of 27 mL and one of 2.7 mL, on voxels of 3 mm."""
    large, small = (slice(3, 13), slice(3, 13), slice(3, 13)), (slice(5), slice(5), slice(28, 32))
    return ct((16, 16, 32), {500.0: large, 1000.0: small})


def test_looks_that_agree_do_not_disagree_and_those_that_name_every_voxel_otherwise_do(tmp_path: Path) -> None:
    plain, hu = by_hu(tmp_path), two_organs()
    agreeing = replace(plain, mirror=True, network=BySideAbove())
    agreed = segmented(agreeing, hu, (3.0, 3.0, 3.0)).look_disagreement
    assert agreed is not None and max(agreed.values()) == pytest.approx(0.0, abs=0.02)
    # By HU alone the left organ is the right one in the mirror.
    assert segmented(replace(plain, mirror=True), hu, (3.0, 3.0, 3.0)).look_disagreement == dict.fromkeys(
        TASK.organs, 1.0
    )
    assert segmented(plain, hu, (3.0, 3.0, 3.0)).look_disagreement is None


def test_about_a_few_voxels_no_look_disagrees(tmp_path: Path) -> None:
    model = replace(by_hu(tmp_path), mirror=True)
    small = ct((16, 16, 32), {500.0: (slice(4, 8), slice(4, 8), slice(4, 8))})
    assert segmented(model, small, (3.0, 3.0, 3.0)).look_disagreement == {}


class BySideAbove(nn.Module):
    """What lies above 250 HU is organ 2 in the right half and organ 1 in the left one, as it is in the mirror."""

    def forward(self, channels: Tensor) -> Tensor:
        organ = 40.0 * (channels[:, 0] - 0.25)
        right = torch.arange(organ.shape[-1]) < organ.shape[-1] // 2
        return torch.stack([torch.zeros_like(organ), organ - 100.0 * right, organ - 100.0 * ~right], dim=1)
