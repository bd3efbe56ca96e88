"""When a series was acquired: which element counts, and what is no date."""

from datetime import datetime
from typing import Any

import pytest
from pydicom import Dataset

from pipelines.dicom.acquisition_moment import acquisition_moment
from tests.pipelines.made import changed

STUDY = {"StudyDate": "20250101", "StudyTime": "080000"}


def header(**elements: Any) -> Dataset:
    return changed(Dataset(), **elements)


def test_the_acquisition_counts_before_all_that_was_written_later() -> None:
    stated = header(AcquisitionDate="20250120", AcquisitionTime="093015.25", ContentDate="20250121", **STUDY)
    assert acquisition_moment([stated]) == datetime(2025, 1, 20, 9, 30, 15, 250000)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        (
            {"AcquisitionDateTime": "20250120093015.5+0900", "AcquisitionDate": "20240101"},
            (2025, 1, 20, 9, 30, 15, 500000),
        ),
        ({"AcquisitionDateTime": "202501200930"}, (2025, 1, 20, 9, 30)),
        ({"AcquisitionDate": "20250120"}, (2025, 1, 20)),
        ({"TreatmentDate": "20250120", "TreatmentTime": "10", "ContentDate": "20250121"}, (2025, 1, 20, 10)),
        ({"ContentDate": "20250120", "ContentTime": "1001"}, (2025, 1, 20, 10, 1)),
        ({"StructureSetDate": "20250120", "StructureSetTime": "100102"}, (2025, 1, 20, 10, 1, 2)),
        ({"SeriesDate": "2025.01.20", "SeriesTime": "10:01:02"}, (2025, 1, 20, 10, 1, 2)),
        ({}, (2025, 1, 1, 8)),
        ({"AcquisitionDate": "", "ContentDate": "20251301"}, (2025, 1, 1, 8)),
        ({"AcquisitionDate": "20250120", "AcquisitionTime": "235960"}, (2025, 1, 20, 23, 59, 59)),
        ({"AcquisitionDate": "20250120", "AcquisitionTime": "noon"}, (2025, 1, 20)),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of values that break their VR
def test_the_first_kind_of_moment_that_is_stated_counts(elements: dict[str, str], expected: tuple[int, ...]) -> None:
    assert acquisition_moment([header(**(STUDY | elements))]) == datetime(*expected)  # type: ignore[arg-type]


def test_the_earliest_of_the_instances_counts() -> None:
    times = ("101500", "101000", "")
    stated = [header(AcquisitionDate="20250120" if time else "", AcquisitionTime=time, **STUDY) for time in times]
    assert acquisition_moment(stated) == datetime(2025, 1, 20, 10, 10)


@pytest.mark.parametrize("headers", [[], [header()], [header(StudyTime="101112"), header(StudyDate="")]])
def test_nothing_stated_is_no_moment(headers: list[Dataset]) -> None:
    assert acquisition_moment(headers) is None
