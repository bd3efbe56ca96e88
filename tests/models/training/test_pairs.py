from dataclasses import replace

import numpy as np
import pytest

from models.training.pairs import Scans, simulated_pair, useful_slices
from tests.models.training.test_enhancement import SPACING, patient


def test_the_scan_of_a_patient_depends_on_patient_and_seed_alone() -> None:
    first, again, other = (simulated_pair(patient(1, None), Scans(), seed) for seed in (0, 0, 1))
    assert np.array_equal(first.sparse_hu_zyx, again.sparse_hu_zyx)
    assert not np.array_equal(first.sparse_hu_zyx, other.sparse_hu_zyx)
    namesake = replace(patient(1, None), patient_id="another")
    assert not np.array_equal(simulated_pair(namesake, Scans(), 0).sparse_hu_zyx, first.sparse_hu_zyx)


def noise_hu(sd_hu: float) -> float:
    """SD of the difference of two scans of one patient."""
    first, second = (
        simulated_pair(patient(1, None), Scans(noise_sd_hu=(sd_hu, sd_hu)), seed).sparse_hu_zyx for seed in (0, 1)
    )
    return float((first - second).std()) / 2**0.5


def test_the_same_scan_with_other_noise_differs_by_noise_alone() -> None:
    scans = Scans(noise_sd_hu=(10.0, 60.0))
    first, other_noise = (simulated_pair(patient(1, None), scans, 3, noise_seed) for noise_seed in (None, 8))
    noise = (first.sparse_hu_zyx - other_noise.sparse_hu_zyx)[first.body]
    again = simulated_pair(patient(1, None), scans, 3, 9)
    repeated = (again.sparse_hu_zyx - other_noise.sparse_hu_zyx)[first.body]
    assert noise.std() > 5.0 and noise.std() == pytest.approx(repeated.std(), rel=0.05)
    assert abs(noise.mean()) < 0.05 * noise.std()


def test_noise_is_in_proportion_to_what_is_asked_for() -> None:
    assert noise_hu(40.0) / noise_hu(10.0) == pytest.approx(4.0, rel=0.15)


def test_the_noise_of_a_uniform_object_has_the_unit_of_sd() -> None:
    assert simulated_pair(patient(1, None), Scans(), 0).noise_zyx.std() == pytest.approx(1.0, abs=1e-3)


def test_slices_without_a_body_are_of_no_use() -> None:
    body = np.zeros((3, 20, 20), bool)
    body[1, 5:15, 5:15] = True
    assert useful_slices(body).tolist() == [1]


def test_a_cbct_pair_holds_what_the_cone_saw() -> None:
    pytest.importorskip("itk")
    pair = simulated_pair(patient(1, None), Scans("cbct", cbct_motion_share=1.0), 0)
    whole = patient(1, None)
    assert 0 < len(pair.body) <= len(whole.hu_zyx)
    assert pair.volume.hu_zyx.shape == pair.sparse_hu_zyx.shape == pair.body.shape
    assert pair.volume.spacing_zyx_mm == SPACING
    difference = np.abs(pair.sparse_hu_zyx - pair.volume.hu_zyx)[pair.body]
    assert 5.0 < float(np.median(difference)) < 300.0
