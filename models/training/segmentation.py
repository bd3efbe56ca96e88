"""Train a segmentation on volumes with organs: resumable, the same result from the same seed.

Each update draws patches, changes them a little, and learns to name the organ of each voxel; an organ that was not
drawn in a patient teaches nothing there (`models.segmentation_losses`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.inference import nobody
from models.segmentation_losses import segmentation_losses
from models.training.card import training_domain
from models.training.checkpoint import RunFiles
from models.training.curve import draw_learning_curve
from models.training.drawn_ahead import DrawnAhead
from models.training.network_run import NetworkRun
from models.training.organ_patches import OrganBatch, OrganPatches, WorkingImage
from models.training.organ_volumes import OrganVolume, organ_data_sha256
from models.training.progress import Progress, part
from models.training.segmentation_card import finished_segmenter
from models.training.segmentation_settings import SegmentationSettings
from models.training.slices import TrainingImage
from models.training.volumes import Split, TrainingDataError
from models.unet import Architecture, SegmentationNetwork, arranged, placed
from models.weights import TrainingDomain, WeightsError, load_weights

_VALIDATION_SEED = 1
_TRAINING_SHARE = 0.9
"""Part of the progress bar; the rest is measuring."""


def train(
    volumes: Sequence[OrganVolume],
    settings: SegmentationSettings,
    output: Path,
    name: str,
    progress: Progress = nobody,
    is_made_up: bool = False,
    mirror: bool = False,
) -> Path:
    """Train on the training patients, measure on the validation patients; the weights file.

    Into `output` go NAME.safetensors, NAME.md, NAME.csv (log), NAME.png (learning curve) and the last checkpoint. A
    run that was interrupted goes on from there.

    Raises
    ------
    TrainingDataError
        If there is no training volume, one is of other organs than the settings, none shows a body or an organ, or the
        patch does not fit the halvings of the network.
    """
    training, validation = of_split(volumes, "train"), of_split(volumes, "validation")
    patches = OrganPatches(training, settings)
    batches = validation_batches(validation, settings)
    output.mkdir(parents=True, exist_ok=True)
    files = RunFiles(output / f"{name}.checkpoint.json", output / f"{name}.csv", organ_data_sha256(training))
    run = SegmentationRun(settings, patches, files, batches)
    run.to_the_end(part(progress, 0.0, _TRAINING_SHARE))
    draw_learning_curve(output / f"{name}.csv", output / f"{name}.png", "loss, Dice")
    path = output / f"{name}.safetensors"
    share = part(progress, _TRAINING_SHARE, 1.0)
    domain = segmentation_domain(training, patches.images, settings.spacing_zyx_mm, is_made_up)
    finished_segmenter(run.average, settings, domain, usual_ml(training), validation, path, share, is_made_up, mirror)
    return path


def of_split(volumes: Sequence[OrganVolume], split: Split) -> list[OrganVolume]:
    """Volumes of one split; those without a split count as training."""
    return [one for one in volumes if (one.volume.split or "train") == split]


def validation_batches(volumes: Sequence[OrganVolume], settings: SegmentationSettings) -> list[OrganBatch]:
    """The same few batches each time, unchanged patches; none without volumes."""
    return judged_batches(OrganPatches(volumes, settings), settings) if volumes else []


def judged_batches(patches: OrganPatches, settings: SegmentationSettings) -> list[OrganBatch]:
    """The same few batches each time, unchanged patches."""
    rng = np.random.default_rng(_VALIDATION_SEED)
    return [patches.batch(settings.batch, rng) for _ in range(settings.validation_batches)]


class SegmentationRun(NetworkRun[SegmentationNetwork]):
    """One training."""

    def __init__(
        self,
        settings: SegmentationSettings,
        patches: OrganPatches,
        files: RunFiles,
        validation: Sequence[OrganBatch] = (),
    ) -> None:
        torch.manual_seed(settings.seed)
        self._settings, self._patches, self._validation = settings, patches, validation
        self._device = torch.device(settings.device)
        network = placed(initial_network(settings), self._device)
        columns = ["focal", "dice", "validation_dice", *(f"dice_{organ}" for organ in settings.organs)]
        super().__init__(network, settings, files, columns)
        self._drawn = DrawnAhead(self._batch, settings.updates, settings.drawing_processes).behind(self.update)

    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """Focal and Dice loss of fresh patches."""
        batch = next(self._drawn)
        logits = self._logits(self.network, batch)
        labels, drawn = batch.labels.to(self._device), batch.drawn.to(self._device)
        losses = segmentation_losses(logits, labels, drawn, self._settings.losses)
        return torch.stack(list(losses.values())).sum(), {name: float(one.detach()) for name, one in losses.items()}

    @torch.no_grad()
    def validated(self) -> Mapping[str, float]:
        """Dice of the moving average over all validation patches, by organ and their mean."""
        if not self._validation:
            return {}
        found = sum(self._overlaps(batch) for batch in self._validation)
        by_organ = {
            f"dice_{organ}": 2.0 * float(overlap) / float(size)
            for organ, overlap, size in zip(self._settings.organs, *np.asarray(found), strict=True)
            if size
        }
        return {**by_organ, "validation_dice": float(np.mean(list(by_organ.values())))} if by_organ else {}

    def _overlaps(self, batch: OrganBatch) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Voxels that prediction and truth have in common, and the sum of both; of each organ, where it was drawn."""
        predicted = self._logits(self.average, batch).argmax(dim=1).cpu()
        counts = np.zeros((2, len(self._settings.organs)), np.int64)
        for organ in range(len(self._settings.organs)):
            found, true = (labels[batch.drawn[:, organ]] == 1 + organ for labels in (predicted, batch.labels))
            counts[:, organ] = int((found & true).sum()), int(found.sum()) + int(true.sum())
        return counts

    def _batch(self, update: int) -> OrganBatch:
        rng = np.random.default_rng([self._settings.seed, update])
        return self._patches.batch(self._settings.batch, rng, self._settings.augmentation)

    def _logits(self, network: SegmentationNetwork, batch: OrganBatch) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.bf16):
            logits: Tensor = network(arranged(batch.channels.to(self._device)))
        return logits.float()


