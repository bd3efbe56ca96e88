"""The instances that a report was made of: each once, in an order of their own, and the newest image among them."""

from collections.abc import Iterable

from pydicom import Dataset
from pydicom.sr.codedict import codes

from pipelines.dicom.companion import acquisition_date
from pipelines.dicom.elements import numbers, text
from pipelines.dicom.segmentation import UNKNOWN_DATE, UNKNOWN_TIME
from pipelines.dicom.writing import copy_elements, put

MODALITIES = {
    "CT": codes.DCM.ComputedTomography,
    "MR": codes.DCM.MagneticResonance,
    "PT": codes.DCM.PositronEmissionTomography,
}
"""Of instances that a report names as images (CID 29)."""


def distinct(evidence: Iterable[Dataset]) -> list[Dataset]:
    """Each instance once, in an order that is theirs: by date, series and place in it."""
    by_uid = {text(one, "SOPInstanceUID"): one for one in evidence}
    if not by_uid:
        raise ValueError("a report without evidence")
    return sorted(by_uid.values(), key=lambda one: (*dates(one), text(one, "SeriesInstanceUID"), *_place(one)))


def newest_image(evidence: Iterable[Dataset]) -> Dataset:
    """The last image by date, else the last dose, else the last of what there is; of those that state a patient.

    Structure sets and records are often read without their patient, only to be named.
    """
    return max(reversed(distinct(evidence)), key=lambda one: ("PatientID" in one, _rank(one)))


def is_image(header: Dataset) -> bool:
    """Whether a report can name the instance as an image; a dose is none (PS3.3 C.17.3: IMAGE and COMPOSITE)."""
    return text(header, "Modality") in MODALITIES


def dates(header: Dataset) -> tuple[str, str]:
    """Date and time of an instance; empty where there is none, or none that the standard allows."""
    valid = Dataset()
    copy_elements(header, valid, ("ContentDate", "StudyDate", "ContentTime", "StudyTime"))
    date, time = acquisition_date(valid)
    return str(date or ""), str(time or "")


def settle_dates(made: Dataset, header: Dataset) -> None:
    """The dates of what is made from an image are those of the image, never the clock's."""
    date, time = dates(header)
    for event in ("InstanceCreation", "Series"):
        put(made, f"{event}Date", date or None)
        put(made, f"{event}Time", time or None)
    put(made, "ContentDate", date or UNKNOWN_DATE)
    put(made, "ContentTime", time or UNKNOWN_TIME)


def _rank(header: Dataset) -> int:
    return 2 if is_image(header) else 1 if text(header, "Modality") == "RTDOSE" else 0


def _place(header: Dataset) -> tuple[float, str]:
    position = numbers(header, "ImagePositionPatient", 3)
    return (position[2] if position else 0.0), text(header, "SOPInstanceUID")
