from dataclasses import replace
from pathlib import Path

import numpy as np

from models.training.kept_pairs import kept_pair, kept_pairs, read_pair
from models.training.pairs import Scans, simulated_pair
from models.training.progress import CountedProgress
from tests.models.training.test_enhancement import SPACING, patient


def test_a_pair_is_simulated_once(tmp_path: Path) -> None:
    first = kept_pair(patient(1, "train"), Scans(), 0, tmp_path)
    written = first.stat().st_mtime_ns
    assert kept_pair(patient(1, "train"), Scans(), 0, tmp_path).stat().st_mtime_ns == written
    assert kept_pair(patient(1, "train"), Scans(), 1, tmp_path) != first
    assert kept_pair(patient(1, "train"), Scans(noise_sd_hu=(1.0, 2.0)), 0, tmp_path) != first


def test_a_kept_pair_is_read_back_as_it_was_simulated(tmp_path: Path) -> None:
    made = simulated_pair(patient(1, "train"), Scans(), 0)
    read = read_pair(kept_pair(patient(1, "train"), Scans(), 0, tmp_path))
    assert (read.volume.patient_id, read.volume.spacing_zyx_mm) == ("phantom_1", SPACING)
    assert (read.volume.hu_zyx == made.volume.hu_zyx).all() and (read.body == made.body).all()
    assert (read.sparse_hu_zyx == made.sparse_hu_zyx).all() and (read.noise_zyx == made.noise_zyx).all()


def test_several_pairs_come_in_the_order_of_their_volumes(tmp_path: Path) -> None:
    told: list[float] = []
    wide = replace(patient(1, "train"), spacing_zyx_mm=(20.0, 6.0, 6.0))
    volumes = [wide, patient(2, "train")]
    paths = kept_pairs(
        volumes, Scans(), 0, tmp_path, CountedProgress(2, "simulating", lambda done, what: told.append(done))
    )
    assert [read_pair(path).volume.patient_id for path in paths] == ["phantom_1", "phantom_2"]
    assert told == [0.5, 1.0]


def test_what_was_half_written_is_made_anew(tmp_path: Path) -> None:
    path = kept_pair(patient(1, "train"), Scans(), 0, tmp_path)
    path.rename(path.with_suffix(".partial"))
    path.with_suffix(".partial").write_bytes(b"half")
    again = kept_pair(patient(1, "train"), Scans(), 0, tmp_path)
    assert again == path and np.isfinite(read_pair(again).sparse_hu_zyx).all()
