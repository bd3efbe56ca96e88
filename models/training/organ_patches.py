"""What a training step of a segmentation sees: patches of patients with their organs, each a little changed."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.intensity import AIR_HU, Hu, Mask, body_mask
from models.organ_sides import mirrored_organs
from models.patches import Shape
from models.segmentation import resized, working_shape
from models.training.organ_volumes import OrganVolume
from models.training.patch_sampling import cut, cut_labels, turning
from models.training.segmentation_settings import Augmentation, SegmentationSettings
from models.training.volumes import TrainingDataError
from models.unet import ct_channels, mr_channel

_SHIFT = 0.25
"""Part of the patch that the voxel it is drawn around may be off its middle by."""
_MR_JITTER_SD = 0.1


@dataclass(frozen=True)
class OrganBatch:
    """Patches of several patients."""

    channels: Tensor
    """(B, C, D, H, W), as `models.unet` takes them."""
    labels: Tensor
    """Class of each voxel (B, D, H, W), int64."""
    drawn: Tensor
    """Whether each organ was drawn (B, organs)."""


@dataclass(frozen=True)
class WorkingImage:
    """One patient at the working spacing; [slice, row, column]."""

    hu_zyx: Hu
    labels_zyx: NDArray[np.uint8]
    drawn: tuple[bool, ...]
    mr_zyx: Hu | None
    """As the network takes it."""
    body: Mask


class OrganPatches:
    """Draws patches; validation draws them without change."""

    def __init__(self, volumes: Sequence[OrganVolume], settings: SegmentationSettings) -> None:
        """Take the volumes to the working spacing.

        Raises
        ------
        TrainingDataError
            If there is no volume, one is of other organs, none shows a body, no organ was drawn, or the patch does not
            fit the halvings of the network.
        """
        _check(volumes, settings)
        self.images = [working_image(one, settings) for one in volumes]
        self._settings = settings
        bodies = [np.flatnonzero(image.body) for image in self.images]
        self._bodies = [(number, voxels) for number, voxels in enumerate(bodies) if len(voxels)]
        self._organs = [found for organ in range(len(settings.organs)) if (found := self._showing(organ))]
        if not self._bodies:
            raise TrainingDataError("no volume shows a body")
        if not self._organs:
            raise TrainingDataError("none of the organs was drawn in any volume")

    def seen_otherwise(self, settings: SegmentationSettings) -> "OrganPatches":
        """The same images with other settings, which must not change organs or working spacing, or take the MR anew."""
        other = copy.copy(self)
        other._settings = settings
        return other

    def batch(self, size: int, rng: np.random.Generator, augmentation: Augmentation | None = None) -> OrganBatch:
        """Draw patches; without an augmentation they are as they are, with the MR wherever there is one."""
        patches = [self._patch(rng, augmentation) for _ in range(size)]
        channels, labels, drawn = (torch.from_numpy(np.stack(column)) for column in zip(*patches, strict=True))
        return OrganBatch(channels, labels.long(), drawn)

    def _showing(self, organ: int) -> list[tuple[int, NDArray[np.intp]]]:
        """The images that show an organ, by number, each with the organ's voxels."""
        voxels = [np.flatnonzero(image.labels_zyx == 1 + organ) for image in self.images]
        return [(number, found) for number, found in enumerate(voxels) if len(found)]

    def _patch(self, rng: np.random.Generator, augmentation: Augmentation | None) -> tuple[Hu, NDArray[np.uint8], Mask]:
        """Channels (C, D, H, W), labels (D, H, W), and which organs were drawn."""
        showing = self._bodies
        if rng.random() < self._settings.organ_share:
            showing = self._organs[int(rng.integers(len(self._organs)))]
        number, voxels = showing[int(rng.integers(len(showing)))]
        image, patch = self.images[number], self._settings.patch_zyx
        z, y, x = np.unravel_index(int(rng.choice(voxels)), image.body.shape)
        offsets = [int(rng.integers(-int(_SHIFT * n), int(_SHIFT * n) + 1)) for n in patch]
        # Of an even number of voxels the middle lies between two.
        centre = np.array([z, y, x]) + offsets + (np.array(patch) - 1) / 2.0 - np.array(patch) // 2
        matrix = self._matrix(rng, augmentation)
        hu = cut(image.hu_zyx, centre, patch, matrix, AIR_HU)
        labels = cut_labels(image.labels_zyx, centre, patch, matrix)
        mr = None if image.mr_zyx is None else cut(image.mr_zyx, centre, patch, matrix, 0.0)
        drawn = np.array(image.drawn)
        if augmentation is None:
            return self._channels(hu, mr, np.zeros(2)), labels, drawn
        hu = hu + rng.standard_normal(hu.shape, np.float32) * np.float32(
            rng.uniform(0.0, augmentation.largest_noise_hu)
        )
        channels = self._channels(hu, self._changed_mr(mr, rng), rng.normal(0.0, augmentation.jitter_hu, 2))
        if rng.random() < augmentation.mirror:
            return mirrored(channels, labels, drawn, self._settings.organs)
        return channels, labels, drawn

    def _matrix(self, rng: np.random.Generator, augmentation: Augmentation | None) -> NDArray[np.float64]:
        """From an offset in the patch to one in the image."""
        if augmentation is None:
            return np.eye(3)
        scale = 1.0 + rng.uniform(-1.0, 1.0) * augmentation.largest_scaling
        angles = rng.uniform(-1.0, 1.0, 3) * augmentation.largest_turn_deg
        return turning(angles, scale, self._settings.spacing_zyx_mm)

    def _changed_mr(self, mr: Hu | None, rng: np.random.Generator) -> Hu | None:
        """The MR with another contrast and brightness, or left out."""
        gain, offset = rng.normal(0.0, _MR_JITTER_SD, 2)
        is_left_out = rng.random() < self._settings.mr_dropout
        return None if mr is None or is_left_out else np.where(mr == 0.0, 0.0, (1.0 + gain) * mr + offset)

    def _channels(self, hu: Hu, mr: Hu | None, shifts_hu: NDArray[np.float64]) -> Hu:
        windows = [(low + float(shifts_hu[0]), high + float(shifts_hu[1])) for low, high in self._settings.windows_hu]
        channels = ct_channels(hu, windows)
        if not self._settings.takes_mr:
            return channels
        seen = np.zeros_like(hu) if mr is None else mr.astype(np.float32)
        return np.concatenate([channels, seen[None]])


