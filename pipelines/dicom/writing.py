"""Datasets to bytes and files: the same dataset always makes the same bytes, and no file is ever half there."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset, dcmwrite
from pydicom.config import IGNORE, RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

from pipelines.dicom.attributes import PATIENT
from pipelines.dicom.reading import quiet

IMPLEMENTATION_CLASS_UID = UID("2.25.196174839164302157460911825163840275513")
"""Names this program in every file that it writes (PS3.10 7.1)."""
IMPLEMENTATION_VERSION_NAME = "RTNODE"

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs that Specific Character Set applies to (PS3.5 6.1.2.3)."""


def file_bytes(dataset: Dataset) -> bytes:
    """The dataset as a DICOM file in Explicit VR Little Endian.

    Text that is not ASCII goes out as UTF-8 and the dataset says so; plain ASCII states no character set, because not
    every planning system knows UTF-8.
    """
    _state_character_set(dataset)
    dataset.file_meta = _file_meta(dataset)
    buffer = io.BytesIO()
    with quiet():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is either absent or whole under its name, whenever the machine stops."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def copy_elements(source: Dataset, target: Dataset, keywords: Iterable[str]) -> None:
    """Carry elements over, leaving out values that the standard forbids: an invalid one would spoil the new object.

    What says who the patient is goes over as it is, valid or not.
    """
    for keyword in keywords:
        if keyword in source and (keyword in PATIENT or _is_valid(source[keyword])):
            put(target, keyword, _plain(source[keyword]))


def put(dataset: Dataset, keyword: str, value: Any) -> None:
    """Set an element without judging its value."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    dataset.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE))


def put_empty_where_absent(dataset: Dataset, keywords: Iterable[str]) -> None:
    """Add Type 2 elements that nothing is known for."""
    for keyword in keywords:
        if keyword not in dataset:
            put(dataset, keyword, None)


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _state_character_set(dataset: Dataset) -> None:
    dataset.pop("SpecificCharacterSet", None)
    texts = (str(element.value) for element in dataset.iterall() if element.VR in _TEXT_VRS)
    if not all(text.isascii() for text in texts):
        dataset.SpecificCharacterSet = "ISO_IR 192"


def _plain(element: DataElement) -> Any:
    # A PersonName remembers the bytes and character sets it was read with; the plain text has to be encoded anew.
    return str(element.value) if element.VR == "PN" and element.value is not None else element.value


def _is_valid(element: DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            validate_value(element.VR, str(value) if element.VR in ("DS", "IS") else value, RAISE)
    except ValueError:
        return False
    return True
