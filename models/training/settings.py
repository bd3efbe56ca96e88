"""Everything that decides what a training of the enhancement makes, its images aside."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict

from models.cyclegan import SUPERVISED, Architecture, LossWeights
from models.training.pairs import Modality, Scans

Method: TypeAlias = Literal["unpaired", "supervised"]


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides what a training run makes, data aside."""

    # Read from YAML by pydantic: a misspelt setting must not be ignored.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    updates: int = 20_000
    seed: int = 0
    device: str = "cpu"
    slices: int | None = None
    """Number of training slices of each domain; None takes all."""
    batch: int = 4
    crop_pixels: int = 64
    window_hu: tuple[float, float] = (-800.0, 1200.0)
    scans: Scans = field(default_factory=Scans)
    """What is simulated where the data have no real images of the modality."""
    noise_sd_hu: tuple[float, float] = (20.0, 50.0)
    """Range of the noise, with the texture that the scanner has in a uniform phantom, that is given to planning CT
    before it is made into a sparse image."""
    learning_rate: float = 3e-4
    """Of the generators; rises over the first updates, falls to 0 along half a cosine. Discriminators have the same."""
    warm_up_updates: int = 2_000
    """First updates (part of `updates`), in which A -> B only learns to take the scanner's noise off planning CT: the
    backward cycle with an untrained B -> A, which is the identity. An eighth of the work, and a calmer start. Of a
    short training at most three quarters."""
    warm_up_learning_rate: float = 5e-4
    pool_images: int = 64
    ema_decay: float = 0.995
    """The shipped generator is the moving average of the trained one; this is kept of it with each update."""
    bf16: bool = False
    log_every: int = 50
    checkpoint_every: int = 500
    working_spacing_mm: float | None = None
    architecture: Architecture = field(default_factory=Architecture)
    losses: LossWeights = field(default_factory=LossWeights)

    @classmethod
    def of_method(cls, method: Method, modality: Modality = "mvct", **others: Any) -> "TrainingSettings":
        """The settings that each method did best with so far; `others` replace single ones.

        Supervised training knows where the noise is and needs no warm-up; it sees five slices, as the noise of
        neighbours differs and the anatomy hardly.
        """
        preset = cls(scans=Scans(modality))
        if method == "supervised":
            preset = replace(
                preset,
                updates=12_000,
                batch=8,
                warm_up_updates=0,
                learning_rate=6e-4,
                ema_decay=0.998,
                bf16=True,
                architecture=Architecture(channels=32, slices=5),
                losses=SUPERVISED,
            )
        return replace(preset, **others)

    @property
    def method(self) -> Method:
        """Supervised where no loss needs a second generator or a discriminator."""
        return "supervised" if self.losses.is_supervised() else "unpaired"

    def warm_up(self) -> int:
        """Number of updates that only take noise off."""
        return min(self.warm_up_updates, 3 * self.updates // 4)

    def sha256(self) -> str:
        """Digest of all settings; a checkpoint is continued only by the run that wrote it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
