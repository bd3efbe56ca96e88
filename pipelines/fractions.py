"""The fractions of a course of treatment, from the images that were made before them and the treatment records."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict, Field
from pydicom import Dataset

from models.delta_features import course_position
from pipelines.base import InputRejected
from pipelines.dicom.elements import text
from pipelines.dicom.reading import read_instance
from pipelines.dicom.treatment_record import TreatmentRecord, dicom_date, usable_records

EVENTS = ("Acquisition", "Content", "Series", "Study")
"""Whose date and time say when an image was made: the first of these that the header has."""
LONG_GAP = 1.8
"""So many times the usual number of days between two images, and one is said to be missing."""


class CoursePlan(BaseModel):
    """How long a course is meant to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fractions: int = Field(default=25, ge=2)
    """Of a whole course; a treatment record that says another number goes before it."""
    images: int = Field(default=5, ge=2)
    """Of a whole course, the first and the last fraction among them; used where no treatment record is there."""


@dataclass(frozen=True)
class Fraction:
    """One fraction with its image."""

    number: int
    """Current Fraction Number where a record states it; else the place among the images."""
    position: float
    """0 at the first fraction, 1 at the last planned one."""
    day: date
    paths: tuple[Path, ...]
    """Of the image series."""

    @property
    def label(self) -> str:
        """What a person calls it: `fraction 3, 2025-01-20`."""
        return f"fraction {self.number}, {self.day.isoformat()}"


@dataclass(frozen=True)
class Course:
    """What was imaged so far."""

    fractions: tuple[Fraction, ...]
    """In the order in which they were given."""
    remarks: tuple[str, ...]
    """A sentence for whatever is missing, was there twice or had to be guessed."""


def course_of(series: Iterable[Sequence[Path]], records: Iterable[Path], plan: CoursePlan) -> Course:
    """Order the images of a course.

    Images are ordered by date and time. A record of the same day says which fraction it was; an image without one is
    the fraction behind the last that was recorded before. Without any record the images are counted. Of two images of
    one day the later one counts.

    Parameters
    ----------
    series
        The files of each image series, in any order.
    records
        RT Treatment Records; what can not be read as one is passed over.
    plan
        How long the course is meant to be.

    Raises
    ------
    InputRejected
        If there is no image, one can not be read or does not say when it was made, or they are of several patients.
    """
    images = sorted((_image(paths) for paths in series), key=lambda one: (one.day, one.time, one.uid))
    if not images:
        raise InputRejected("There is no image of a fraction")
    known = usable_records(records)
    _check_one_patient(images, known)
    kept, twice = _last_of_each_day(images)
    numbers, planned, said = _numbers(kept, known, plan)
    fractions = tuple(
        Fraction(number, course_position(number, planned), one.day, one.paths)
        for number, one in zip(numbers, kept, strict=True)
    )
    repeated = [f"Fraction {numbers[index]} was imaged more than once; the last image counts" for index in twice]
    return Course(fractions, (*repeated, *said, *_unimaged(numbers, known), *_gaps(kept)))


@dataclass(frozen=True)
class _Image:
    patient: tuple[str, str]
    day: date
    time: str
    uid: str
    paths: tuple[Path, ...]


def _image(paths: Sequence[Path]) -> _Image:
    if not paths:
        raise InputRejected("A series has no image")
    elements = [f"{event}{what}" for event in EVENTS for what in ("Date", "Time")]
    header = read_instance(
        min(paths), ("SOPClassUID", "SeriesInstanceUID", "PatientID", "IssuerOfPatientID", *elements)
    )
    day, time = _made(header)
    who = (text(header, "PatientID"), text(header, "IssuerOfPatientID"))
    return _Image(who, day, time, text(header, "SeriesInstanceUID"), tuple(paths))


def _made(header: Dataset) -> tuple[date, str]:
    for event in EVENTS:
        day = dicom_date(text(header, f"{event}Date"))
        if day is not None:
            return day, text(header, f"{event}Time")
    raise InputRejected("An image of a fraction does not say when it was made")


def _check_one_patient(images: Sequence[_Image], records: Sequence[TreatmentRecord]) -> None:
    ids = {one.patient[0] for one in images} | {one.patient_id for one in records}
    issuers = {one.patient[1] for one in images} - {""}
    if len(ids) > 1 or len(issuers) > 1:
        raise InputRejected("The images and treatment records of the fractions are not of one patient")


def _last_of_each_day(images: Sequence[_Image]) -> tuple[list[_Image], list[int]]:
    """The images that count, and the indices among them of days that had more than one."""
    by_day: dict[date, list[_Image]] = {}
    for one in images:
        by_day.setdefault(one.day, []).append(one)
    groups = list(by_day.values())
    return [group[-1] for group in groups], [index for index, group in enumerate(groups) if len(group) > 1]


def _numbers(
    images: Sequence[_Image], records: Sequence[TreatmentRecord], plan: CoursePlan
) -> tuple[list[int], int, list[str]]:
    """Fraction numbers, of how many, and what is to be said about them."""
    counted = list(range(1, len(images) + 1))
    given = {one.date: one.fraction_numbers[-1] for one in records if one.date and one.fraction_numbers}
    if not given:
        return counted, plan.images, []
    numbers, guessed = [], 0
    for one in images:
        before = [number for day, number in given.items() if day < one.day]
        guessed += one.day not in given
        numbers.append(given[one.day] if one.day in given else max(before, default=0) + 1)
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        said = "The fraction numbers of the treatment records do not ascend with the images, which are counted instead"
        return counted, plan.images, [said]
    said_guessed = f"{guessed} of {len(images)} images have no treatment record of their day"
    planned = max((one.planned for one in records if one.planned), default=plan.fractions)
    return numbers, planned, [said_guessed] if guessed else []


def _unimaged(numbers: Sequence[int], records: Sequence[TreatmentRecord]) -> list[str]:
    given = {number for one in records for number in one.fraction_numbers}
    absent = len(given - set(numbers))
    return [f"{absent} of {len(given)} recorded fractions have no image"] if absent else []


def _gaps(images: Sequence[_Image]) -> list[str]:
    days = [(later.day - earlier.day).days for earlier, later in pairwise(images)]
    if len(days) < 2:
        return []
    usual = median(days)
    return [
        f"Between images {index} and {index + 1} lie {gap} days, where {usual:g} are usual: one may be missing"
        for index, gap in enumerate(days, start=1)
        if gap > LONG_GAP * usual
    ]
