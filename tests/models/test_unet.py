from pathlib import Path

import numpy as np
import pytest
import torch

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
