"""The datasets that would leave the node against their source: any difference of person or place holds."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

from pipelines.copy_series import CopySeries
from pipelines.dicom.image_series import read_image_series
from pipelines.integrity import integrity_findings
from pipelines.stability import Verdict, verdict_of
from tests.pipelines.conftest import inputs
from tests.pipelines.made import ct_series, write


def set_in_all(keyword: str, value: object) -> Callable[[list[Dataset]], list[Dataset]]:
    def change(series: list[Dataset]) -> list[Dataset]:
        for dataset in series:
            setattr(dataset, keyword, value)
        return series

    return change


def shifted(series: list[Dataset]) -> list[Dataset]:
    for dataset in series:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 1]
    return series


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (set_in_all("PatientID", "OTHER"), "identity_differences"),
        (set_in_all("FrameOfReferenceUID", "1.2.3"), "identity_differences"),
        (set_in_all("PixelSpacing", [2, 2]), "geometry_differences"),
        (set_in_all("PixelSpacing", None), "geometry_differences"),
        (set_in_all("ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]), "geometry_differences"),
        (shifted, "geometry_differences"),
        (lambda series: series[:-1], "geometry_differences"),
        (lambda series: [series[0], *series[2:]], "geometry_differences"),
    ],
)
def test_a_difference_holds(tmp_path: Path, spoil: Callable[[list[Dataset]], list[Dataset]], name: str) -> None:
    paths = write(ct_series(), tmp_path)
    source = read_image_series(paths)
    series = list(CopySeries(name="copy").run(inputs(paths)).series[0])
    assert verdict_of(integrity_findings(source, series)) is Verdict.RELEASE
    held = [finding.name for finding in integrity_findings(source, spoil(series)) if finding.verdict is Verdict.HOLD]
    assert held == [name]


def test_a_finding_names_the_element_and_not_the_patient(tmp_path: Path) -> None:
    paths = write(ct_series(), tmp_path)
    series = set_in_all("PatientID", "SECRET")(list(CopySeries(name="copy").run(inputs(paths)).series[0]))
    text = " ".join(finding.text for finding in integrity_findings(read_image_series(paths), series))
    assert "PatientID" in text
    assert "SECRET" not in text
    assert "RAMP" not in text
