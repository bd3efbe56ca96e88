"""The audit message's XML: elements and attributes of the schema of PS3.15 A.5.1.1, in its order."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from xml.etree.ElementTree import Element, SubElement, tostring

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document can hold."""
_PRIVATE = "99RTNODE"
MACHINE_NAME, IP_ADDRESS = "1", "2"
"""NetworkAccessPointTypeCode."""


@dataclass(frozen=True)
class Code:
    """A coded value (CodedValueType of the schema)."""

    value: str
    meaning: str
    system: str = "DCM"


def private(value: str, meaning: str) -> Code:
    """A code of the node's own scheme, for what the standard has no code."""
    return Code(value, meaning, _PRIVATE)


@dataclass(frozen=True)
class Participant:
    """Someone, or some process, that took part."""

    user_id: str
    roles: Sequence[Code] = ()
    is_requestor: bool = False
    ae_titles: Sequence[str] = ()
    host: str | None = None


@dataclass(frozen=True)
class Subject:
    """A patient, study or other thing that the event is about (ParticipantObjectIdentification)."""

    id: str
    id_type: Code
    type_code: str
    role: str | None = None
    name: str = ""
    details: Mapping[str, str] | None = None
    query: bytes | None = None
    """What was asked; stands in place of the name."""
    instances: Mapping[str, int] | None = None
    """Number of instances by SOP Class UID."""


@dataclass(frozen=True)
class Happening:
    """What happened (EventIdentification)."""

    event_id: Code
    action: str
    at: datetime
    outcome: str
    type_codes: Sequence[Code] = ()
    outcome_description: str | None = None


def audit_message(
    happening: Happening, participants: Sequence[Participant], source_id: str, subjects: Sequence[Subject]
) -> bytes:
    """One message, UTF-8, on one line."""
    root = Element("AuditMessage")
    _add_happening(root, happening)
    for participant in participants:
        _add_participant(root, participant)
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=_text(source_id))
    # Application Server process (A.5.1.2.1).
    SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    for subject in subjects:
        _add_subject(root, subject)
    document: str = tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>{document}'.encode()


def moment(at: datetime) -> str:
    """As xsd:dateTime and RFC 3339 write a moment of UTC, with microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _add_happening(root: Element, happening: Happening) -> None:
    element = SubElement(
        root,
        "EventIdentification",
        EventActionCode=happening.action,
        EventDateTime=moment(happening.at),
        EventOutcomeIndicator=happening.outcome,
    )
    _add_code(element, "EventID", happening.event_id)
    for code in happening.type_codes:
        _add_code(element, "EventTypeCode", code)
    if happening.outcome_description:
        SubElement(element, "EventOutcomeDescription").text = _text(happening.outcome_description)


def _add_participant(root: Element, participant: Participant) -> None:
    attributes = {"UserID": _text(participant.user_id), "UserIsRequestor": str(participant.is_requestor).lower()}
    if participant.ae_titles:
        # The form of A.5.2.2.
        attributes["AlternativeUserID"] = _text("AETITLES=" + ";".join(participant.ae_titles))
    if participant.host:
        attributes["NetworkAccessPointID"] = _text(participant.host)
        attributes["NetworkAccessPointTypeCode"] = IP_ADDRESS if _is_address(participant.host) else MACHINE_NAME
    element = SubElement(root, "ActiveParticipant", attributes)
    for role in participant.roles:
        _add_code(element, "RoleIDCode", role)


def _add_subject(root: Element, subject: Subject) -> None:
    attributes = {"ParticipantObjectID": _text(subject.id), "ParticipantObjectTypeCode": subject.type_code}
    if subject.role:
        attributes["ParticipantObjectTypeCodeRole"] = subject.role
    element = SubElement(root, "ParticipantObjectIdentification", attributes)
    _add_code(element, "ParticipantObjectIDTypeCode", subject.id_type)
    if subject.query is None:
        SubElement(element, "ParticipantObjectName").text = _text(subject.name)
    else:
        SubElement(element, "ParticipantObjectQuery").text = b64encode(subject.query).decode()
    for kind, value in (subject.details or {}).items():
        encoded = b64encode(value.encode()).decode()
        SubElement(element, "ParticipantObjectDetail", type=kind, value=encoded)
    if subject.instances:
        description = SubElement(element, "ParticipantObjectDescription")
        for sop_class_uid, count in subject.instances.items():
            SubElement(description, "SOPClass", UID=_text(sop_class_uid), NumberOfInstances=str(count))


def _add_code(parent: Element, name: str, code: Code) -> None:
    SubElement(
        parent, name, {"csd-code": code.value, "codeSystemName": code.system, "originalText": _text(code.meaning)}
    )


def _text(value: str) -> str:
    """What XML can hold, on one line."""
    return " ".join(_NOT_IN_XML.sub("\ufffd", value).split())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
