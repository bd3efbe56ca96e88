"""What every object has in common that goes with an image series: patient, study, equipment, references to images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from pipelines.dicom.attributes import PATIENT, STUDY
from pipelines.dicom.elements import text, whole_number
from pipelines.dicom.writing import copy_elements, put, put_empty_where_absent

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)


@dataclass(frozen=True)
class NewInstance:
    """What makes a new object an instance of its own."""

    series_instance_uid: str
    sop_instance_uid: str
    series_number: int
    series_description: str
    manufacturer: str
    """The equipment that makes the object, which is not the one that made the images."""


def companion(header: Dataset, new: NewInstance, sop_class_uid: UID, modality: str) -> Dataset:
    """The beginning of an object about the patient and study of an image; dates are those of the image.

    References
    ----------
    PS3.3 C.7.1.1 Patient, C.7.2.1 General Study, C.7.5.1 General Equipment, C.8.8.1 RT Series, C.12.1 SOP Common
    """
    dataset = Dataset()
    copy_elements(header, dataset, PATIENT + STUDY)
    put_empty_where_absent(dataset, TYPE_2)
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = new.sop_instance_uid
    dataset.SeriesInstanceUID = new.series_instance_uid
    dataset.SeriesNumber = new.series_number
    put(dataset, "SeriesDescription", new.series_description)
    dataset.Modality = modality
    dataset.Manufacturer = new.manufacturer
    put_empty_where_absent(dataset, ("OperatorsName",))
    return dataset


def put_frame_of_reference(dataset: Dataset, header: Dataset) -> None:
    """State the Frame of Reference of the image (PS3.3 C.7.4.1)."""
    dataset.FrameOfReferenceUID = header.FrameOfReferenceUID
    put(dataset, "PositionReferenceIndicator", text(header, "PositionReferenceIndicator") or None)


def image_reference(header: Dataset) -> Dataset:
    """SOP Instance (and frame) of one slice (PS3.3 10.3 Image SOP Instance Reference Macro)."""
    item = reference(header.SOPClassUID, header.SOPInstanceUID)
    if text(header, "ReferencedFrameNumber"):
        item.ReferencedFrameNumber = header.ReferencedFrameNumber
    return item


def reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Reference to an instance (PS3.3 10.8 SOP Instance Reference Macro)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def acquisition_date(header: Dataset) -> tuple[Any, Any]:
    """Date and time for an object made from the image: when the image was made, so that no clock is needed."""
    return header.get("ContentDate") or header.get("StudyDate"), header.get("ContentTime") or header.get("StudyTime")


def series_number_behind(header: Dataset, place: int) -> int:
    """A Series Number that puts what is made from the image behind it in a list sorted by number; place 1 to 99."""
    number = whole_number(header, "SeriesNumber") or 0
    return number * 100 + place if 0 <= number < 10_000 else place


def decimal_strings(values: Iterable[float], digits: int = 3) -> list[str]:
    """Numbers as VR DS: at most 16 characters, and the same text for the same number everywhere (PS3.5 6.2)."""
    return [f"{value:.{digits}f}" for value in values]


def sequence_of(**elements: Any) -> Sequence[Dataset]:
    """One item with these elements, as a sequence."""
    item = Dataset()
    for keyword, value in elements.items():
        put(item, keyword, value)
    return [item]
