"""Simulated pairs kept as files: made once, the same for every training that reads them.

A file is named by what it was made from, so that work that was interrupted, or that asks for more, finds it again.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from models.training.pairs import Scans, SimulatedPair, simulated_pair
from models.training.volumes import TrainingVolume


def volume_sha256(volume: TrainingVolume) -> str:
    """Digest of patient, geometry and voxels."""
    facts = f"{volume.patient_id} {volume.spacing_zyx_mm} {volume.hu_zyx.shape} {volume.hu_zyx.dtype}"
    return hashlib.sha256(facts.encode() + np.ascontiguousarray(volume.hu_zyx).tobytes()).hexdigest()


def data_sha256(volumes: Sequence[TrainingVolume]) -> str:
    """Digest of all volumes, in their order."""
    return hashlib.sha256(" ".join(volume_sha256(volume) for volume in volumes).encode()).hexdigest()


def kept_pair(
    volume: TrainingVolume, scans: Scans, seed: int, folder: Path, noise_seed: int | None = None
) -> Path:  # fmt: skip
    """File of the simulated pair of this volume; simulated now if it is not there; seeds as in `simulated_pair`.

    Raises
    ------
    models.cone_beam.ConeBeamUnavailable
        If a CBCT has to be simulated and the library for cone-beam geometry is not installed.
    """
    seeds = [seed] if noise_seed is None else [seed, noise_seed]
    identity = json.dumps([volume_sha256(volume), asdict(scans), *seeds], sort_keys=True)
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, simulated_pair(volume, scans, seed, noise_seed))
    return path


def kept_pairs(
    volumes: Sequence[TrainingVolume],
    scans: Scans,
    seed: int,
    folder: Path,
    done: Callable[[], None],
    noise_seed: int | None = None,
) -> list[Path]:
    """Files of the pairs of several volumes, in their order; `done` is called after each; errors as `kept_pair`."""
    paths: dict[int, Path] = {}
    # By geometry in the slice: the projection matrix of the last one is kept.
    for number in sorted(range(len(volumes)), key=lambda n: _in_plane(volumes[n])):
        paths[number] = kept_pair(volumes[number], scans, seed, folder, noise_seed)
        done()
    return [paths[number] for number in range(len(volumes))]


def read_pair(path: Path) -> SimulatedPair:
    """A pair that `kept_pair` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        slice_mm, row_mm, column_mm = (float(mm) for mm in arrays["spacing_zyx_mm"])
        volume = TrainingVolume(str(arrays["patient"]), None, arrays["ct"], (slice_mm, row_mm, column_mm))
        return SimulatedPair(volume, arrays["sparse"], arrays["body"], arrays["noise"])


def _in_plane(volume: TrainingVolume) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return volume.hu_zyx.shape[1:], volume.spacing_zyx_mm[1:]


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
