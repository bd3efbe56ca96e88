"""Small head-and-neck phantoms with their organs, and settings for a training of seconds."""

from functools import cache

import numpy as np

from models.phantoms import head_and_neck_phantom
from models.training.organ_volumes import OrganVolume, organ_volume
from models.training.segmentation_settings import SegmentationSettings
from models.training.volumes import Split, TrainingVolume

SPACING = (8.0, 8.0, 8.0)
ORGANS = ("Brain", "Mandible", "Parotid_L", "Parotid_R")
SETTINGS = SegmentationSettings(
    organs=ORGANS,
    updates=4,
    batch=2,
    patch_zyx=(16, 16, 16),
    spacing_zyx_mm=(10.0, 10.0, 10.0),
    log_every=1,
    checkpoint_every=2,
    validation_batches=2,
    channels=4,
    levels=3,
)


@cache
def patient(number: int, split: Split | None, has_mr: bool = False) -> OrganVolume:
    phantom = head_and_neck_phantom((30, 30, 30), SPACING, np.random.default_rng(number))
    volume = TrainingVolume(f"phantom_{number}", split, phantom.hu_zyx, SPACING)
    mr = np.where(phantom.masks["Brain"], 90.0, 30.0) if has_mr else None
    return organ_volume(volume, phantom.masks, ORGANS, mr)


def patients() -> list[OrganVolume]:
    return [patient(1, "train"), patient(2, "train"), patient(3, "validation"), patient(4, "test")]
