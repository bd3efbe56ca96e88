"""The simulated images of a study, made once and kept as files, so that every training of it sees the same ones.

A file is named by what it was made from: an interrupted study, or one with other sizes, finds it again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from models.intensity import body_mask
from models.training.pairs import Scans, SimulatedPair, simulated_pair, useful_slices
from models.training.volumes import TrainingVolume


@dataclass(frozen=True, order=True)
class SliceOf:
    """One training slice: file of its simulated pair, index in that pair, and whose it is."""

    pair: Path
    index: int
    patient: str


def seen_by_patient(volumes: Sequence[TrainingVolume]) -> Mapping[str, list[int]]:
    """Indices of the slices that show enough of the body, of each patient; a scanner may see fewer of them."""
    found: dict[str, list[int]] = {}
    for volume in volumes:
        slices = useful_slices(body_mask(volume.hu_zyx))
        found.setdefault(volume.patient_id, []).extend(int(index) for index in slices)
    return found


def slices_by_patient(pairs: Sequence[Path]) -> Mapping[str, list[SliceOf]]:
    """The slices of simulated pairs that a training may use, of each patient; a patient may have several pairs."""
    found: dict[str, list[SliceOf]] = {}
    for path in pairs:
        with np.load(path, allow_pickle=False) as arrays:
            patient = str(arrays["patient"])
            slices = [SliceOf(path, int(index), patient) for index in useful_slices(arrays["body"])]
        found.setdefault(patient, []).extend(slices)
    return found


def volume_sha256(volume: TrainingVolume) -> str:
    """Digest of patient, geometry and voxels."""
    facts = f"{volume.patient_id} {volume.spacing_zyx_mm} {volume.hu_zyx.shape} {volume.hu_zyx.dtype}"
    return hashlib.sha256(facts.encode() + np.ascontiguousarray(volume.hu_zyx).tobytes()).hexdigest()


def kept_pair(volume: TrainingVolume, scans: Scans, seed: int, folder: Path) -> Path:
    """File of the simulated pair of this volume; simulated now if it is not there."""
    identity = json.dumps([volume_sha256(volume), asdict(scans), seed], sort_keys=True)
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, simulated_pair(volume, scans, seed))
    return path


def kept_pairs(
    volumes: Sequence[TrainingVolume], scans: Scans, seed: int, folder: Path, done: Callable[[], None]
) -> list[Path]:
    """Files of the pairs of several volumes, in their order; `done` is called after each."""
    paths = []
    for volume in volumes:
        paths.append(kept_pair(volume, scans, seed, folder))
        done()
    return paths


def read_pair(path: Path) -> SimulatedPair:
    """A pair that `kept_pair` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        slice_mm, row_mm, column_mm = (float(mm) for mm in arrays["spacing_zyx_mm"])
        volume = TrainingVolume(str(arrays["patient"]), None, arrays["ct"], (slice_mm, row_mm, column_mm))
        return SimulatedPair(volume, arrays["sparse"], arrays["body"], arrays["noise"])


def middle_slices(pair: SimulatedPair, most: int) -> SimulatedPair:
    """At most so many neighbouring slices from the middle of the body: a registration in 3-D needs neighbours."""
    useful = pair.useful_slices()
    start = max(len(useful) - most, 0) // 2
    chosen = useful[start : start + most]
    volume = replace(pair.volume, hu_zyx=pair.volume.hu_zyx[chosen])
    return replace(pair, volume=volume, sparse_hu_zyx=pair.sparse_hu_zyx[chosen], body=pair.body[chosen])


def _write(path: Path, pair: SimulatedPair) -> None:
    """By renaming: a file with its final name is whole."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            patient=np.array(pair.volume.patient_id),
            ct=pair.volume.hu_zyx,
            sparse=pair.sparse_hu_zyx,
            body=pair.body,
            noise=pair.noise_zyx,
            spacing_zyx_mm=np.array(pair.volume.spacing_zyx_mm),
        )
    partial.replace(path)
