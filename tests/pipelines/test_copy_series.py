"""The template pipeline: it copies, and proves it."""

from pathlib import Path

import numpy as np
from pydicom import dcmread

from pipelines.base import Outcome
from pipelines.copy_series import CopySeries
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.writing import file_bytes
from pipelines.stability import Verdict, verdict_of
from tests.pipelines.conftest import inputs
from tests.pipelines.made import ct_series, ramp, write


def copied(folder: Path) -> tuple[list[Path], Outcome]:
    paths = write(ct_series(), folder)
    return paths, CopySeries(name="copy_series").run(inputs(paths))


def test_a_copy_has_the_same_hu_and_other_uids(tmp_path: Path) -> None:
    sources, outcome = copied(tmp_path)
    paths = [tmp_path / f"copy{index}.dcm" for index in range(5)]
    for path, dataset in zip(paths, outcome.series[0], strict=True):
        path.write_bytes(file_bytes(dataset))
    assert np.array_equal(read_image_series(paths).volume.array_zyx, ramp())
    old, new = ({dcmread(path).SOPInstanceUID for path in files} for files in (sources, paths))
    assert len(new) == 5
    assert not old & new


def test_a_copy_is_released(tmp_path: Path) -> None:
    _, outcome = copied(tmp_path)
    assert verdict_of(outcome.findings) is Verdict.RELEASE
    names = [finding.name for finding in outcome.findings]
    assert names == ["identity_differences", "geometry_differences", "largest_change_hu"]


def test_a_copy_reports_its_progress(tmp_path: Path) -> None:
    said: list[float] = []
    CopySeries(name="copy_series").run(inputs(write(ct_series(), tmp_path)), lambda done, _: said.append(done))
    assert said == sorted(said)
    assert said[-1] == 1.0
