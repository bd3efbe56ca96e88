from functools import cache

import numpy as np
import pytest

from models.intensity import body_mask
from models.training import comparators
from models.training.comparators import tuned_comparators, tuning_pairs
from models.training.pairs import Scans, SimulatedPair
from models.training.volumes import TrainingVolume
from tests.models.training.test_enhancement import patient

SPACING = (5.0, 4.0, 4.0)


@cache
def noisy_pair(sd: float, seed: int = 0) -> SimulatedPair:
    """Two tissues in air; the scanner halves every HU below bone and adds white noise."""
    row, column = np.indices((48, 48)) - 23.5
    plane = np.select([np.hypot(row, column) < 10.0, np.hypot(row, column) < 20.0], [60.0, -100.0], -1000.0)
    truth = np.repeat(plane[None], 2, axis=0).astype(np.float32)
    scanned = np.where(truth > -500.0, 0.5 * truth, truth)
    noise = np.random.default_rng(seed).normal(0.0, sd, truth.shape)
    volume = TrainingVolume(str(seed), "train", truth, SPACING)
    return SimulatedPair(
        volume, (scanned + noise).astype(np.float32), body_mask(truth), np.zeros((1, 48, 48), np.float32)
    )


def error_hu(pair: SimulatedPair, name: str) -> float:
    made = tuned_comparators([noisy_pair(20.0)])[name](pair.sparse_hu_zyx, SPACING[1])
    return float(np.abs(made - pair.volume.hu_zyx)[pair.body].mean())


def test_every_filter_beats_the_curve_alone_on_an_unseen_patient() -> None:
    unseen = noisy_pair(20.0, seed=7)
    alone = error_hu(unseen, "hu_curve")
    assert alone < float(np.abs(unseen.sparse_hu_zyx - unseen.volume.hu_zyx)[unseen.body].mean())
    for name in ("bilateral", "non_local_means", "total_variation"):
        assert error_hu(unseen, name) < 0.7 * alone, name


def test_more_noise_asks_for_stronger_filters() -> None:
    weak, strong = (tuned_comparators([noisy_pair(sd)])["total_variation"] for sd in (5.0, 40.0))
    assert float(weak.parameters.split()[0]) < float(strong.parameters.split()[0])


def test_the_parameters_with_the_least_error_are_taken() -> None:
    pairs = [noisy_pair(20.0)]
    tuned = tuned_comparators(pairs)
    for name, grid in comparators._grids().items():
        assert tuned[name].training_mae_hu == min(each.training_mae_hu for each in comparators._fitted(grid, pairs))


def test_tuning_takes_a_few_slices_of_a_few_patients() -> None:
    volumes = [patient(number % 3, "train") for number in range(20)]
    pairs = tuning_pairs(volumes, Scans(noise_sd_hu=(25.0, 45.0)), 0)
    assert len(pairs) == 8 and all(len(pair.sparse_hu_zyx) <= 8 for pair in pairs)


def test_nothing_to_tune_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no training patient"):
        tuned_comparators([])
