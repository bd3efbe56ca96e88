"""Train the diffusion prior on CT slices: resumable, the same result from the same seed.

Each update draws crops, a time for each, and noise, and the network learns to predict that noise (Ho et al., arXiv
2006.11239, equation 14: mean square error, every time with the same weight). Part of each batch has times near 0: a
shallow chain asks for no others.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import ConfigDict
from torch import Tensor
from torch.nn import functional

from models.diffusion import Architecture, DenoisingNetwork, NoiseSchedule, q_sample
from models.inference import nobody
from models.intensity import Hu, body_mask, normalised
from models.training.card import training_domain
from models.training.checkpoint import RunFiles
from models.training.curve import draw_learning_curve
from models.training.diffusion_card import finished_prior
from models.training.kept_pairs import data_sha256
from models.training.network_run import NetworkRun
from models.training.progress import Progress
from models.training.slices import TrainingImage
from models.training.volumes import TrainingDataError, TrainingVolume, of_split

log = logging.getLogger(__name__)

_LOGGED = ("shallow", "all_times", "validation")
_VALIDATION_BATCHES = 4
_VALIDATION_SEED = 1
_TRAINING_SHARE = 0.98
"""Part of the progress bar; the rest is measuring."""


@dataclass(frozen=True)
class DiffusionSettings:
    """Everything that decides what a training run makes, data aside."""

    # Read from YAML by pydantic: a misspelt setting must not be ignored.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    updates: int = 40_000
    seed: int = 0
    device: str = "cpu"
    batch: int = 8
    crop_pixels: int = 96
    largest_pixel_mm: float = 2.5
    """Images with larger pixels are left out: at 4 mm, edges and noise look unlike those that are reconstructed."""
    window_hu: tuple[float, float] = (-1000.0, 2000.0)
    """What [-1, 1] is; wider than for enhancement, as rays see dense bone and all of the air."""
    learning_rate: float = 4e-4
    """Of Adam; rises over the first updates, falls to 0 along half a cosine."""
    shallow_share: float = 0.5
    """Part of each batch with times of at most `shallow_time`; the others have any time."""
    shallow_time: int = 100
    ema_decay: float = 0.999
    """The shipped network is the moving average of the trained one; this is kept of it with each update."""
    bf16: bool = False
    log_every: int = 100
    checkpoint_every: int = 500
    architecture: Architecture = field(default_factory=Architecture)

    def sha256(self) -> str:
        """Digest of all settings; a checkpoint is continued only by the run that wrote it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def train(
    volumes: Sequence[TrainingVolume],
    settings: DiffusionSettings,
    output: Path,
    name: str,
    progress: Progress = nobody,
) -> Path:
    """Train on the planning CT of the training patients, measure on the validation patients; the weights file.

    Into `output` go NAME.safetensors, NAME.md, NAME.csv (log), NAME.png (learning curve) and the last checkpoint. A
    run that was interrupted goes on from there.

    Raises
    ------
    TrainingDataError
        If there is no training volume of planning CT whose pixels are fine enough and whose slices are as large as the
        crop, none shows a body, or the crop does not fit the halvings of the network.
    """
    planning = usable_volumes(volumes, settings)
    training = of_split(planning, "train")
    crops = SliceCrops(training_images(training), settings)
    output.mkdir(parents=True, exist_ok=True)
    validation = validation_batches(of_split(planning, "validation"), settings)
    files = RunFiles(output / f"{name}.checkpoint.json", output / f"{name}.csv", data_sha256(training))
    run = DiffusionRun(settings, crops, files, validation)
    run.to_the_end(lambda done, what: progress(_TRAINING_SHARE * done, what))
    draw_learning_curve(output / f"{name}.csv", output / f"{name}.png")
    domain = training_domain("planning CT", crops.images, [volume.spacing_zyx_mm for volume in training])
    path = finished_prior(run.average, settings, domain, validation, output / f"{name}.safetensors")
    progress(1.0, "measured")
    return path


def usable_volumes(volumes: Sequence[TrainingVolume], settings: DiffusionSettings) -> list[TrainingVolume]:
    """The planning CT with pixels fine enough and slices large enough; how many are left out is logged."""
    planning = [volume for volume in volumes if volume.domain == "planning_ct"]
    usable = [
        volume
        for volume in planning
        if max(volume.spacing_zyx_mm[1:]) <= settings.largest_pixel_mm
        and min(volume.hu_zyx.shape[1:]) >= settings.crop_pixels
    ]
    if len(usable) < len(planning):
        log.info(
            "volumes left out: pixels too large, or slices too small", extra={"count": len(planning) - len(usable)}
        )
    return usable


def training_images(volumes: Sequence[TrainingVolume]) -> list[TrainingImage]:
    """The volumes with their bodies."""
    return [TrainingImage(volume.patient_id, volume.hu_zyx, body_mask(volume.hu_zyx)) for volume in volumes]


def validation_batches(volumes: Sequence[TrainingVolume], settings: DiffusionSettings) -> list[Tensor]:
    """The same few batches of crops (B, 1, crop, crop) each time; none without volumes."""
    if not volumes:
        return []
    crops = SliceCrops(training_images(volumes), settings)
    rng = np.random.default_rng(_VALIDATION_SEED)
    return [crops.batch(settings.batch, rng) for _ in range(_VALIDATION_BATCHES)]


