"""New objects of organs are read again: what they hold against what was to be written."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.segmentation import segmentation
from pipelines.dicom.structure_set_writing import organ_structure_set
from pipelines.organ_reading_back import read_back_findings
from pipelines.stability import Finding, Verdict
from tests.pipelines.organs_made import ORIGIN, ball, images, organ_masks

Masks = dict[str, NDArray[np.bool_]]


def objects(series: ImageSeries, masks: Masks) -> list[Dataset]:
    return [write(series, masks, ORIGIN, "Organs").dataset for write in (segmentation, organ_structure_set)]


def read_back(series: ImageSeries, wanted: Masks, written: Masks) -> list[Finding]:
    return list(read_back_findings(series, wanted, objects(series, written)))


def test_objects_as_they_should_be_differ_in_nothing(tmp_path: Path) -> None:
    series = images(tmp_path, "FFP")
    found = read_back(series, organ_masks(), organ_masks())
    assert [(one.name, one.value, one.unit, one.verdict) for one in found] == [
        ("segmentation_difference_percent", 0.0, "%", Verdict.RELEASE),
        ("rt_structure_set_difference_percent", 0.0, "%", Verdict.RELEASE),
    ]


@pytest.mark.parametrize(("voxels", "verdict"), [(1, Verdict.FLAG), (12, Verdict.HOLD)])
def test_voxels_too_many_or_too_few_are_told_in_percent_of_the_organ(
    tmp_path: Path, voxels: int, verdict: Verdict
) -> None:
    wanted = ball()
    written = wanted.copy()
    places = np.argwhere(wanted)[:voxels]
    written[tuple(places.T)] = False
    for found in read_back(images(tmp_path), {"Bladder": wanted}, {"Bladder": written}):
        assert found.value == pytest.approx(100.0 * voxels / wanted.sum())
        assert found.verdict is verdict
    for found in read_back(images(tmp_path), {"Bladder": written}, {"Bladder": wanted}):
        assert found.value == pytest.approx(100.0 * voxels / written.sum())


def test_the_worst_organ_counts(tmp_path: Path) -> None:
    small = ball(radius=2.0)
    larger = ball(radius=3.0) | small
    for found in read_back(
        images(tmp_path), {"Bladder": ball(), "Rectum": small}, {"Bladder": ball(), "Rectum": larger}
    ):
        assert found.value == pytest.approx(100.0 * (larger.sum() - small.sum()) / small.sum())


def test_an_organ_that_is_absent_or_was_never_found_is_a_whole_difference(tmp_path: Path) -> None:
    series, both = images(tmp_path), {"Bladder": ball(radius=3.0), "Rectum": ball((2, 3, 3), 3.0)}
    one = {"Bladder": both["Bladder"]}
    for wanted, written in ((both, one), (one, both)):
        assert {found.value for found in read_back(series, wanted, written)} == {100.0}


def test_organs_exchanged_are_a_whole_difference_or_more(tmp_path: Path) -> None:
    left, right = ball((2, 8, 4), 3.0), ball((2, 8, 14), 3.0)
    exchanged = read_back(
        images(tmp_path), {"Parotid_L": left, "Parotid_R": right}, {"Parotid_L": right, "Parotid_R": left}
    )
    assert {found.verdict for found in exchanged} == {Verdict.HOLD}
    assert min(found.value for found in exchanged) > 100.0


def test_names_that_are_written_as_the_standard_has_them_are_the_same_organs(tmp_path: Path) -> None:
    masks = {"PAROTID_L": ball(), "Loop 7 ": ~ball()}
    assert {found.value for found in read_back(images(tmp_path), masks, masks)} == {0.0}