def working_image(one: OrganVolume, settings: SegmentationSettings) -> WorkingImage:
    """The volume at the working spacing."""
    hu_zyx = one.volume.hu_zyx
    shape = working_shape(hu_zyx.shape, one.volume.spacing_zyx_mm, settings.spacing_zyx_mm)
    hu = resized(hu_zyx, shape)
    body = body_mask(hu)
    is_seen = settings.takes_mr and one.mr_zyx is not None
    mr = mr_channel(resized(np.asarray(one.mr_zyx), shape), body) if is_seen else None
    return WorkingImage(hu, resized_labels(one.labels_zyx, shape), one.drawn, mr, body)


def resized_labels(labels_zyx: NDArray[np.uint8], shape_zyx: Shape) -> NDArray[np.uint8]:
    """The class that most of each new voxel is of; the field of view stays."""
    most = resized(labels_zyx == 0, shape_zyx)
    labels = np.zeros(shape_zyx, np.uint8)
    for number in (int(found) for found in np.unique(labels_zyx) if found):
        share = resized(labels_zyx == number, shape_zyx)
        labels[share > most] = number
        most = np.maximum(most, share)
    return labels


def mirrored(
    channels: Hu, labels: NDArray[np.uint8], drawn: Mask, organs: Sequence[str]
) -> tuple[Hu, NDArray[np.uint8], Mask]:
    """The same patch of a patient who is mirrored left to right, whose left organs are right ones.

    Where an organ has a side and the other side is not among the organs, nobody drew it in the mirrored patient.
    """
    mates = mirrored_organs(organs)
    classes = np.array([0, *(0 if mate is None else 1 + mate for mate in mates)], np.uint8)
    known = np.array([mate is not None and bool(drawn[mate]) for mate in mates])
    return channels[..., ::-1].copy(), classes[labels[..., ::-1]], known


def _check(volumes: Sequence[OrganVolume], settings: SegmentationSettings) -> None:
    if not volumes:
        raise TrainingDataError("there is no training volume with organs")
    if any(one.organs != settings.organs for one in volumes):
        raise TrainingDataError("the volumes and the settings name other organs")
    stride = settings.architecture().stride
    if any(n % stride for n in settings.patch_zyx):
        sides = " x ".join(str(n) for n in settings.patch_zyx)
        raise TrainingDataError(f"a patch of {sides} voxels has sides that are no multiple of {stride}")
