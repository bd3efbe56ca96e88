"""One DICOM file to one dataset of chosen, decoded elements; whatever the file holds, it reads or is rejected."""

import io
import logging
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import DataElement, Dataset, dcmread
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from pipelines.base import InputRejected
from pipelines.dicom.attributes import PATIENT
from pipelines.dicom.elements import MALFORMED, text

UNREADABLE: tuple[type[Exception], ...] = (*MALFORMED, InvalidDicomError, OSError, zlib.error)
"""What pydicom raises while it parses bytes that are not a whole DICOM file."""
MAX_EXPANDED_BYTES = 2 * 2**30
"""A deflated file that expands to more is refused: a few hostile kilobytes could fill the memory."""
_CHUNK_BYTES = 2**24

_PYDICOM_LOG = logging.getLogger("pydicom")
_NEVER_DROPPED = frozenset((*PATIENT, "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"))


def read_instance(path: Path, keywords: Iterable[str], pixels: bool = False) -> FileDataset:
    """The named elements of a file, every one of them decoded.

    Elements whose bytes make no sense are left out, so that the reader of an attribute finds it absent; those that
    say which patient, study, series, instance or frame it is reject the file.

    Parameters
    ----------
    path
        A file with or without preamble.
    keywords
        The elements wanted; nested datasets come whole.
    pixels
        Whether the pixel data are wanted too.

    Raises
    ------
    InputRejected
        If the file can not be read, is not DICOM, or says in no usable way what it is.
    """
    content = _content(path)
    wanted = [*keywords, "PixelData"] if pixels else list(keywords)
    try:
        with quiet():
            dataset = dcmread(io.BytesIO(content), stop_before_pixels=not pixels, specific_tags=list(wanted))
            _decode(dataset)
    except UNREADABLE as error:
        raise InputRejected("A file is not a whole DICOM file") from error
    if not text(dataset, "SOPClassUID") and "SOPClassUID" in wanted:
        raise InputRejected("A file does not say what kind of object it is (no SOP Class UID)")
    return dataset


def transfer_syntax(dataset: FileDataset) -> UID:
    """Transfer Syntax UID of a file that was read; Implicit VR Little Endian where no file meta information says it.

    Raises
    ------
    InputRejected
        If the File Meta Information has none.
    """
    uid = text(dataset.file_meta, "TransferSyntaxUID")
    if not uid:
        raise InputRejected("A file does not state its transfer syntax")
    return UID(uid, validation_mode=IGNORE)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what pydicom warns and logs about values that break the standard; what matters of them is judged here.

    It quotes the value, which may be a patient's name.
    """
    level = _PYDICOM_LOG.level
    _PYDICOM_LOG.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _PYDICOM_LOG.setLevel(level)


def _content(path: Path) -> bytes:
    # Parsed from memory: a length field that lies can then ask for no more bytes than there are.
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputRejected(f"A file can not be read: {error.strerror}") from error
    if DeflatedExplicitVRLittleEndian.encode() in content[:1024] and _expanded_bytes(content) > MAX_EXPANDED_BYTES:
        raise InputRejected("A deflated file is too large to be expanded")
    return content


def _expanded_bytes(content: bytes) -> int:
    """Length of a deflated dataset, expanded piece by piece; counting stops once it is too much (PS3.5 A.5)."""
    meta_length = int.from_bytes(content[140:144], "little")
    expander, rest, total = zlib.decompressobj(-zlib.MAX_WBITS), content[144 + meta_length :], 0
    while rest and not expander.eof and total <= MAX_EXPANDED_BYTES:
        try:
            total += len(expander.decompress(rest, _CHUNK_BYTES))
        except zlib.error:
            break
        rest = expander.unconsumed_tail
    return total


def _decode(dataset: Dataset) -> None:
    """Turn every raw element into its value now, where one place answers for what can go wrong."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except MALFORMED:
            _drop(dataset, tag)
            continue
        if not _is_of_its_vr(element):
            _drop(dataset, tag)
        elif element.VR == "SQ":
            for item in element.value or ():
                _decode(item)


def _is_of_its_vr(element: DataElement) -> bool:
    """Whether pydicom could make a value of the VR; where not, it gives text or another VR without an error."""
    if element.VR in ("DS", "IS"):
        values = element.value if element.VM > 1 else [element.value]
        return not any(isinstance(value, str) and value for value in values)
    return keyword_for_tag(element.tag) == "" or element.VR in dictionary_VR(element.tag).split(" or ")


def _drop(dataset: Dataset, tag: BaseTag) -> None:
    if keyword_for_tag(tag) in _NEVER_DROPPED:
        raise ValueError("an identifying element is malformed")
    del dataset[tag]
