"""Fractions out of order, with records that say more or less about them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import RTBeamsTreatmentRecordStorage

from pipelines.base import InputRejected
from pipelines.fractions import Course, CoursePlan, course_of
from tests.dicom_files import ct_series, instance, write
from tests.pipelines.made import changed

DAYS = ("20250120", "20250127", "20250203", "20250210", "20250217")
PLAN = CoursePlan(fractions=25, images=5)


def image(folder: Path, day: str, time: str = "101500", **changes: Any) -> list[Path]:
    return write(ct_series(1, AcquisitionDate=day, AcquisitionTime=time, **changes), folder / f"{day}-{time}")


def record(folder: Path, day: str, number: int, patient_id: str = "MADE-1") -> Path:
    beam = changed(Dataset(), CurrentFractionNumber=number)
    made = instance(
        RTBeamsTreatmentRecordStorage,
        "RTRECORD",
        PatientID=patient_id,
        TreatmentDate=day,
        TreatmentSessionBeamSequence=[beam],
    )
    return write([made], folder / f"record-{day}-{number}")[0]


def course(folder: Path, days: Sequence[str], recorded: dict[str, int] | None = None) -> Course:
    images = [image(folder, day) for day in days]
    return course_of(images, [record(folder, day, number) for day, number in (recorded or {}).items()], PLAN)


def test_images_in_any_order_are_ordered_by_their_dates(tmp_path: Path) -> None:
    found = course(tmp_path, [DAYS[index] for index in (3, 0, 4, 2, 1)])
    assert [one.day.strftime("%Y%m%d") for one in found.fractions] == list(DAYS)
    assert [one.position for one in found.fractions] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert found.remarks == ()


def test_records_out_of_order_say_which_fractions_were_imaged(tmp_path: Path) -> None:
    numbers = {DAYS[4]: 25, DAYS[0]: 1, DAYS[3]: 19, DAYS[1]: 7, DAYS[2]: 13}
    found = course(tmp_path, DAYS[::-1], numbers)
    assert [one.number for one in found.fractions] == [1, 7, 13, 19, 25]
    assert [one.position for one in found.fractions] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert found.fractions[1].label == "fraction 7, 2025-01-27"


def test_a_fraction_without_image_is_said_and_the_others_keep_their_places(tmp_path: Path) -> None:
    numbers = dict(zip(DAYS, (1, 7, 13, 19, 25), strict=True))
    found = course(tmp_path, [DAYS[0], DAYS[1], DAYS[3], DAYS[4]], numbers)
    assert [one.position for one in found.fractions] == [0.0, 0.25, 0.75, 1.0]
    assert "1 of 5 recorded fractions have no image" in found.remarks


def test_a_week_without_image_is_said_where_there_are_no_records(tmp_path: Path) -> None:
    found = course(tmp_path, [DAYS[0], DAYS[1], DAYS[3], DAYS[4]])
    assert found.remarks == ("Between images 2 and 3 lie 14 days, where 7 are usual: one may be missing",)


def test_an_image_whose_record_has_not_come_yet_is_the_next_fraction(tmp_path: Path) -> None:
    found = course(tmp_path, DAYS[:2], {DAYS[0]: 1, "20250124": 5})
    assert [one.number for one in found.fractions] == [1, 6]
    assert "1 of 2 images have no treatment record of their day" in found.remarks


def test_numbers_that_start_anew_are_not_believed(tmp_path: Path) -> None:
    found = course(tmp_path, DAYS[:3], {DAYS[0]: 1, DAYS[1]: 7, DAYS[2]: 1})
    assert [one.number for one in found.fractions] == [1, 2, 3]
    assert "do not ascend" in found.remarks[0]


def test_of_two_images_of_one_day_the_later_counts_and_it_is_said(tmp_path: Path) -> None:
    images = [image(tmp_path, DAYS[0], "110000"), image(tmp_path, DAYS[0], "100000"), image(tmp_path, DAYS[1])]
    found = course_of(images, (), PLAN)
    assert [one.paths for one in found.fractions] == [tuple(images[0]), tuple(images[2])]
    assert found.remarks == ("Fraction 1 was imaged more than once; the last image counts",)


def test_fractions_of_two_patients_are_refused(tmp_path: Path) -> None:
    images = [image(tmp_path, DAYS[0]), image(tmp_path, DAYS[1], PatientID="MADE-2")]
    with pytest.raises(InputRejected, match="not of one patient"):
        course_of(images, (), PLAN)


def test_a_record_of_another_patient_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="not of one patient"):
        course_of([image(tmp_path, DAYS[0])], [record(tmp_path, DAYS[0], 1, "MADE-2")], PLAN)


def test_an_image_without_any_date_is_refused(tmp_path: Path) -> None:
    dateless = dict.fromkeys(("StudyDate", "ContentDate", "SeriesDate"))
    paths = write(ct_series(1, **dateless), tmp_path)
    with pytest.raises(InputRejected, match="does not say when it was made"):
        course_of([paths], (), PLAN)


def test_no_image_is_refused() -> None:
    with pytest.raises(InputRejected, match="no image of a fraction"):
        course_of([], (), PLAN)
