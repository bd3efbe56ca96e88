"""Training volumes from folders of `.npz` or DICOM files."""

import logging
from pathlib import Path

import numpy as np
import pytest

from pipelines.base import PipelineError
from pipelines.training_data import training_volumes
from tests.pipelines.made import ct_series, oriented_series, ramp, write


def patients(folder: Path, count: int) -> None:
    for number in range(count):
        below = folder / str(number)
        below.mkdir()
        write(ct_series(PatientID=f"SECRET-{number}", SeriesInstanceUID=f"1.2.{number}"), below)


def test_dicom_patients_are_split_and_not_named(tmp_path: Path) -> None:
    patients(tmp_path, 4)
    volumes = training_volumes(tmp_path)
    assert sorted(str(volume.split) for volume in volumes) == ["test", "train", "train", "validation"]
    assert len({volume.patient_id for volume in volumes}) == 4
    assert not any("SECRET" in volume.patient_id for volume in volumes)
    assert volumes == volumes


def test_two_patients_are_too_few_to_hold_one_out(tmp_path: Path) -> None:
    patients(tmp_path, 2)
    assert {volume.split for volume in training_volumes(tmp_path)} == {"train"}


def test_a_prone_series_is_turned_and_its_spacing_with_it(tmp_path: Path) -> None:
    write(oriented_series(ramp(), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (0, 0, 0)), tmp_path)
    (volume,) = training_volumes(tmp_path)
    assert volume.hu_zyx.shape == (16, 20, 5)
    assert volume.spacing_zyx_mm == pytest.approx((2.0, 1.5, 3.0))


def test_a_series_with_a_gap_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    patients(tmp_path, 1)
    (tmp_path / "gap").mkdir()
    series = ct_series(SeriesInstanceUID="1.9")
    write(series[:2] + series[3:], tmp_path / "gap")
    (tmp_path / "notes.txt").write_text("no image")
    with caplog.at_level(logging.WARNING):
        assert len(training_volumes(tmp_path)) == 1
    (record,) = caplog.records
    assert record.__dict__["reason"].startswith("1 slice is missing")


def test_npz_volumes_are_taken_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", ct=ramp(), spacing_zyx=np.array([3.0, 2.0, 2.0]))
    (volume,) = training_volumes(tmp_path)
    assert np.array_equal(volume.hu_zyx, ramp())


@pytest.mark.parametrize("name", ["broken.npz", "none.txt"])
def test_a_folder_without_a_volume_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(PipelineError):
        training_volumes(tmp_path)
