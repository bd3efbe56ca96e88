"""Which slices of the simulated images a study draws from, and which it judges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.intensity import body_mask
from models.training.pairs import SimulatedPair, useful_slices
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


def middle_slices(pair: SimulatedPair, most: int) -> SimulatedPair:
    """At most so many neighbouring slices from the middle of the body: a registration in 3-D needs neighbours."""
    useful = pair.useful_slices()
    start = max(len(useful) - most, 0) // 2
    chosen = useful[start : start + most]
    volume = replace(pair.volume, hu_zyx=pair.volume.hu_zyx[chosen])
    return replace(pair, volume=volume, sparse_hu_zyx=pair.sparse_hu_zyx[chosen], body=pair.body[chosen])
