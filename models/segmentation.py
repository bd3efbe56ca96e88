"""Find the organs in a CT, with or without an MR on its grid: any matrix and spacing, one class for every voxel.

Arrays are [slice, row, column], slices towards the head, rows to posterior, columns to the patient's left: that is how
the networks were trained, and a volume that is turned or mirrored has its left and right organs exchanged or lost.

The image is resampled to the spacing of the card, segmented in patches, and the probabilities are resampled back to the
grid of the image before each voxel gets its class, so that outlines are as smooth as the image allows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.inference import nobody
from models.intensity import AIR_HU, Hu, Mask, body_mask
from models.patches import Shape, blended
from models.unet import Segmenter, ct_channels, mr_channel
from models.weights import SegmentationTask

_NETWORK_SHARE = 0.8
"""Part of the progress bar; the rest is the way back to the grid of the image."""
_LEAST_PIECE = 0.2
"""Of the largest piece; less is no second half of a pair."""
_LEAST_ML = 10.0
"""Mean of both looks."""
_MARGIN_MM = 20.0
"""Of air around the body that the network sees, as it did in training."""


@dataclass(frozen=True)
class Segmentation:
    """Organs on the grid of the image."""

    labels_zyx: NDArray[np.uint8]
    """0, or 1 + the number of the organ."""
    organs: tuple[str, ...]
    """TG-263 names in the order of the labels."""
    mean_probability: Mapping[str, float]
    """By organ, over its voxels: how sure the network is; NaN where no voxel is of the organ."""
    look_disagreement: Mapping[str, float] | None = None
    """1 less the Dice of what the network finds in the image and in the mirrored image, by organ of 10 mL or more. None
    where it did not look at the mirrored image."""

    def mask(self, organ: str) -> Mask:
        """Voxels of one organ.

        Raises
        ------
        ValueError
            If it is none of the organs.
        """
        return np.asarray(self.labels_zyx == 1 + self.organs.index(organ))

    def masks(self) -> dict[str, Mask]:
        """Voxels of every organ by its name; empty where it was not found."""
        return {organ: self.mask(organ) for organ in self.organs}


def segmented(
    model: Segmenter,
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    mr_zyx: NDArray[Any] | None = None,
    progress: Callable[[float, str], None] = nobody,
) -> Segmentation:
    """Organs of a CT in HU; the same input gives the same output. An MR has to be on the grid of the CT.

    Raises
    ------
    ValueError
        If there is an MR for a network that takes none, or one of another shape.
    """
    if mr_zyx is not None and not model.task.takes_mr:
        raise ValueError("the network takes no MR")
    if mr_zyx is not None and mr_zyx.shape != hu_zyx.shape:
        raise ValueError(f"the MR has the shape {mr_zyx.shape}, the CT {hu_zyx.shape}")
    shape = working_shape(hu_zyx.shape, spacing_zyx_mm, model.task.spacing_zyx_mm)
    working_hu = resized(hu_zyx, shape)
    channels = _channels(model, working_hu, None if mr_zyx is None else resized(mr_zyx, shape))
    box = _around_the_body(working_hu, model.task.spacing_zyx_mm)
    # Nothing is an organ outside of the body: half of a planning CT is air, and would take half of the time.
    probabilities = torch.zeros(1 + len(model.task.organs), *shape)
    probabilities[0] = 1.0
    with torch.inference_mode():
        looks = blended(
            lambda patch: model.looks(patch).flatten(1, 2),
            channels[:, *box],
            model.task.patch_zyx,
            _channels(model, np.full((1, 1, 1), AIR_HU, np.float32), None).flatten(),
            lambda done: progress(_NETWORK_SHARE * done, "segmenting"),
        )
        looks = looks.view(-1, *probabilities.shape[:1], *looks.shape[1:])  # (looks, K, D, H, W)
        probabilities[:, *box] = looks.mean(dim=0)
        labels, sure = _on_grid(probabilities, hu_zyx.shape, progress)
    by_organ = dict(zip(model.task.organs, sure, strict=True))
    return Segmentation(labels, model.task.organs, by_organ, _look_disagreement(model.task, looks))


def working_shape(
    shape_zyx: tuple[int, ...], spacing_zyx_mm: tuple[float, ...], working_mm: tuple[float, float, float]
) -> Shape:
    """Voxels of the same field of view at the working spacing, at least one along each axis."""
    z, y, x = (
        max(1, round(n * mm / other)) for n, mm, other in zip(shape_zyx, spacing_zyx_mm, working_mm, strict=True)
    )
    return z, y, x


def resized(volume_zyx: NDArray[Any], shape_zyx: Shape) -> Hu:
    """The same field of view with another number of voxels: linear, averaged where there are fewer than before."""
    slices, rows, columns = shape_zyx
    volume = torch.from_numpy(np.ascontiguousarray(volume_zyx, np.float32))
    planes = functional.interpolate(volume[None], (rows, columns), mode="bilinear", antialias=True)
    # As an image of slices x pixels, whose width stays: only two axes can be averaged at a time.
    flat = planes.reshape(1, 1, len(volume), rows * columns)
    whole = functional.interpolate(flat, (slices, rows * columns), mode="bilinear", antialias=True)
    return np.asarray(whole.reshape(shape_zyx).numpy())


def largest_pieces(mask: Mask, count: int = 1) -> Mask:
    """The so many largest parts that hang together by faces, the further ones only if they are a fifth of the largest.

    An empty mask stays empty.
    """
    boxes = ndimage.find_objects(mask.astype(np.int8))
    if not boxes:
        return mask
    # An organ fills a hundredth of an image; labels of all of it would take most of the time of the gate.
    parts, found = ndimage.label(mask[boxes[0]])
    if found < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest = np.argsort(sizes, kind="stable")[::-1][:count]
    kept = np.zeros(mask.shape, np.bool_)
    kept[boxes[0]] = np.isin(parts, largest[sizes[largest] >= _LEAST_PIECE * sizes.max()])
    return kept


def _around_the_body(hu_zyx: Hu, spacing_zyx_mm: tuple[float, float, float]) -> tuple[slice, slice, slice]:
    """The box of the body with a margin; everything where there is no body."""
    found = ndimage.find_objects(body_mask(hu_zyx).astype(np.int8))
    if not found:
        return slice(None), slice(None), slice(None)
    z, y, x = (
        slice(max(0, side.start - round(_MARGIN_MM / mm)), side.stop + round(_MARGIN_MM / mm))
        for side, mm in zip(found[0], spacing_zyx_mm, strict=True)
    )
    return z, y, x


def _channels(model: Segmenter, hu_zyx: Hu, mr_zyx: Hu | None) -> Tensor:
    """Input of the network at the working spacing: (C, D, H, W)."""
    channels = [ct_channels(hu_zyx, model.task.windows_hu)]
    if model.task.takes_mr:
        seen = np.zeros_like(hu_zyx) if mr_zyx is None else mr_channel(mr_zyx, body_mask(hu_zyx))
        channels.append(seen[None])
    return torch.from_numpy(np.concatenate(channels))


def _look_disagreement(task: SegmentationTask, looks: Tensor) -> dict[str, float] | None:
    """Of (looks, K, D, H, W); of a few voxels of an organ it means nothing that one look has them and one has not."""
    if len(looks) < 2:
        return None
    classes = looks.shape[1]
    first, second = (look.argmax(dim=0).flatten() for look in looks)
    voxels = torch.bincount(first, minlength=classes) + torch.bincount(second, minlength=classes)
    common = torch.bincount(first[first == second], minlength=classes)
    is_large = voxels * float(np.prod(task.spacing_zyx_mm)) / 2000.0 >= _LEAST_ML
    disagreement = 1.0 - 2.0 * common / voxels
    return {organ: float(disagreement[at]) for at, organ in enumerate(task.organs, start=1) if is_large[at]}


def _on_grid(
    probabilities: Tensor, shape_zyx: tuple[int, ...], progress: Callable[[float, str], None]
) -> tuple[NDArray[np.uint8], list[float]]:
    """Class of each voxel of the image, and of each organ the mean probability; slice by slice, as memory is short."""
    classes = len(probabilities)
    labels = np.empty(shape_zyx, np.uint8)
    sums, counts = np.zeros(classes), np.zeros(classes)
    for index in range(shape_zyx[0]):
        plane = _interpolated_slice(probabilities, index, shape_zyx[0])[None]
        highest, found = functional.interpolate(plane, shape_zyx[1:], mode="bilinear")[0].max(dim=0)
        labels[index] = found.numpy()
        sums += np.bincount(found.flatten().numpy(), highest.flatten().numpy(), classes)
        counts += np.bincount(found.flatten().numpy(), minlength=classes)
        progress(_NETWORK_SHARE + (1.0 - _NETWORK_SHARE) * (index + 1) / shape_zyx[0], "segmenting")
    sure = np.divide(sums, counts, out=np.full(classes, np.nan), where=counts > 0)
    return labels, [float(value) for value in sure[1:]]


def _interpolated_slice(probabilities: Tensor, index: int, slices: int) -> Tensor:
    """Slice of the image that has so many, from the two nearest ones: (K, D, H, W) -> (K, H, W)."""
    last = probabilities.shape[1] - 1
    place = min(max((index + 0.5) * (last + 1) / slices - 0.5, 0.0), float(last))
    below = int(place)
    return torch.lerp(probabilities[:, below], probabilities[:, min(below + 1, last)], place - below)
