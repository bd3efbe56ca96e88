from math import log

import pytest
import torch
from torch import Tensor

from models.segmentation_losses import (
    SegmentationLossWeights,
    dice_loss,
    focal_loss,
    segmentation_losses,
    undrawn_as_background,
)

P = torch.tensor([[0.5, 0.25, 0.2], [0.3, 0.5, 0.2], [0.2, 0.25, 0.6]])
"""Probabilities of three classes (rows) in three voxels (columns)."""
LABELS = torch.tensor([0, 1, 2]).view(1, 1, 1, 3)
ALL_DRAWN = torch.tensor([[True, True]])


def voxels(p: Tensor) -> Tensor:
    return p.view(1, 3, 1, 1, 3)


def test_the_focal_loss_is_that_of_the_formula() -> None:
    # Probabilities of the true classes: 0.5, 0.5, 0.6; gamma 2, weights 1, 2, 3.
    expected = (1 * 0.25 * -log(0.5) + 2 * 0.25 * -log(0.5) + 3 * 0.16 * -log(0.6)) / 3
    found = focal_loss(voxels(P).log(), LABELS, torch.tensor([1.0, 2.0, 3.0]), 2.0)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_focal_loss_with_gamma_0_is_cross_entropy() -> None:
    expected = -(2 * log(0.5) + log(0.6)) / 3
    assert float(focal_loss(voxels(P).log(), LABELS, torch.ones(3), 0.0)) == pytest.approx(expected, rel=1e-5)


def test_the_dice_loss_is_that_of_the_formula() -> None:
    # Organ 1: overlap 0.5, squares 0.09 + 0.25 + 0.04, one voxel; organ 2: 0.6, 0.04 + 0.0625 + 0.36, one voxel.
    first, second = 1 - 2 * 0.5 / (0.38 + 1), 1 - 2 * 0.6 / (0.4625 + 1)
    found = dice_loss(voxels(P), LABELS, torch.tensor([9.0, 1.0, 3.0]))
    assert float(found) == pytest.approx((1 * first + 3 * second) / 4, rel=1e-5)


def test_an_organ_that_the_batch_does_not_show_has_no_dice() -> None:
    labels = torch.tensor([0, 1, 0]).view(1, 1, 1, 3)
    assert float(dice_loss(voxels(P), labels, torch.ones(3))) == pytest.approx(1 - 2 * 0.5 / 1.38, rel=1e-5)
    assert float(dice_loss(voxels(P), torch.zeros_like(labels), torch.ones(3))) == 0.0


def test_the_dice_loss_counts_an_organ_over_the_whole_batch() -> None:
    p, labels = voxels(P).repeat(2, 1, 1, 1, 1), torch.cat([LABELS, torch.zeros_like(LABELS)])
    first, second = 1 - 2 * 0.5 / (2 * 0.38 + 1), 1 - 2 * 0.6 / (2 * 0.4625 + 1)
    assert float(dice_loss(p, labels, torch.ones(3))) == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        (SegmentationLossWeights(), {"focal", "dice"}),
        (SegmentationLossWeights(focal=0.0), {"dice"}),
        (SegmentationLossWeights(dice=0.0), {"focal"}),
    ],
)
def test_each_loss_can_be_left_out(weights: SegmentationLossWeights, names: set[str]) -> None:
    assert set(segmentation_losses(voxels(P).log(), LABELS, ALL_DRAWN, weights)) == names


def test_losses_are_times_their_weight_and_those_of_the_softmax() -> None:
    logits = voxels(P).log() + 7.0
    found = segmentation_losses(logits, LABELS, ALL_DRAWN, SegmentationLossWeights(focal=2.0, dice=10.0))
    assert float(found["focal"]) == pytest.approx(2.0 * float(focal_loss(voxels(P).log(), LABELS, torch.ones(3), 2.0)))
    assert float(found["dice"]) == pytest.approx(10.0 * float(dice_loss(voxels(P), LABELS, torch.ones(3))))


def test_an_organ_that_was_not_drawn_counts_as_background() -> None:
    merged = undrawn_as_background(voxels(P).log(), torch.tensor([[True, False]])).exp()
    expected = torch.tensor([[0.7, 0.5, 0.8], [0.3, 0.5, 0.2], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(merged, voxels(expected))


def test_finding_an_organ_that_was_not_drawn_costs_nothing() -> None:
    labels, drawn = torch.zeros_like(LABELS), torch.tensor([[True, False]])
    logits = torch.tensor([0.0, 0.0, 30.0]).view(1, 3, 1, 1, 1).repeat(1, 1, 1, 1, 3).requires_grad_(True)
    losses = segmentation_losses(logits, labels, drawn, SegmentationLossWeights())
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert float(losses["focal"].detach()) < 1e-6 and logits.grad is not None
    assert torch.isfinite(logits.grad).all() and float(logits.grad.abs().max()) < 1e-6
    wrongly = segmentation_losses(logits, labels, ALL_DRAWN, SegmentationLossWeights())
    assert float(wrongly["focal"].detach()) > 10.0


def test_weights_of_another_number_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 classes, and 3"):
        segmentation_losses(voxels(P), LABELS, ALL_DRAWN, SegmentationLossWeights(classes=(1.0, 2.0)))
