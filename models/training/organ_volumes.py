"""Training volumes with their organs, in the orientation of `models.training.volumes`.

Organs lie beside the CT of the same `.npz` file, in one of two layouts:

- OpenKBP: `struct` [row, column, slice head to feet], a bit for each structure (Babier et al., Med Phys 2021,
  doi 10.1002/mp.14845); a structure without a voxel was not drawn;
- plain: `labels` [slice, row, column] and `organs`, the names of the labels 1, 2, ...; `mr` on the same grid, where
  there is one. An organ that is named was drawn, even if no voxel is of it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.intensity import Hu, Mask
from models.training.kept_pairs import volume_sha256
from models.training.volumes import TrainingDataError, TrainingVolume, openkbp_oriented, read_arrays, read_volume

HEAD_AND_NECK_ORGANS = (
    "Brainstem",
    "SpinalCord",
    "Parotid_R",
    "Parotid_L",
    "Esophagus",
    "Larynx",
    "Bone_Mandible",
)
"""TG-263 names of the organs of OpenKBP, in the order of their bits."""
PELVIS_ORGANS = ("Bladder", "Prostate", "SeminalVes", "Rectum")

_MOST_ORGANS = 255


@dataclass(frozen=True)
class OrganVolume:
    """One CT with what was drawn in it."""

    volume: TrainingVolume
    labels_zyx: NDArray[np.uint8]
    """0, or 1 + the number of the organ."""
    organs: tuple[str, ...]
    drawn: tuple[bool, ...]
    """Of each organ: whether it was drawn. One that was not may be there all the same."""
    mr_zyx: Hu | None = None
    """On the grid of the CT; no unit."""

    def masks(self) -> dict[str, Mask]:
        """Voxels of every organ that was drawn, by its name."""
        numbers = range(1, 1 + len(self.organs))
        named = zip(self.organs, self.drawn, numbers, strict=True)
        return {organ: np.asarray(self.labels_zyx == number) for organ, drawn, number in named if drawn}


def organ_volume(
    volume: TrainingVolume, masks: Mapping[str, Mask], organs: Sequence[str], mr_zyx: NDArray[Any] | None = None
) -> OrganVolume:
    """A volume with those of the organs that are among the masks; where two overlap, the smaller has the voxel.

    Raises
    ------
    TrainingDataError
        If masks or MR are not on the grid of the CT, or there are more than 255 organs.
    """
    shape = volume.hu_zyx.shape
    if len(organs) > _MOST_ORGANS:
        raise TrainingDataError(f"{len(organs)} organs are more than {_MOST_ORGANS}")
    if any(array.shape != shape for array in (*masks.values(), *([] if mr_zyx is None else [mr_zyx]))):
        raise TrainingDataError("organs or MR are not on the grid of the CT")
    labels = np.zeros(shape, np.uint8)
    for organ in sorted(set(organs) & set(masks), key=lambda name: -int(masks[name].sum())):
        labels[masks[organ]] = 1 + organs.index(organ)
    mr = None if mr_zyx is None else np.asarray(mr_zyx, np.float32)
    return OrganVolume(volume, labels, tuple(organs), tuple(organ in masks for organ in organs), mr)


def read_organ_volume(path: Path, organs: Sequence[str]) -> OrganVolume:
    """CT and organs of one `.npz` file, of either layout.

    Raises
    ------
    TrainingDataError
        If the file can not be read or has no volume, no organs, or organs on another grid.
    """
    return with_organs(read_volume(path), path, organs)


def with_organs(volume: TrainingVolume, path: Path, organs: Sequence[str]) -> OrganVolume:
    """A volume that was read from a `.npz` file, with the organs of that file; errors as of `read_organ_volume`."""
    content = read_arrays(path, ("struct", "labels", "organs", "mr"))
    if "struct" in content:
        return organ_volume(volume, _openkbp_masks(content["struct"]), organs)
    if "labels" in content and "organs" in content:
        return organ_volume(volume, _plain_masks(content["labels"], content["organs"]), organs, content.get("mr"))
    raise TrainingDataError(f"{path} has no organs (struct, or labels and organs)")


def organ_data_sha256(volumes: Sequence[OrganVolume]) -> str:
    """Digest of images and organs, in their order."""
    digest = hashlib.sha256()
    for one in volumes:
        digest.update(f"{volume_sha256(one.volume)} {one.organs} {one.drawn} {one.mr_zyx is None}".encode())
        digest.update(np.ascontiguousarray(one.labels_zyx).tobytes())
        digest.update(b"" if one.mr_zyx is None else np.ascontiguousarray(one.mr_zyx).tobytes())
    return digest.hexdigest()


def _openkbp_masks(struct: NDArray[Any]) -> dict[str, Mask]:
    bits = openkbp_oriented(struct)
    masks = {organ: np.asarray(bits >> bit & 1 == 1) for bit, organ in enumerate(HEAD_AND_NECK_ORGANS)}
    return {organ: mask for organ, mask in masks.items() if mask.any()}


def _plain_masks(labels: NDArray[Any], names: NDArray[Any]) -> dict[str, Mask]:
    return {str(name): np.asarray(labels == number) for number, name in enumerate(names.tolist(), start=1)}
