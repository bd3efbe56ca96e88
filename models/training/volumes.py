"""Training volumes from `.npz` files, in one orientation: slices towards the head, rows to posterior, columns to left.

Two layouts are read, told apart by their arrays:

- OpenKBP: `ct` [row, column, slice head to feet], HU + 1024 with 0 outside the scan, and `voxel_mm` in that order
  (Babier et al., Med Phys 2021, doi 10.1002/mp.14845);
- plain: `ct` [slice, row, column] in HU, and `spacing_zyx`.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.intensity import AIR_HU, Hu

Split: TypeAlias = Literal["train", "validation", "test"]
Domain: TypeAlias = Literal["planning_ct", "mvct", "cbct"]

_OPENKBP_OFFSET_HU = 1024
_OPENKBP_LAST_TRAIN, _OPENKBP_LAST_VALIDATION = 200, 240
"""The challenge numbered its patients by split: pt_1 to 200, 201 to 240, 241 to 340."""


class TrainingDataError(Exception):
    """The data do not suffice, or are not what they should be; the message is one plain sentence."""


@dataclass(frozen=True)
class TrainingVolume:
    """One CT volume of one patient."""

    patient_id: str
    """The same for all volumes of a patient, whatever files they come from."""
    split: Split | None
    """None where a file does not say; whoever reads a folder decides it there, else the volume is used for training."""
    hu_zyx: Hu
    spacing_zyx_mm: tuple[float, float, float]
    domain: Domain = "planning_ct"
    """What took the image; MVCT and CBCT are real ones, not simulated."""
    source: str = ""
    """Path of the `.npz` file or Series Instance UID that it was read from; empty where it was made."""


def read_volume(path: Path) -> TrainingVolume:
    """The planning CT of one `.npz` file, of either layout; the patient is named by the file.

    Raises
    ------
    TrainingDataError
        If the file can not be read, has neither layout, or its image or spacing can not be one.
    """
    content = read_arrays(path, ("ct", "voxel_mm", "spacing_zyx"))
    if "ct" in content and "voxel_mm" in content:
        _check(path, content["ct"], content["voxel_mm"])
        return replace(_openkbp(path.stem, content["ct"], content["voxel_mm"]), source=str(path))
    if "ct" in content and "spacing_zyx" in content:
        _check(path, content["ct"], content["spacing_zyx"])
        return replace(_plain(path.stem, content["ct"], content["spacing_zyx"]), source=str(path))
    raise TrainingDataError(f"{path} has not the arrays of a training volume (ct, and voxel_mm or spacing_zyx)")


def of_split(volumes: Sequence[TrainingVolume], split: Split) -> list[TrainingVolume]:
    """Volumes of one split; those without a split count as training."""
    return [volume for volume in volumes if (volume.split or "train") == split]


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Those of the named arrays that the `.npz` file has.

    Raises
    ------
    TrainingDataError
        If the file can not be read.
    """
    try:
        # Opened here: of an archive that is broken numpy leaves the file open.
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            found = arrays if isinstance(arrays, np.lib.npyio.NpzFile) else {}
            return {name: found[name] for name in names if name in found}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TrainingDataError(f"{path} can not be read: {error}") from error


def openkbp_oriented(stored: NDArray[Any]) -> NDArray[Any]:
    """[row, column, slice down] -> [slice up, row, column]; a wrong slice direction would mirror the patient."""
    return stored.transpose(2, 0, 1)[::-1]


def _check(path: Path, ct: NDArray[Any], spacing_mm: NDArray[Any]) -> None:
    if not all(np.issubdtype(array.dtype, np.number) for array in (ct, spacing_mm)):
        raise TrainingDataError(f"{path}: CT and spacing have to be numbers")
    if ct.ndim != 3 or not ct.size:
        raise TrainingDataError(f"{path}: the CT has the shape {ct.shape}, which is no volume")
    if not np.isfinite(ct).all():
        raise TrainingDataError(f"{path}: the CT has values that are not finite")
    if spacing_mm.shape != (3,) or not np.isfinite(spacing_mm).all() or (spacing_mm <= 0).any():
        raise TrainingDataError(f"{path}: the spacing {spacing_mm.tolist()} is not three positive numbers of mm")


def _openkbp(patient_id: str, ct: NDArray[np.int16], voxel_mm: NDArray[np.float32]) -> TrainingVolume:
    hu = openkbp_oriented(ct).astype(np.float32) - _OPENKBP_OFFSET_HU
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
