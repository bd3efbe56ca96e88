"""Train the enhancement of MVCT or CBCT: resumable, the same result from the same seed.

Unpaired is the published way, a CycleGAN on slices of different patients; supervised is the same network on simulated
pairs, whose truth is known. The number of updates is fixed, not the number of epochs, so that runs on data sets of
different size compare.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.cyclegan import Features
from models.inference import nobody
from models.insert_phantom import insert_places
from models.intensity import body_mask
from models.training.card import SIMULATED, Origin, finished_weights, training_domain
from models.training.checkpoint import RunFiles
from models.training.checks import check_training_data
from models.training.curve import draw_learning_curve
from models.training.kept_pairs import data_sha256, kept_pairs, read_pair
from models.training.pairs import MODALITY_NAMES, scanner_noise
from models.training.progress import CountedProgress, Progress, part
from models.training.run import TrainingRun
from models.training.settings import TrainingSettings
from models.training.slices import TrainingImage, TrainingSlices, limited, planning_images, sparse_images
from models.training.volumes import TrainingDataError, TrainingVolume, of_split

_SIMULATION_SHARE = 0.1
"""Part of the progress bar that the simulation of the data takes."""


def train(
    volumes: Sequence[TrainingVolume],
    settings: TrainingSettings,
    output: Path,
    name: str,
    progress: Progress = nobody,
    segmentation: Features | None = None,
) -> Path:
    """Train on the training patients, measure limits on the validation patients; returns the weights file.

    Sparse images are the real ones of the modality among the volumes; where there is none, they are simulated from
    every planning CT. Into `output` go NAME.safetensors, NAME.md, NAME.csv (log), NAME.png (learning curve), the last
    checkpoint and the simulated images. A run that was interrupted goes on from there; when it is done, the folder
    `simulated` may be deleted.

    Raises
    ------
    TrainingDataError
        If the data do not suffice: no training volume, one patient only, fewer slices than a batch, or a loss that
        needs what the data do not have.
    models.cone_beam.ConeBeamUnavailable
        If CBCT have to be simulated and the library for it is not installed.
    """
    used = _used(volumes, settings)
    training = _trained_on(used, settings)
    check_training_data(training, settings.batch, settings.slices, settings.crop_pixels)
    _check_losses(settings, segmentation)
    output.mkdir(parents=True, exist_ok=True)
    slices, origin = prepared(training, settings, output / SIMULATED, part(progress, 0.0, _SIMULATION_SHARE))
    if len(slices) < settings.batch:
        raise TrainingDataError(f"{len(slices)} training slices are fewer than a batch of {settings.batch}")
    files = RunFiles(output / f"{name}.checkpoint.json", output / f"{name}.csv", data_sha256(training))
    run = TrainingRun(settings, slices, files, segmentation)
    run.to_the_end(part(progress, _SIMULATION_SHARE, 0.95))
    draw_learning_curve(output / f"{name}.csv", output / f"{name}.png")
    return finished_weights(run.average, settings, origin, used, output / f"{name}.safetensors", progress)


def prepared(
    training: Sequence[TrainingVolume], settings: TrainingSettings, folder: Path, progress: Progress
) -> tuple[TrainingSlices, Origin]:
    """The two domains of the training volumes, real or simulated, and what the sparse images have in common.

    What is simulated is kept in the folder. Beside real images nothing is, but the noise of the scanner.
    """
    planning = [volume for volume in training if volume.domain == "planning_ct"]
    real = [volume for volume in training if volume.domain != "planning_ct"]
    name = MODALITY_NAMES[settings.scans.modality]
    if real:
        sparse = [TrainingImage(v.patient_id, v.hu_zyx, body_mask(v.hu_zyx)) for v in real]
        ct, spacings = _real_planning_images(planning, settings), [volume.spacing_zyx_mm for volume in real]
    else:
        name = f"simulated {name}"
        count = CountedProgress(len(planning), "simulating", progress)
        pairs = [read_pair(path) for path in kept_pairs(planning, settings.scans, settings.seed, folder, count)]
        sparse, ct = sparse_images(pairs), planning_images(pairs)
        spacings = [pair.volume.spacing_zyx_mm for pair in pairs]
    sparse, ct = (limited(images, settings.slices, settings.seed) for images in (sparse, ct))
    drawn = TrainingSlices(sparse, ct, settings.window_hu, settings.crop_pixels, settings.architecture.slices)
    return drawn, Origin(training_domain(name, sparse, spacings), not real)


def _real_planning_images(planning: Sequence[TrainingVolume], settings: TrainingSettings) -> list[TrainingImage]:
    rng = np.random.default_rng(settings.seed)
    return [
        TrainingImage(
            volume.patient_id,
            volume.hu_zyx,
            body_mask(volume.hu_zyx),
            noise_zyx=scanner_noise(volume, settings.scans, rng),
        )
        for volume in planning
    ]


def _used(volumes: Sequence[TrainingVolume], settings: TrainingSettings) -> list[TrainingVolume]:
    """Planning CT and the real images of patients of the modality; what another machine took is of no use here."""
    return [
        volume
        for volume in volumes
        if volume.domain == "planning_ct" or (volume.domain == settings.scans.modality and not _is_phantom(volume))
    ]


def _is_phantom(volume: TrainingVolume) -> bool:
    """A phantom that lies among the images to be measured is no patient to learn from."""
    return insert_places(volume.hu_zyx, volume.spacing_zyx_mm) is not None


def _trained_on(used: Sequence[TrainingVolume], settings: TrainingSettings) -> list[TrainingVolume]:
    """The training volumes; without the real images where a truth is needed, as nobody knows theirs."""
    training = of_split(used, "train")
    if settings.losses.paired > 0.0:
        return [volume for volume in training if volume.domain == "planning_ct"]
    return training


def _check_losses(settings: TrainingSettings, segmentation: Features | None) -> None:
    if settings.losses.segmentation > 0.0 and segmentation is None:
        raise TrainingDataError("the loss segmentation has a weight, but no segmentation network is given")
    if settings.losses.perceptual > 0.0 and not settings.warm_up():
        raise TrainingDataError("the loss perceptual has a weight, but no warm-up makes its features")
