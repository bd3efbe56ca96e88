"""Training volumes from `.npz` files, in one orientation: slices towards the head, rows to posterior, columns to left.

Two layouts are read, told apart by their arrays:

- OpenKBP: `ct` [row, column, slice head to feet], HU + 1024 with 0 outside the scan, and `voxel_mm` in that order
  (Babier et al., Med Phys 2021, doi 10.1002/mp.14845);
- plain: `ct` [slice, row, column] in HU, and `spacing_zyx`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.intensity import AIR_HU, Hu

Split: TypeAlias = Literal["train", "validation", "test"]

_OPENKBP_OFFSET_HU = 1024
_OPENKBP_LAST_TRAIN, _OPENKBP_LAST_VALIDATION = 200, 240
"""The challenge numbered its patients by split: pt_1 to 200, 201 to 240, 241 to 340."""


class TrainingDataError(Exception):
    """The data do not suffice, or are not what they should be; the message is one plain sentence."""


@dataclass(frozen=True)
class TrainingVolume:
    """One CT volume of one patient."""

    patient_id: str
    split: Split | None
    """None where the data set does not say; such a volume is used for training."""
    hu_zyx: Hu
    spacing_zyx_mm: tuple[float, float, float]


def read_volumes(folder: Path) -> list[TrainingVolume]:
    """All `.npz` volumes below the folder, by file name.

    Raises
    ------
    TrainingDataError
        If there is none, or a file has neither layout.
    """
    paths = sorted(folder.rglob("*.npz"))
    if not paths:
        raise TrainingDataError(f"{folder} has no .npz volume")
    return [read_volume(path) for path in paths]


def read_volume(path: Path) -> TrainingVolume:
    """One volume; layouts and errors as in `read_volumes`."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in ("ct", "voxel_mm", "spacing_zyx") if name in arrays.files}
    except (OSError, ValueError, EOFError) as error:
        raise TrainingDataError(f"{path} can not be read: {error}") from error
    if "ct" in content and "voxel_mm" in content:
        return _openkbp(path.stem, content["ct"], content["voxel_mm"])
    if "ct" in content and "spacing_zyx" in content:
        return _plain(path.stem, content["ct"], content["spacing_zyx"])
    raise TrainingDataError(f"{path} has not the arrays of a training volume (ct, and voxel_mm or spacing_zyx)")


def of_split(volumes: Sequence[TrainingVolume], split: Split) -> list[TrainingVolume]:
    """Volumes of one split; those without a split count as training."""
    return [volume for volume in volumes if (volume.split or "train") == split]


def _openkbp(patient_id: str, ct: NDArray[np.int16], voxel_mm: NDArray[np.float32]) -> TrainingVolume:
    # [row, column, slice down] -> [slice up, row, column]; a wrong slice direction would mirror the patient.
    hu = ct.transpose(2, 0, 1)[::-1].astype(np.float32) - _OPENKBP_OFFSET_HU
    row_mm, column_mm, slice_mm = (float(mm) for mm in voxel_mm)
    return TrainingVolume(patient_id, _openkbp_split(patient_id), _floored(hu), (slice_mm, row_mm, column_mm))


def _openkbp_split(patient_id: str) -> Split | None:
    number = patient_id.removeprefix("pt_")
    if not number.isdigit():
        return None
    if int(number) <= _OPENKBP_LAST_TRAIN:
        return "train"
    return "validation" if int(number) <= _OPENKBP_LAST_VALIDATION else "test"


def _plain(patient_id: str, ct: NDArray[np.int16], spacing_zyx: NDArray[np.float32]) -> TrainingVolume:
    slice_mm, row_mm, column_mm = (float(mm) for mm in spacing_zyx)
    return TrainingVolume(patient_id, None, _floored(ct.astype(np.float32)), (slice_mm, row_mm, column_mm))


def _floored(hu: NDArray[np.float32]) -> Hu:
    """Padding below air becomes air."""
    return np.ascontiguousarray(np.maximum(hu, AIR_HU), np.float32)
