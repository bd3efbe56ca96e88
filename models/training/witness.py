"""Train the witness of an enhancement (`models.witness`): resumable, the same result from the same seed."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import ConfigDict
from torch import Tensor

from models.cyclegan import Architecture
from models.engines import has_bf16
from models.inference import EnhancementModel, enhanced, load_generator, nobody
from models.intensity import Hu, Mask
from models.training.card import SIMULATED, training_domain
from models.training.checkpoint import RunFiles
from models.training.checks import check_training_data
from models.training.curve import draw_learning_curve
from models.training.kept_pairs import data_sha256, kept_pairs, read_pair
from models.training.network_run import NetworkRun
from models.training.pairs import MODALITY_NAMES, Scans, SimulatedPair
from models.training.progress import CountedProgress, Progress, part
from models.training.slices import Crop, sparse_images
from models.training.volumes import TrainingDataError, TrainingVolume, of_split
from models.weights import Card, save, witness_path
from models.witness import METHOD, WitnessNetwork

_SEED_OF_PAIRS = 0
_IMAGE_WEIGHT, _SCALE_WEIGHT = 10.0, 0.1
"""Of the two losses; the distance of images in [-1, 1] is a hundredth, the other about one."""
_VALIDATION_SEED, _VALIDATION_BATCHES = 1, 20
_COLUMNS = ("image", "scale", "validation_hu", "validation_scale")

_TEXT = """\
# {name}

**The witness of {weights}: it judges results of those weights and makes none.**

## Intended use

Research. It states what planning CT is to be expected of a {modality}, and how far from that the results of {weights}
usually are; the stability gate compares (models/witness.py). It knows nothing of other weights.

## Data

{patients} training patients, {slices} slices of {modality}, the same as those of {weights};
{updates} updates of {batch} crops of {crop} pixels, seed {seed}. Its expectation was trained on planning CT alone, its
scale on the distance of what {weights} make of the training images.

## Limits

Trained on the same simulation as the weights that it judges: what that taught both wrongly, it will not notice.

## Metrics

On {validation} validation patients its expectation is {error:.1f} HU off the planning CT (mean absolute, crops about
body pixels).

## Licence and attribution

The weights are under the licence of this project (Apache-2.0). Data: as of {weights}.
"""


@dataclass(frozen=True)
class WitnessSettings:
    """Everything that decides what a training of a witness makes, data and judged weights aside."""

    # Read from YAML by pydantic: a misspelt setting must not be ignored.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    updates: int = 8000
    seed: int = 1
    device: str = "cpu"
    batch: int = 8
    crop_pixels: int = 64
    learning_rate: float = 1e-3
    ema_decay: float = 0.998
    log_every: int = 100
    checkpoint_every: int = 500
    architecture: Architecture = field(
        default_factory=lambda: Architecture(channels=16, encoder_blocks=1, decoder_blocks=1, slices=5)
    )

    def sha256(self) -> str:
        """Digest of all settings; a checkpoint is continued only by the run that wrote it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class JudgedPair:
    """A simulated pair and what the judged weights made of it; [slice, row, column], HU."""

    pair: SimulatedPair
    enhanced_hu_zyx: Hu


def train_witness(
    weights: str,
    volumes: Sequence[TrainingVolume],
    scans: Scans,
    settings: WitnessSettings,
    output: Path,
    progress: Progress = nobody,
) -> Path:
    """Train on what the weights make of the simulated images of the training patients; returns the weights file.

    Into `output` go NAME_witness.safetensors, its card, log, learning curve and last checkpoint, and the simulated
    images.

    Raises
    ------
    TrainingDataError
        If there are no planning CT of training patients, or none of validation patients.
    models.weights.WeightsError
        If the weights to be judged can not be used.
    models.cone_beam.ConeBeamUnavailable
        If CBCT have to be simulated and the library for it is not installed.
    """
    model = load_generator(weights, judging=False)
    planning = [volume for volume in volumes if volume.domain == "planning_ct"]
    training, validation = of_split(planning, "train"), of_split(planning, "validation")
    check_training_data(training, settings.batch, None, settings.crop_pixels)
    if not validation:
        raise TrainingDataError("a witness is validated on planning CT of validation patients; there are none")
    folder, done = output / SIMULATED, CountedProgress(2 * (len(training) + len(validation)), "simulating", progress)
    learned, checked = (judged_pairs(model, part_of, scans, folder, done) for part_of in (training, validation))
    path = output / witness_path(weights).name
    # What other weights made of the same images is no training to go on with.
    learnt_from = hashlib.sha256(f"{data_sha256(training)} {model.card.sha256}".encode()).hexdigest()
    files = RunFiles(output / f"{path.stem}.checkpoint.json", output / f"{path.stem}.csv", learnt_from)
    run = WitnessRun(model.card, settings, learned, checked, files)
    run.to_the_end(part(progress, 0.5, 1.0))
    draw_learning_curve(files.log, output / f"{path.stem}.png", "loss")
    _write(run, model.card, settings, [one.pair for one in learned], len(checked), scans, path)
    return path


