"""What can be told about training data before anything is computed: whether they suffice."""

from collections.abc import Sequence

from models.training.study_data import seen_by_patient
from models.training.subsets import check_sizes
from models.training.volumes import Domain, TrainingDataError, TrainingVolume, of_split

_NAMES: dict[Domain, str] = {"planning_ct": "planning CT", "mvct": "MVCT", "cbct": "CBCT"}


def check_training_data(
    volumes: Sequence[TrainingVolume], batch: int, slices: int | None = None, crop_pixels: int = 1
) -> None:
    """Refuse data that no unpaired training can start on; only the training split is looked at.

    Every domain that occurs has to fill a batch, so `volumes` are those that the training is going to use. Spacings
    may differ from patient to patient: each slice is converted at its own.

    Parameters
    ----------
    batch
        Slices of one domain in an update.
    slices
        Most slices of each domain that are used; None takes all.
    crop_pixels
        Rows and columns that each slice has to have.

    Raises
    ------
    TrainingDataError
        If there is no training volume, no planning CT, one patient only, a domain with fewer slices than a batch or
        than `slices`, or a slice that is smaller than the crop.
    """
    training = of_split(volumes, "train")
    if not training:
        raise TrainingDataError("there is no training volume")
    if not any(volume.domain == "planning_ct" for volume in training):
        raise TrainingDataError("there is no planning CT among the training volumes")
    if len({volume.patient_id for volume in training}) < 2:
        raise TrainingDataError("unpaired training needs at least two patients, and there is one")
    if slices is not None and slices < batch:
        raise TrainingDataError(f"{slices} slices of each domain are fewer than a batch of {batch}")
    for domain, name in _NAMES.items():
        found = sum(len(volume.hu_zyx) for volume in training if volume.domain == domain)
        if 0 < found < batch:
            raise TrainingDataError(f"{found} training slices of {name} are fewer than a batch of {batch}")
        if slices is not None and found:
            check_sizes(seen_by_patient([volume for volume in training if volume.domain == domain]), [slices])
    smallest = min(min(volume.hu_zyx.shape[1:]) for volume in training)
    if smallest < crop_pixels:
        raise TrainingDataError(f"a slice of {smallest} pixels is smaller than the crop of {crop_pixels} pixels")
