"""When a series was acquired, as its headers state it: what fractions are put in order by."""

import re
from collections.abc import Iterable
from datetime import datetime

from pydicom import Dataset

from pipelines.dicom.elements import text

_MOMENTS = ("Acquisition", "Treatment", "Content", "StructureSet", "RTPlan", "Series", "Study")
"""Prefixes of a pair of Date and Time; the first that an instance states counts, the nearest to the patient ahead."""
MOMENT_ELEMENTS = ("AcquisitionDateTime", *(f"{prefix}{part}" for prefix in _MOMENTS for part in ("Date", "Time")))
"""Keywords of every element that `acquisition_moment` looks at."""

_DATE = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?")


def acquisition_moment(headers: Iterable[Dataset]) -> datetime | None:
    """The earliest moment that the instances of a series state, by the first kind of moment that any of them has.

    Returns
    -------
    Local time as DICOM states it, without a time zone (one that is written is passed over, since most devices write
    none); the beginning of the day where only the date is stated; None where nothing is, or nothing that is a date.

    References
    ----------
    PS3.3 C.7.6.1, C.8.8.1; PS3.5 Table 6.2-1 (DA, TM, DT; and the forms of ACR-NEMA with points and colons)
    """
    moments = [_moments(header) for header in headers]
    of_each_kind = ([moment for moment in stated if moment] for stated in zip(*moments, strict=True))
    return next((min(stated) for stated in of_each_kind if stated), None)


def _moments(header: Dataset) -> list[datetime | None]:
    stated = text(header, "AcquisitionDateTime")
    pairs = [(text(header, f"{prefix}Date"), text(header, f"{prefix}Time")) for prefix in _MOMENTS]
    return [_moment(date, time) for date, time in ((stated[:8], stated[8:]), *pairs)]


def _moment(date: str, time: str) -> datetime | None:
    day = _DATE.match(date)
    if day is None:
        return None
    clock = _TIME.match(time)
    hour, minute, second, fraction = clock.groups() if clock else (None, None, None, None)
    try:
        return datetime(
            int(day[1]),
            int(day[2]),
            int(day[3]),
            int(hour or 0),
            int(minute or 0),
            # A leap second is allowed in a TM, but not in a datetime.
            min(int(second or 0), 59),
            int((fraction or "").ljust(6, "0")),
        )
    except ValueError:
        return None