def judged_pairs(
    model: EnhancementModel, volumes: Sequence[TrainingVolume], scans: Scans, folder: Path, done: CountedProgress
) -> list[JudgedPair]:
    """Simulate each volume, and enhance what was simulated; the former is kept in the folder."""
    found = []
    for path in kept_pairs(volumes, scans, _SEED_OF_PAIRS, folder, done):
        pair = read_pair(path)
        found.append(JudgedPair(pair, enhanced(model, pair.sparse_hu_zyx, pair.volume.spacing_zyx_mm)))
        done()
    return found


@dataclass(frozen=True)
class WitnessBatch:
    """Crops in [-1, 1]."""

    x: Tensor
    """Sparse images, (B, S, crop, crop)."""
    planning: Tensor
    """(B, 1, crop, crop)."""
    enhanced: Tensor
    """(B, 1, crop, crop)."""


class _Crops:
    """Draws crops of judged pairs; every slice is equally likely."""

    def __init__(self, judged: Sequence[JudgedPair], crop: Crop) -> None:
        self._judged, self._crop = judged, crop
        self._slices = [(one, int(at)) for one in judged for at in one.pair.useful_slices()]
        if not self._slices:
            raise TrainingDataError("no slice shows a body")

    def batch(self, size: int, rng: np.random.Generator) -> WitnessBatch:
        x, planning, made = (np.stack(column) for column in zip(*self._drawn(size, rng), strict=True))
        middle = slice(self._crop.neighbours // 2, self._crop.neighbours // 2 + 1)
        return WitnessBatch(*(torch.from_numpy(one) for one in (x, planning[:, middle], made[:, middle])))

    def _drawn(self, size: int, rng: np.random.Generator) -> Iterator[list[Hu]]:
        for _ in range(size):
            one, index = self._slices[int(rng.integers(len(self._slices)))]
            body: Mask = one.pair.body
            volumes = (one.pair.sparse_hu_zyx, one.pair.volume.hu_zyx, one.enhanced_hu_zyx)
            yield self._crop.of(volumes, body, index, rng)


class WitnessRun(NetworkRun[WitnessNetwork]):
    """One training."""

    def __init__(
        self,
        judged: Card,
        settings: WitnessSettings,
        learned: Sequence[JudgedPair],
        checked: Sequence[JudgedPair],
        files: RunFiles,
    ) -> None:
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._device = torch.device(settings.device)
        low_hu, high_hu = judged.window_hu
        self._hu_per_unit = (high_hu - low_hu) / 2.0
        crop = Crop(settings.crop_pixels, settings.architecture.slices, judged.window_hu)
        self._crops = _Crops(learned, crop)
        rng, validation = np.random.default_rng(_VALIDATION_SEED), _Crops(checked, crop)
        self._validation = [validation.batch(settings.batch, rng) for _ in range(_VALIDATION_BATCHES)]
        network = WitnessNetwork(settings.architecture)
        placed: WitnessNetwork = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(placed, settings, files, _COLUMNS)

    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """Distance of the expectation from the planning CT, and of the scale from that of the enhancements."""
        image, scale = self._losses(self.network, self._crops.batch(self._settings.batch, self.rng))
        logged = {"image": float(image.detach()), "scale": float(scale.detach())}
        return _IMAGE_WEIGHT * image + _SCALE_WEIGHT * scale, logged

    @torch.no_grad()
    def validated(self) -> Mapping[str, float]:
        """Both losses of the moving average on the validation crops, that of the image in HU."""
        found = [self._losses(self.average, batch) for batch in self._validation]
        image, scale = (float(torch.stack(losses).mean()) for losses in zip(*found, strict=True))
        return {"validation_hu": image * self._hu_per_unit, "validation_scale": scale}

    def _losses(self, network: WitnessNetwork, batch: WitnessBatch) -> tuple[Tensor, Tensor]:
        x, planning, made = (one.to(self._device) for one in (batch.x, batch.planning, batch.enhanced))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=has_bf16()):
            said = network(x.contiguous(memory_format=torch.channels_last)).float()
        expected, log_scale = said[:, :1], said[:, 1:]
        # The scale follows the expectation; it must not bend it to its own ease.
        distance = (made - expected.detach()).abs()
        # Negative log-likelihood of a Laplace distribution, least where the scale is the mean absolute distance.
        return (expected - planning).abs().mean(), (distance * torch.exp(-log_scale) + log_scale).mean()


def _write(
    run: WitnessRun,
    judged: Card,
    settings: WitnessSettings,
    learned: Sequence[SimulatedPair],
    checked: int,
    scans: Scans,
    path: Path,
) -> None:
    modality = f"simulated {MODALITY_NAMES[scans.modality]}"
    domain = training_domain(modality, sparse_images(learned), [pair.volume.spacing_zyx_mm for pair in learned])
    error_hu = run.validated()["validation_hu"]
    facts = {
        "name": path.stem,
        "weights": judged.name,
        "modality": modality,
        "patients": domain.patients,
        "slices": domain.slices,
        "updates": settings.updates,
        "batch": settings.batch,
        "crop": settings.crop_pixels,
        "seed": settings.seed,
        "validation": checked,
        "error": error_hu,
    }
    card = {
        "method": METHOD,
        "architecture": asdict(settings.architecture),
        "window_hu": judged.window_hu,
        "judged_sha256": judged.sha256,
        "training_domain": domain,
        "metrics": {"validation_error_hu": float(f"{error_hu:.4g}")},
    }
    save(path, run.average.state_dict(), card, _TEXT.format_map(facts))
