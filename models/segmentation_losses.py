"""Losses of a segmentation: focal and class-weighted Dice, where not every organ was drawn in every patient.

With p_c the probability of class c in a voxel, t_c its truth (1 in one class, 0 in the others), w_c the weight of the
class and c = 0 what is no organ:

    focal = mean over voxels of  sum_c w_c t_c (1 - p_c)^gamma (-log p_c)
    Dice  = sum_c w_c (1 - 2 sum p_c t_c / sum (p_c^2 + t_c^2)) / sum_c w_c,   c over the organs with t_c anywhere

The sums of Dice run over all voxels of the batch, so an organ that only some patches touch counts once, by all of it;
one that none touches has no Dice, and what is wrongly called so costs focal loss alone.

An organ that was not drawn in a patient may be there all the same, among the voxels that are called background. In that
patient its probability is added to that of the background, so that neither finding it nor missing it costs anything.

References
----------
Lin et al., ICCV 2017, arXiv 1708.02002 (focal loss); Milletari et al., 3DV 2016, arXiv 1606.04797 (Dice with squares);
Sudre et al., DLMIA 2017, arXiv 1707.03237 (weights of classes); Shi et al., Med Image Anal 2021, arXiv 2007.03868
(organs that are not drawn)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import ConfigDict
from torch import Tensor
from torch.nn import functional

_SMALLEST = 1e-6
"""Below every sum that is divided by: of an organ in one voxel, the sum is at least 1."""


@dataclass(frozen=True)
class SegmentationLossWeights:
    """How much each loss counts; 0 leaves it out."""

    # Read from YAML by pydantic: a misspelt setting must not be ignored.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    focal: float = 1.0
    dice: float = 1.0
    gamma: float = 2.0
    """Of the focal loss; 0 is cross entropy."""
    classes: tuple[float, ...] = ()
    """Weight of the background and of each organ, in the order of the outputs; empty: all 1."""


def segmentation_losses(
    logits: Tensor, labels: Tensor, drawn: Tensor, weights: SegmentationLossWeights
) -> dict[str, Tensor]:
    """The losses that have a weight, by name and times that weight.

    Parameters
    ----------
    logits
        (B, 1 + organs, D, H, W)
    labels
        Class of each voxel (B, D, H, W), int64; 0 is none.
    drawn
        Whether each organ was drawn in each patient (B, organs).

    Raises
    ------
    ValueError
        If there are class weights for another number of classes.
    """
    log_p = undrawn_as_background(logits.float().log_softmax(dim=1), drawn)
    classes = _class_weights(weights.classes, log_p)
    losses: dict[str, Tensor] = {}
    if weights.focal > 0.0:
        losses["focal"] = weights.focal * focal_loss(log_p, labels, classes, weights.gamma)
    if weights.dice > 0.0:
        losses["dice"] = weights.dice * dice_loss(log_p.exp(), labels, classes)
    return losses


def focal_loss(log_p: Tensor, labels: Tensor, class_weights: Tensor, gamma: float) -> Tensor:
    """Mean over the voxels of w (1 - p)^gamma (-log p) of their true class.

    `log_p` is (B, C, D, H, W), `labels` (B, D, H, W), `class_weights` (C,).
    """
    log_true = log_p.gather(1, labels[:, None])[:, 0]
    return (class_weights[labels] * (1.0 - log_true.exp()) ** gamma * -log_true).mean()


def dice_loss(p: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Weighted mean of 1 - Dice over the organs that the batch shows; 0 where it shows none.

    `p` is (B, C, D, H, W), `labels` (B, D, H, W), `class_weights` (C,); class 0 has no Dice.
    """
    truth = functional.one_hot(labels, p.shape[1]).movedim(-1, 1).to(p)  # (B, C, D, H, W)
    axes = (0, 2, 3, 4)
    there = truth.sum(axes)  # (C,)
    overlap, sizes = (p * truth).sum(axes), p.square().sum(axes) + there
    shown = class_weights * (there > 0.0)
    shown[0] = 0.0
    return (shown * (1.0 - 2.0 * overlap / sizes.clamp_min(_SMALLEST))).sum() / shown.sum().clamp_min(_SMALLEST)


def undrawn_as_background(log_p: Tensor, drawn: Tensor) -> Tensor:
    """Log probabilities (B, C, D, H, W) with those of the organs that are not drawn (B, C - 1) in the background's.

    Their own become minus infinity.
    """
    kept = functional.pad(drawn, (1, 0), value=True)[:, :, None, None, None]  # (B, C, 1, 1, 1)
    is_background = ~kept
    is_background[:, 0] = True
    nowhere = torch.full_like(log_p, float("-inf"))
    background = torch.where(is_background, log_p, nowhere).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, torch.where(kept, log_p, nowhere)[:, 1:]], dim=1)


def _class_weights(classes: Sequence[float], log_p: Tensor) -> Tensor:
    if not classes:
        return torch.ones(log_p.shape[1]).to(log_p)
    if len(classes) != log_p.shape[1]:
        raise ValueError(f"there are weights for {len(classes)} classes, and {log_p.shape[1]} classes")
    return torch.tensor(classes).to(log_p)
