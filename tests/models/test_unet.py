from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.unet import Architecture, Normalisation, SegmentationNetwork, ct_channels, load_segmenter, mr_channel
from models.weights import WeightsError, load_card, save, write_card
from tests.models.segmenters import SIZE, TASK, saved_segmenter
from tests.models.test_weights import FACTS, TENSORS

TINY = Architecture(**SIZE)


def test_each_voxel_gets_a_logit_of_each_class() -> None:
    torch.manual_seed(0)
    assert SegmentationNetwork(TINY)(torch.zeros(2, 2, 8, 12, 16)).shape == (2, 3, 8, 12, 16)


def test_feature_maps_double_up_to_the_most() -> None:
    assert Architecture(2, 3, channels=16, most_channels=100, levels=5).widths() == [16, 32, 64, 100, 100]
    assert Architecture(2, 3, levels=5).stride == 16


def test_every_weight_is_learnt() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(TINY)
    network(torch.randn(1, 2, 8, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0.0 for p in network.parameters())


def test_normalised_feature_maps_have_mean_0_and_variance_1() -> None:
    x = torch.randn(2, 3, 4, 5, 6) * 7.0 + 3.0
    found = Normalisation(3)(x)
    torch.testing.assert_close(found.mean(dim=(2, 3, 4)), torch.zeros(2, 3), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(found.var(dim=(2, 3, 4), correction=0), torch.ones(2, 3), atol=1e-4, rtol=0.0)


def test_each_window_is_a_channel() -> None:
    hu = np.array([-1300.0, -1200.0, -550.0, 40.0, 100.0, 900.0]).reshape(1, 2, 3)
    wide, soft = ct_channels(hu, [(-1200.0, 100.0), (-160.0, 240.0)])
    np.testing.assert_allclose(wide.ravel(), [-1.0, -1.0, 0.0, 2 * 1240 / 1300 - 1, 1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(soft.ravel(), [-1.0, -1.0, -1.0, 0.0, 0.3, 1.0], atol=1e-6)


def test_an_mr_has_mean_0_and_sd_1_in_the_body_and_is_0_outside() -> None:
    mr = np.random.default_rng(0).normal(300.0, 50.0, (4, 10, 10))
    body = np.zeros(mr.shape, bool)
    body[:, 2:8, 2:8] = True
    found = mr_channel(mr, body)
    assert found[body].mean() == pytest.approx(0.0, abs=1e-5) and found[body].std() == pytest.approx(1.0, abs=1e-3)
    assert not found[~body].any()
    np.testing.assert_allclose(mr_channel(5.0 * mr + 90.0, body), found, atol=1e-5)


def test_an_mr_without_contrast_or_body_says_nothing() -> None:
    flat = np.full((2, 3, 3), 7.0)
    assert not mr_channel(flat, flat > 0).any() and not mr_channel(flat, flat < 0).any()


def test_probabilities_of_all_classes_add_up_to_one(tmp_path: Path) -> None:
    model = load_segmenter(saved_segmenter(tmp_path))
    found = model(torch.zeros(1, 2, 8, 8, 8))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 8, 8, 8))
    assert model.task == TASK


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    patch = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    exact, quick = (load_segmenter(saved_segmenter(tmp_path), bf16=bf16)(patch) for bf16 in (False, True))
    assert exact.dtype == quick.dtype == torch.float32
    assert float((exact - quick).abs().mean()) < 0.02


def test_weights_of_another_method_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "other.safetensors", TENSORS, FACTS, "")
    with pytest.raises(WeightsError, match="not segmentation"):
        load_segmenter(str(tmp_path / "other.safetensors"))


def test_weights_that_do_not_fit_their_card_are_refused(tmp_path: Path) -> None:
    path = saved_segmenter(tmp_path)
    card = load_card(path)
    wrong = card.model_copy(update={"architecture": {**card.architecture, "channels": 8}})
    write_card(Path(path).with_suffix(".md"), wrong)
    with pytest.raises(WeightsError, match="do not fit"):
        load_segmenter(path)


@pytest.mark.parametrize("change", [{"organs": ("Bladder",)}, {"takes_mr": True}, {"windows_hu": ((0.0, 1.0),)}])
def test_a_card_of_other_channels_or_organs_than_its_network_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = saved_segmenter(tmp_path)
    card = load_card(path)
    assert card.segmentation is not None
    wrong = card.model_copy(update={"segmentation": card.segmentation.model_copy(update=change)})
    write_card(Path(path).with_suffix(".md"), wrong)
    with pytest.raises(WeightsError, match="other channels or organs"):
        load_segmenter(path)


class BySide(nn.Module):
    """Organ 1 in the left half of the patch, organ 2 in the right one, as sure as the channel is bright."""

    def forward(self, channels: Tensor) -> Tensor:
        bright = channels[:, 0]
        left = (torch.arange(bright.shape[-1]) >= bright.shape[-1] // 2).float().expand_as(bright)
        return torch.stack([torch.zeros_like(bright), bright * left, bright * (1.0 - left)], dim=1)


class AlwaysFirst(nn.Module):
    """Organ 1 as sure as the channel is bright, wherever it is."""

    def forward(self, channels: Tensor) -> Tensor:
        bright = channels[:, 0]
        return torch.stack([torch.zeros_like(bright), bright, torch.full_like(bright, -99.0)], dim=1)


def patch_of(seed: int = 0) -> Tensor:
    return torch.randn(1, 2, 8, 8, 16, generator=torch.Generator().manual_seed(seed))


def test_a_mirrored_patch_is_looked_at_too_and_the_mean_counts(tmp_path: Path) -> None:
    weights, patch = saved_segmenter(tmp_path), patch_of()
    alone, both = load_segmenter(weights), load_segmenter(weights, mirror=True)
    turned = alone(patch.flip(4)).flip(4)[:, [0, 2, 1]]
    assert float((turned - alone(patch)).abs().max()) > 0.01
    torch.testing.assert_close(both(patch), (alone(patch) + turned) / 2.0)
    # What is mirrored before is mirrored after: left and right have no preference left.
    torch.testing.assert_close(both(patch.flip(4)), both(patch).flip(4)[:, [0, 2, 1]])


def test_in_the_mirrored_patch_left_organs_are_right_ones(tmp_path: Path) -> None:
    model, patch = load_segmenter(saved_segmenter(tmp_path), mirror=True), patch_of().abs()
    plain = replace(model, mirror=False, network=BySide())
    torch.testing.assert_close(replace(model, network=BySide())(patch), plain(patch))
    first = replace(model, network=AlwaysFirst())(patch)
    torch.testing.assert_close(first[:, 1], first[:, 2])
    torch.testing.assert_close(first[:, 0], replace(plain, network=AlwaysFirst())(patch)[:, 0])


def test_organs_of_any_order_and_without_a_side_are_named_rightly_in_the_mirror(tmp_path: Path) -> None:
    task = TASK.model_copy(update={"organs": ("Eye_R", "SpinalCord", "Eye_L", "Lens_L", "Lens_R")})
    weights, patch = saved_segmenter(tmp_path, task), patch_of()
    alone = load_segmenter(weights)
    turned = alone(patch.flip(4)).flip(4)[:, [0, 3, 2, 1, 5, 4]]
    torch.testing.assert_close(load_segmenter(weights, mirror=True)(patch), (alone(patch) + turned) / 2.0)


def test_an_organ_of_one_side_only_has_no_mirror_image(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path, TASK.model_copy(update={"organs": ("SpinalCord", "Parotid_L")}))
    load_segmenter(weights)
    with pytest.raises(WeightsError, match="finds an organ of one side only, so a mirrored image is of no use to it"):
        load_segmenter(weights, mirror=True)
