"""The DICOM conformance statement (PS3.2), printed from the tables that the code itself uses."""

from collections.abc import Iterable

from pydicom.uid import UID

from node import intake, scp, scu
from node.sop_classes import (
    LABEL_MAP_SEGMENTATION_STORAGE,
    OFFERED_TRANSFER_SYNTAXES,
    STORAGE_COMMITMENT_PUSH,
    STORAGE_SOP_CLASSES,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)

_NAMES = {LABEL_MAP_SEGMENTATION_STORAGE: "Label Map Segmentation Storage"}

_STATUSES = (
    (intake.SUCCESS, "stored: the file is durable under its final name and its row is committed, or was so before"),
    (
        intake.DUPLICATE_SOP_INSTANCE,
        "another content has this SOP Instance UID; the first stays, this one is kept aside",
    ),
    (scp.NOT_AUTHORIZED, "the peer is known, but may not store"),
    (intake.OUT_OF_RESOURCES, "less free space than the floor of the configuration, or the disk failed; send it again"),
    (
        intake.DOES_NOT_MATCH_SOP_CLASS,
        "command and data set name different SOP classes or instances; kept in quarantine",
    ),
    (intake.CANNOT_UNDERSTAND, "the data set can not be parsed, is cut short or has no valid UIDs; kept in quarantine"),
)


def statement() -> str:
    """The statement as Markdown."""
    return "\n".join(
        [
            "# DICOM conformance statement of rtnode",
            "",
            "Printed by `rtnode conformance` from the tables that the code uses; a test compares.",
            "",
            "## Services",
            "",
            *_table(("service", "SOP class", "UID", "SCU", "SCP"), _services()),
            "",
            "## Associations as acceptor",
            "",
            f"- PDU of at most {scp.MAXIMUM_PDU_BYTES} bytes; at most {scp.MAXIMUM_ASSOCIATIONS} at a time.",
            "- The called AE title has to be the node's. The calling AE title and its address have to be those of a",
            "  peer of the configuration, unless `accept_unknown_peers` is set; others are rejected (permanent,",
            "  calling AE title not recognised).",
            f"- A connection that is silent for {scp.NETWORK_TIMEOUT_S:g} s is aborted.",
            "- TLS (PS3.15 B.12) by `tls` in node.yaml, by default with a certificate asked of the peer.",
            "",
            "## Associations as requestor",
            "",
            "- One association for each series, all of its instances in it; repeated whole after a failure.",
            f"- Connects within {scu.CONNECT_TIMEOUT_S:g} s; an answer may take {scu.ANSWER_TIMEOUT_S:g} s.",
            f"- Transfer syntaxes offered: {', '.join(uid.name for uid in OFFERED_TRANSFER_SYNTAXES)};",
            "  what is compressed is offered as it is.",
            "",
            "## Audit",
            "",
            "- Audit Trail Message Format Profile (PS3.15 A.5) and, by `audit.syslog` in node.yaml, the Audit Trail",
            "  Message Transmission Profiles over TLS (A.6) and UDP (A.7); also over TCP (RFC 6587, octets counted).",
            "- Messages: Application Activity, Begin Transferring DICOM Instances, DICOM Instances Transferred, DICOM",
            "  Instances Accessed, Procedure Record (decisions of persons), Query, Security Alert.",
            "- The patient is named only with `audit.patient_ids: true`; a query is told without the patient.",
            "- Each message ends with an object of type (event-hash, 99RTNODE): its event in the node's chain.",
            "",
            "## Answers to C-STORE",
            "",
            *_table(("status", "meaning"), ((f"0x{status:04X}", meaning) for status, meaning in _STATUSES)),
            "",
            "## SOP classes stored",
            "",
            *_storage_tables(),
            "## Transfer syntaxes of every stored SOP class",
            "",
            "Instances are stored as they were sent.",
            "",
            *_table(("transfer syntax", "UID"), ((uid.name, uid) for uid in TRANSFER_SYNTAXES)),
            "",
        ]
    )


def _services() -> Iterable[tuple[str, ...]]:
    return (
        ("Verification", "Verification", VERIFICATION, "yes", "yes"),
        ("Storage", "see below", "", "yes", "yes"),
        ("Storage Commitment", "Storage Commitment Push Model", STORAGE_COMMITMENT_PUSH, "yes", "no"),
        ("Query", "Study Root - FIND", STUDY_ROOT_FIND, "yes", "no"),
        ("Retrieve", "Study Root - MOVE", STUDY_ROOT_MOVE, "yes", "no"),
    )


def _storage_tables() -> Iterable[str]:
    for subject, sop_classes in STORAGE_SOP_CLASSES.items():
        yield f"### {subject}"
        yield ""
        yield from _table(("SOP class", "UID"), ((_NAMES.get(uid, uid.name), uid) for uid in sop_classes))
        yield ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str | UID, ...]]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"