def initial_network(settings: SegmentationSettings) -> SegmentationNetwork:
    """A network of random weights, or of those that the training goes on from.

    Raises
    ------
    TrainingDataError
        If the weights can not be used, or are of another architecture, other organs or another input.
    """
    network = SegmentationNetwork(settings.architecture())
    if settings.initial_weights is None:
        return network
    try:
        card, tensors = load_weights(settings.initial_weights)
    except WeightsError as error:
        raise TrainingDataError(str(error)) from error
    if card.segmentation != settings.task() or Architecture(**card.architecture) != settings.architecture():
        raise TrainingDataError(
            f"{settings.initial_weights} is of other organs, inputs, patches or size than asked for"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network


def segmentation_domain(
    training: Sequence[OrganVolume],
    images: Sequence[WorkingImage],
    working_mm: tuple[float, float, float],
    is_made_up: bool = False,
) -> TrainingDomain:
    """What the training images have in common; HU as the network saw them, spacings and heights as they were.

    An image that is finer than the working spacing is averaged to it, however fine it is: where training images were
    finer, there is no least spacing.
    """
    seen = [
        TrainingImage(one.volume.patient_id, image.hu_zyx, image.body)
        for one, image in zip(training, images, strict=True)
    ]
    has_mr = any(one.mr_zyx is not None for one in training)
    modality = f"{'made-up' if is_made_up else 'planning'} CT{', some with MR' if has_mr else ''}"
    domain = training_domain(modality, seen, [one.volume.spacing_zyx_mm for one in training])
    heights = [len(one.volume.hu_zyx) * one.volume.spacing_zyx_mm[0] for one in training]
    slice_mm, *pixel_mm = working_mm
    return domain.model_copy(
        update={
            "height_mm": (round(min(heights), 1), round(max(heights), 1)),
            "slice_spacing_mm": _averaged(domain.slice_spacing_mm, slice_mm),
            "pixel_spacing_mm": _averaged(domain.pixel_spacing_mm, min(pixel_mm)),
        }
    )


def _averaged(bounds_mm: tuple[float, float] | None, working_mm: float) -> tuple[float, float] | None:
    return (0.0, bounds_mm[1]) if bounds_mm is not None and bounds_mm[0] <= working_mm else bounds_mm


def usual_ml(training: Sequence[OrganVolume]) -> dict[str, tuple[float, float]]:
    """Smallest and largest volume of each organ that was drawn, mL."""
    found: dict[str, list[float]] = {}
    for one in training:
        voxel_ml = float(np.prod(one.volume.spacing_zyx_mm)) / 1000.0
        for organ, mask in one.masks().items():
            if mask.any():
                found.setdefault(organ, []).append(round(float(mask.sum()) * voxel_ml, 2))
    return {organ: (min(volumes), max(volumes)) for organ, volumes in found.items()}
