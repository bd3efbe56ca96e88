"""Made-up patients of eight slices, and an untrained generator for them."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch

from models.cyclegan import Architecture, Generator
from models.phantoms import head_and_neck_phantom
from models.training.volumes import Split, TrainingVolume
from models.weights import save

SPACING = (12.0, 8.0, 8.0)
ARCHITECTURE = Architecture(channels=4, encoder_blocks=1, decoder_blocks=1)
DOMAIN = {
    "modality": "simulated MVCT",
    "pixel_spacing_mm": (8.0, 8.0),
    "slice_spacing_mm": (12.0, 12.0),
    "body_mean_hu": 0.0,
    "body_mean_sd_hu": 50.0,
    "patients": 10,
    "slices": 60,
}


@cache
def patient(number: int, split: Split) -> TrainingVolume:
    hu_zyx = head_and_neck_phantom((8, 40, 40), SPACING, np.random.default_rng(number)).hu_zyx
    return TrainingVolume(f"phantom_{number}", split, hu_zyx, SPACING)


def untrained(folder: Path, seed: int = 2) -> Path:
    torch.manual_seed(seed)
    path = folder / "tiny.safetensors"
    facts = {"method": "supervised", "architecture": asdict(ARCHITECTURE), "window_hu": (-800.0, 1200.0)}
    save(
        path,
        Generator.of(ARCHITECTURE).state_dict(),
        {**facts, "training_domain": DOMAIN},
        "# tiny\n\n## Data\n\nNone.\n",
    )
    return path
