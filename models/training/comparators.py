"""Classical filters tuned on training patients, so that a network is compared with the best that they can do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from models.denoising import HuCurve, bilateral, non_local_means, total_variation
from models.intensity import Hu
from models.training.pairs import Scans, SimulatedPair, simulated_pair
from models.training.volumes import TrainingVolume

Filter: TypeAlias = Callable[[Hu, float], Hu]
"""From HU [slice, row, column] and the pixel size in mm to HU."""

_TUNING_PATIENTS, _TUNING_SLICES = 8, 8

_BILATERAL = [(mm, hu) for mm in (2.0, 4.0, 6.0) for hu in (40.0, 80.0, 120.0, 180.0)]
_NON_LOCAL_MEANS_HU = (15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 50.0, 70.0)
_TOTAL_VARIATION_HU = (2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0)


@dataclass(frozen=True)
class Comparator:
    """A filter with the parameters that did best, and the HU curve fitted behind it."""

    parameters: str
    """In words, for the report."""
    filtered: Filter
    curve: HuCurve
    training_mae_hu: float

    def __call__(self, hu_zyx: Hu, pixel_mm: float) -> Hu:
        """Filter and convert a volume, HU [slice, row, column]."""
        return self.curve(self.filtered(hu_zyx, pixel_mm))


def tuned_comparators(pairs: Sequence[SimulatedPair]) -> Mapping[str, Comparator]:
    """By name: the HU curve alone, bilateral filter, non-local means and total variation.

    Of each, the parameters of a grid whose mean absolute error in the body, after a HU curve fitted to the output of
    that filter, is least over the pairs. Every pair counts by its voxels.

    Raises
    ------
    ValueError
        If no pair shows a body.
    """
    if not any(pair.body.any() for pair in pairs):
        raise ValueError("no training patient to tune on")
    return {name: _best(grid, pairs) for name, grid in _grids().items()}


def tuning_pairs(volumes: Sequence[TrainingVolume], scans: Scans, seed: int) -> list[SimulatedPair]:
    """Simulated pairs of a few evenly spread slices of a few evenly spread patients: enough for two parameters."""
    chosen = [volumes[int(i)] for i in _spread(len(volumes), _TUNING_PATIENTS)]
    if scans.modality == "mvct":
        return [simulated_pair(_some_slices(volume), scans, seed) for volume in chosen]
    # A cone beam sees all slices at once.
    return [_some_of_pair(simulated_pair(volume, scans, seed)) for volume in chosen]


def _grids() -> Mapping[str, Mapping[str, Filter]]:
    """By name and parameters in words."""
    return {
        "hu_curve": {"no filter": lambda hu, pixel_mm: hu},
        "bilateral": {f"{mm:g} mm, {sd:g} HU": _bilateral(mm, sd) for mm, sd in _BILATERAL},
        "non_local_means": {f"{strength:g} HU": _non_local_means(strength) for strength in _NON_LOCAL_MEANS_HU},
        "total_variation": {f"{weight:g} HU": _total_variation(weight) for weight in _TOTAL_VARIATION_HU},
    }


def _bilateral(sigma_mm: float, sigma_hu: float) -> Filter:
    return lambda hu, pixel_mm: bilateral(hu, pixel_mm, sigma_mm, sigma_hu)


def _non_local_means(strength_hu: float) -> Filter:
    return lambda hu, pixel_mm: non_local_means(hu, strength_hu)


def _total_variation(weight_hu: float) -> Filter:
    return lambda hu, pixel_mm: total_variation(hu, weight_hu)


def _best(grid: Mapping[str, Filter], pairs: Sequence[SimulatedPair]) -> Comparator:
    return min(_fitted(grid, pairs), key=lambda comparator: comparator.training_mae_hu)


def _fitted(grid: Mapping[str, Filter], pairs: Sequence[SimulatedPair]) -> Iterator[Comparator]:
    truth = np.concatenate([pair.volume.hu_zyx[pair.body] for pair in pairs])
    for parameters, filtered in grid.items():
        results = [filtered(pair.sparse_hu_zyx, pair.volume.spacing_zyx_mm[1])[pair.body] for pair in pairs]
        result = np.concatenate(results)
        curve = HuCurve.fitted(result, truth)
        yield Comparator(parameters, filtered, curve, float(np.abs(curve(result) - truth).mean()))


def _some_slices(volume: TrainingVolume) -> TrainingVolume:
    return replace(volume, hu_zyx=volume.hu_zyx[_spread(len(volume.hu_zyx), _TUNING_SLICES)])


def _some_of_pair(pair: SimulatedPair) -> SimulatedPair:
    chosen = _spread(len(pair.body), _TUNING_SLICES)
    return SimulatedPair(
        replace(pair.volume, hu_zyx=pair.volume.hu_zyx[chosen]),
        pair.sparse_hu_zyx[chosen],
        pair.body[chosen],
        pair.noise_zyx,
    )


def _spread(total: int, wanted: int) -> list[int]:
    """Indices spread evenly over `total`, none twice, the ends left out where there is room."""
    return sorted({int(i) for i in (np.arange(min(total, wanted)) + 0.5) * total / min(total, wanted)})
