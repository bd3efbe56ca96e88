"""What the node reads of an instance: its header, never its pixels; and whether the file is whole."""

import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from pipelines.dicom.reading import MAX_EXPANDED_BYTES

LARGE_VALUE_BYTES = 4096
"""Values longer than this stay in the file."""

READ_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    OverflowError,
    OSError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on bytes that are not what they say; MemoryError is left out on purpose."""

_UNDEFINED_LENGTH = 0xFFFFFFFF
_SEQUENCE_DELIMITERS = (b"\xfe\xff\xdd\xe0", b"\xff\xfe\xe0\xdd")
"""Tag (FFFE,E0DD) in little and big endian; its length, four zero bytes, follows (PS3.5 7.5)."""
_MAX_PADDING_BYTES = 1024


PIXEL_DATA = BaseTag(0x7FE00010)


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
        content = _expanded(bytes(encoded))
        dataset = dcmread(BytesIO(content), defer_size=LARGE_VALUE_BYTES)
    except READ_ERRORS as error:
        raise UnreadableInstance("the data set can not be parsed") from error
    if _is_cut_short(list(dataset._dict.values()), content):
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


def read_image_header(path: Path, tags: Iterable[BaseTag]) -> Dataset:
    """The elements of an image file, the pixel data with their length but without their value.

    Raises
    ------
    UnreadableInstance
        If it can not be parsed.
    """
    try:
        return dcmread(path, specific_tags=[*tags, PIXEL_DATA], defer_size=LARGE_VALUE_BYTES)
    except READ_ERRORS as error:
        raise UnreadableInstance("the file can not be parsed") from error


def pixel_fault(header: Dataset) -> str | None:
    """Why the pixel data of an image can not be what its header says, from their length alone; None if they can.

    References
    ----------
    PS3.3 C.7.6.3, PS3.5 8.1.1
    """
    element = header._dict.get(PIXEL_DATA)
    if element is None:
        return "An image has no pixel data"
    if header.file_meta.TransferSyntaxUID.is_compressed:
        return None
    length = element.length if isinstance(element, RawDataElement) else len(element.value or b"")
    expected = _number(header, "BitsAllocated", 16) // 8
    for keyword, default in (("Rows", 0), ("Columns", 0), ("SamplesPerPixel", 1), ("NumberOfFrames", 1)):
        expected *= _number(header, keyword, default)
    if length not in (expected, expected + expected % 2):
        return "The pixel data of an image are not as long as its header says"
    return None


def _number(header: Dataset, keyword: str, default: int) -> int:
    text = text_of(header, keyword)
    return int(text) if text.isdecimal() else default


def text_of(dataset: Dataset, keyword: str) -> str:
    """The element's value as text, "" when it is absent, empty or can not be decoded."""
    try:
        value = dataset.get(keyword)
    except READ_ERRORS:
        return ""
    # A zero byte is allowed in no text of the standard, and no database takes it.
    return "" if value is None else str(value).replace("\0", "").strip()


def values_of(dataset: Dataset, key: str | BaseTag) -> list[str]:
    """The element's values as text, none when it is absent, empty or can not be decoded."""
    try:
        element = dataset.get(key)
        value = element.value if isinstance(element, DataElement) else element
    except READ_ERRORS:
        # What can not be decoded has no value; it must not keep its series from being judged.
        return []
    several = value if isinstance(value, MultiValue | list) else [value]
    return [text for text in (str(one).replace("\0", "").strip() for one in several if one is not None) if text]


def uid_of(dataset: Dataset, keyword: str) -> UID | None:
    """The element's value when it is a valid UID (PS3.5 9.1)."""
    uid = UID(text_of(dataset, keyword))
    return uid if uid.is_valid else None


def _expanded(encoded: bytes) -> bytes:
    """The file as Explicit VR Little Endian where its data set is deflated, else as it is (PS3.5 A.5)."""
    deflated = DeflatedExplicitVRLittleEndian.encode()
    if deflated not in encoded[:_MAX_PADDING_BYTES]:
        return encoded
    start = 144 + int.from_bytes(encoded[140:144], "little")
    expander = zlib.decompressobj(-zlib.MAX_WBITS)
    content = expander.decompress(encoded[start:], MAX_EXPANDED_BYTES)
    if not expander.eof:
        raise UnreadableInstance("the deflated data set is cut short or too large")
    return encoded[:start].replace(deflated, deflated.removesuffix(b".99") + bytes(3), 1) + content


def _is_cut_short(elements: list[DataElement | RawDataElement], content: bytes) -> bool:
    """Whether the content ends within an element; pydicom takes what is there and says nothing.

    Zero bytes behind the last element are padding.
    """
    sized = [one for one in elements if isinstance(one, RawDataElement) and one.length != _UNDEFINED_LENGTH]
    end = max((one.value_tell + one.length for one in sized), default=0)
    if end > len(content):
        return True
    if any(_start(one) >= end for one in elements if one not in sized):
        return not content[-_MAX_PADDING_BYTES:].rstrip(b"\0").endswith(_SEQUENCE_DELIMITERS)
    return any(content[end:])


def _start(element: DataElement | RawDataElement) -> int:
    tell = element.value_tell if isinstance(element, RawDataElement) else element.file_tell
    return tell or 0
