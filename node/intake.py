"""The durable sink: an instance from the network becomes a file and a row, or gets a reason why not.

`Intake.accept` is the whole seam between an association and what lies behind it. When it answers SUCCESS the file is
durable under its final name and its row is committed.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from pydicom import DataElement, Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from node.errors import LedgerError, StorageFull
from node.headers import READ_ERRORS, UnreadableInstance, text_of, uid_of, whole_header
from node.ledger import Ledger
from node.ledger.schema import Instance, InstanceState
from node.ledger.series import Arrival, SetAside
from node.storage import Identity, Storage, sha256_of

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
DUPLICATE_SOP_INSTANCE = 0x0111

_NO_CONTENT = (0x7FE00010, 0xFFFCFFFC)
"""Pixel Data, which is compared decoded, and Data Set Trailing Padding (PS3.10 7.2)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Received:
    """One C-STORE request: the complete Part-10 file, and what the command said about it."""

    encoded: bytes
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str


@dataclass(frozen=True)
class Answer:
    """Status of PS3.4 B.2.3 or PS3.7 C and, unless it is success, the comment that goes with it (64 characters)."""

    status: int
    comment: str = ""
    series_instance_uid: str | None = None
    """Of the series that has grown by this instance."""


class Intake:
    """Writes durably, records, answers. No decision about the study is made here."""

    def __init__(self, storage: Storage, ledger: Ledger) -> None:
        self._storage = storage
        self._ledger = ledger

    def accept(self, received: Received) -> Answer:
        """Store one instance; the answer is what the peer is told."""
        try:
            self._storage.require_space()
            with self._storage.incoming(received.encoded) as incoming:
                return self._file(received, incoming)
        except (StorageFull, LedgerError, OSError):
            log.exception("instance not stored", extra={"sop_instance_uid": _loggable(received)})
            return Answer(OUT_OF_RESOURCES, "not stored: out of resources")

    def _file(self, received: Received, incoming: Path) -> Answer:
        try:
            header = whole_header(received.encoded)
            identity = _identity(header)
        except UnreadableInstance as error:
            return self._quarantine(received, incoming, CANNOT_UNDERSTAND, str(error))
        if identity.sop_instance_uid != received.affected_sop_instance_uid:
            reason = "SOP Instance UID of command and data set differ"
            return self._quarantine(received, incoming, DOES_NOT_MATCH_SOP_CLASS, reason)
        if text_of(header, "SOPClassUID") != received.affected_sop_class_uid:
            reason = "SOP Class UID of command and data set differ"
            return self._quarantine(received, incoming, DOES_NOT_MATCH_SOP_CLASS, reason)
        return self._keep(_arrival(received, identity, text_of(header, "Modality")), incoming)

    def _keep(self, arrival: Arrival, incoming: Path) -> Answer:
        path = self._storage.instance_path(arrival.identity)
        first = self._ledger.series.receive(arrival, path, lambda: self._storage.keep(incoming, path))
        if first is None:
            return Answer(SUCCESS, series_instance_uid=arrival.identity.series_instance_uid)
        if self._is_repeated(first, arrival.sha256, incoming):
            return Answer(SUCCESS)
        aside = self._storage.set_aside(incoming, "conflicts")
        reason = "another content was received under this SOP Instance UID before"
        self._ledger.series.set_aside(arrival, SetAside(InstanceState.CONFLICT, aside, reason))
        log.error("instance in conflict", extra={"sop_instance_uid": arrival.identity.sop_instance_uid})
        return Answer(DUPLICATE_SOP_INSTANCE, "SOP Instance UID is taken by another content")

    def _is_repeated(self, first: Instance, sha256: str, incoming: Path) -> bool:
        if first.sha256 == sha256:
            return True
        return first.path is not None and same_content(self._storage.absolute(first.path), incoming)

    def _quarantine(self, received: Received, incoming: Path, status: int, reason: str) -> Answer:
        path = self._storage.set_aside(incoming, "quarantine")
        unknown = Identity("", "", "", received.affected_sop_instance_uid)
        arrival = _arrival(received, unknown, "")
        self._ledger.series.set_aside(arrival, SetAside(InstanceState.QUARANTINED, path, reason))
        log.error("instance quarantined", extra={"sop_instance_uid": _loggable(received), "reason": reason})
        return Answer(status, reason[:64])


def same_content(first: Path, second: Path) -> bool:
    """Whether two files hold the same data set, if encoded in another way (transfer syntax, order, padding)."""
    try:
        one, other = dcmread(first), dcmread(second)
        if _encoded_without_pixels(one) != _encoded_without_pixels(other):
            return False
        if one.get("PixelData") == other.get("PixelData") and _syntax(one) == _syntax(other):
            return True
        return bool((one.pixel_array == other.pixel_array).all())
    except READ_ERRORS:
        return False


def _syntax(dataset: Dataset) -> UID | None:
    return dataset.file_meta.TransferSyntaxUID if "PixelData" in dataset else None


def _encoded_without_pixels(dataset: Dataset) -> bytes:
    """All but pixels, group lengths and padding in one encoding, in which VR and the length of sequences do not count.

    A private element is UN to whoever reads it from Implicit VR without a dictionary of it (PS3.5 6.2.2).
    """
    kept = Dataset()
    kept.update({tag: dataset[tag] for tag in dataset.keys() if tag.element != 0 and tag not in _NO_CONTENT})
    kept.walk(_with_defined_length)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, kept)
    return buffer.getvalue()


def _with_defined_length(_: Dataset, element: DataElement) -> None:
    if element.VR == "SQ":
        element.is_undefined_length = False
        for item in element.value:
            item.is_undefined_length_sequence_item = False


def _identity(header: Dataset) -> Identity:
    """The identifiers, checked: they become paths and keys, and an unchecked one could leave the folder."""
    uids: dict[str, UID] = {}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        uid = uid_of(header, keyword)
        if uid is None:
            raise UnreadableInstance(f"{keyword} is absent or no valid UID")
        uids[keyword] = uid
    return Identity(text_of(header, "PatientID"), *uids.values())


def _arrival(received: Received, identity: Identity, modality: str) -> Arrival:
    return Arrival(
        identity=identity,
        modality=modality,
        sop_class_uid=received.affected_sop_class_uid,
        transfer_syntax_uid=received.transfer_syntax_uid,
        sha256=sha256_of(received.encoded),
        size_bytes=len(received.encoded),
        calling_ae_title=received.calling_ae_title,
    )


def _loggable(received: Received) -> str:
    """The UID if it is one; anything else may be a name that someone typed."""
    uid = UID(received.affected_sop_instance_uid)
    return uid if uid.is_valid else "invalid"
