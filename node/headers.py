"""What the node reads of an instance: its header, never its pixels; and whether the file is whole."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import UID

LARGE_VALUE_BYTES = 4096
"""Values longer than this stay in the file."""

READ_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    OSError,
)
"""What pydicom raises on bytes that are not what they say; MemoryError is left out on purpose."""


class UnreadableInstance(Exception):
    """The bytes are no DICOM instance; the message is one plain sentence without a value from the header."""


def whole_header(encoded: bytes | memoryview) -> Dataset:
    """The header of a Part-10 file in memory, after a walk over all of its elements.

    Raises
    ------
    UnreadableInstance
        If it can not be parsed, or ends before an element's announced length.
    """
    try:
        dataset = dcmread(BytesIO(encoded), defer_size=LARGE_VALUE_BYTES)
    except READ_ERRORS as error:
        raise UnreadableInstance("the data set can not be parsed") from error
    if any(_is_cut_short(element, len(encoded)) for element in dataset._dict.values()):
        raise UnreadableInstance("the data set ends before an element's announced length")
    return dataset


def read_header(path: Path, tags: Iterable[BaseTag] | None = None) -> Dataset:
    """The header of a file that the node has stored, without its pixel data.

    Raises
    ------
    UnreadableInstance
        If it can not be parsed.
    """
    try:
        return dcmread(path, stop_before_pixels=True, specific_tags=list(tags) if tags else None)
    except READ_ERRORS as error:
        raise UnreadableInstance("the file can not be parsed") from error


def text_of(dataset: Dataset, keyword: str) -> str:
    """The element's value as text, "" when it is absent, empty or can not be decoded."""
    try:
        value = dataset.get(keyword)
    except READ_ERRORS:
        return ""
    return "" if value is None else str(value).strip()


def uid_of(dataset: Dataset, keyword: str) -> UID | None:
    """The element's value when it is a valid UID (PS3.5 9.1)."""
    uid = UID(text_of(dataset, keyword))
    return uid if uid.is_valid else None


def _is_cut_short(element: object, total_bytes: int) -> bool:
    if not isinstance(element, RawDataElement) or element.length == 0xFFFFFFFF:
        return False
    return element.value_tell + element.length > total_bytes