class SliceCrops:
    """Draws crops of slices that show the body, each body pixel as likely as any other.

    Whole slices so count for more than the cut-outs of some collections, as there is more to learn in them. Centred on
    body pixels and mirrored left to right at random; never rotated or resized: the prior has to know what lies where,
    and what noise looks like at the pixels of a scanner.
    """

    def __init__(self, images: Sequence[TrainingImage], settings: DiffusionSettings) -> None:
        """Take the images; errors as of `train`."""
        self.images = images
        self._crop, self._window_hu = settings.crop_pixels, settings.window_hu
        self._slices = [(number, at) for number, image in enumerate(images) for at in image.drawn_slices()]
        if not images:
            raise TrainingDataError(
                f"there is no training volume of planning CT with pixels up to {settings.largest_pixel_mm:g} mm"
                f" and slices of {settings.crop_pixels} pixels or more"
            )
        if not self._slices:
            raise TrainingDataError("no training slice shows a body")
        if self._crop % settings.architecture.stride:
            raise TrainingDataError(f"a crop of {self._crop} pixels is no multiple of {settings.architecture.stride}")
        areas = np.array([images[number].body[at].sum() for number, at in self._slices], np.float64)
        self._likelihood = areas / areas.sum()

    def __len__(self) -> int:
        """Number of slices that are drawn from."""
        return len(self._slices)

    def batch(self, size: int, rng: np.random.Generator) -> Tensor:
        """Crops (size, 1, crop, crop) in [-1, 1]."""
        chosen = rng.choice(len(self._slices), size=size, p=self._likelihood)
        return torch.from_numpy(np.stack([self._drawn(*self._slices[int(at)], rng) for at in chosen])[:, None])

    def _drawn(self, number: int, index: int, rng: np.random.Generator) -> Hu:
        image = self.images[number]
        centre = np.unravel_index(int(rng.choice(np.flatnonzero(image.body[index]))), image.body.shape[1:])
        row, column = (
            int(np.clip(int(at) - self._crop // 2, 0, n - self._crop))
            for at, n in zip(centre, image.body.shape[1:], strict=True)
        )
        step = -1 if rng.random() < 0.5 else 1
        crop = image.hu_zyx[index, row : row + self._crop, column : column + self._crop]
        return normalised(crop[:, ::step], self._window_hu)


class DiffusionRun(NetworkRun[DenoisingNetwork]):
    """One training."""

    def __init__(
        self,
        settings: DiffusionSettings,
        crops: SliceCrops,
        files: RunFiles,
        validation: Sequence[Tensor] = (),
    ) -> None:
        torch.manual_seed(settings.seed)
        self._settings, self._crops, self._validation = settings, crops, validation
        self._device = torch.device(settings.device)
        self._schedule = NoiseSchedule(settings.architecture.steps)
        network: DenoisingNetwork = DenoisingNetwork(settings.architecture).to(
            self._device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        super().__init__(network, settings, files, _LOGGED)

    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """Mean square error of the predicted noise of fresh crops."""
        x_0 = self._crops.batch(self._settings.batch, self.rng)
        times, shallow = self._drawn_times(len(x_0))
        squares = self._squared_errors(self.network, x_0, times, self.update)
        parts = {"shallow": squares[:shallow], "all_times": squares[shallow:]}
        return squares.mean(), {name: float(part.detach().mean()) for name, part in parts.items() if len(part)}

    @torch.no_grad()
    def validated(self) -> Mapping[str, float]:
        """Error of the moving average on the validation crops, at shallow times that are always the same."""
        if not self._validation:
            return {}
        reach = min(self._settings.shallow_time, self._schedule.steps)
        times = torch.linspace(1, reach, self._settings.batch).round().long()
        errors = [self._squared_errors(self.average, x_0, times, n) for n, x_0 in enumerate(self._validation)]
        return {"validation": float(torch.cat(errors).mean())}

    def _drawn_times(self, size: int) -> tuple[Tensor, int]:
        """A time for each image, the shallow ones first; and how many those are."""
        shallow = round(self._settings.shallow_share * size)
        near = self.rng.integers(1, min(self._settings.shallow_time, self._schedule.steps) + 1, size=shallow)
        anywhere = self.rng.integers(1, self._schedule.steps + 1, size=size - shallow)
        return torch.from_numpy(np.concatenate([near, anywhere])), shallow

    def _squared_errors(self, network: DenoisingNetwork, x_0: Tensor, times: Tensor, number: int) -> Tensor:
        """Mean square of predicted minus true noise of each image (B,); the noise belongs to the number."""
        seed = int(np.random.SeedSequence([self._settings.seed, number]).generate_state(1, np.uint32)[0])
        generator = torch.Generator(self._device).manual_seed(seed)
        eps = torch.randn(x_0.shape, generator=generator, device=self._device)
        x_t = q_sample(x_0.to(self._device), times, eps, self._schedule).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.bf16):
            predicted = network(x_t, times.to(self._device))
        return functional.mse_loss(predicted.float(), eps, reduction="none").mean(dim=(1, 2, 3))
