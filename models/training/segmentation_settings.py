"""Everything that decides what a training of a segmentation makes, its images aside."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from models.segmentation_losses import SegmentationLossWeights
from models.unet import Architecture
from models.weights import SegmentationTask

WIDE_WINDOW_HU = (-1200.0, 100.0)
"""Of the published pelvic segmentation: air to soft tissue."""
SOFT_TISSUE_WINDOW_HU = (-160.0, 240.0)
BONE_WINDOW_HU = (-200.0, 1300.0)
_WHERE = ("device", "drawing_processes")


@dataclass(frozen=True)
class Augmentation:
    """How patches differ from the images that they are cut from; 0 leaves a change out."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mirror: float = 0.5
    """Part of the patches that are mirrored left to right, their left organs called right ones. 0 where an organ
    without a side in its name lies on one side, as liver and heart do."""
    largest_scaling: float = 0.15
    """Patients are made larger or smaller by up to this part."""
    largest_turn_deg: float = 12.0
    """And turned about each of their axes by up to this angle."""
    largest_noise_hu: float = 20.0
    """SD of white noise, evenly between 0 and this."""
    jitter_hu: float = 15.0
    """SD of the shift of each end of the windows; the same for all windows of a patch."""


@dataclass(frozen=True)
class SegmentationSettings:
    """Everything that decides what a training run makes, data aside."""

    # Read from YAML by pydantic: a misspelt setting must not be ignored.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    organs: tuple[str, ...]
    """TG-263 names."""
    initial_weights: str | None = None
    """Shipped weights by name or a `.safetensors` file of the same architecture, to go on from; None: begin anew."""
    updates: int = 10_000
    seed: int = 0
    device: str = "cpu"
    drawing_processes: int = 0
    """Processes that draw patches ahead of their update; a graphics card waits for them otherwise."""
    batch: int = 2
    patch_zyx: tuple[int, int, int] = (64, 64, 64)
    spacing_zyx_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    windows_hu: tuple[tuple[float, float], ...] = (WIDE_WINDOW_HU, SOFT_TISSUE_WINDOW_HU, BONE_WINDOW_HU)
    """The CT is seen once through each of them."""
    takes_mr: bool = False
    mr_dropout: float = 0.5
    """Part of the patches whose MR is left out, so that the network serves CT alone too."""
    organ_share: float = 0.67
    """Part of the patches that are drawn around a voxel of an organ, each organ as often as any other; the others
    around any voxel of the body."""
    learning_rate: float = 1e-3
    """Of Adam; rises over the first updates, falls to 0 along half a cosine."""
    ema_decay: float = 0.998
    """The shipped network is the moving average of the trained one; this is kept of it with each update."""
    bf16: bool = False
    log_every: int = 100
    checkpoint_every: int = 500
    validation_batches: int = 8
    """Batches of patches of the validation patients that are judged for each row of the log."""
    channels: int = 16
    most_channels: int = 192
    levels: int = 5
    losses: SegmentationLossWeights = field(default_factory=SegmentationLossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def task(self) -> SegmentationTask:
        """What the card states."""
        return SegmentationTask(
            organs=self.organs,
            windows_hu=self.windows_hu,
            takes_mr=self.takes_mr,
            spacing_zyx_mm=self.spacing_zyx_mm,
            patch_zyx=self.patch_zyx,
        )

    def architecture(self) -> Architecture:
        """Size of the network."""
        inputs, outputs = self.task().channels, 1 + len(self.organs)
        return Architecture(inputs, outputs, self.channels, self.most_channels, self.levels)

    def sha256(self) -> str:
        """Digest of all settings but where it is computed; a checkpoint is continued only by a run of the same."""
        decisive = {name: value for name, value in asdict(self).items() if name not in _WHERE}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
