"""The structure of an audit message, from the schema of PS3.15 A.5.1.1: attributes, and children in their order."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

CODED = ({"csd-code", "codeSystemName", "originalText"}, {"displayName"})
"""Attributes of a CodedValueType: those that have to be there, and those that may."""


@dataclass(frozen=True)
class Shape:
    """What an element has: required and optional attributes, and a pattern of the names of its children."""

    required: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    children: str = ""


SHAPES: Mapping[str, Shape] = {
    "AuditMessage": Shape(
        children="EventIdentification (ActiveParticipant )+AuditSourceIdentification "
        "(ParticipantObjectIdentification )*"
    ),
    "EventIdentification": Shape(
        {"EventDateTime", "EventOutcomeIndicator"},
        {"EventActionCode"},
        "EventID (EventTypeCode )*(EventOutcomeDescription )?",
    ),
    "EventID": Shape(*CODED),
    "EventTypeCode": Shape(*CODED),
    "EventOutcomeDescription": Shape(),
    "ActiveParticipant": Shape(
        {"UserID", "UserIsRequestor"},
        {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
        "(RoleIDCode )*(MediaIdentifier )?",
    ),
    "RoleIDCode": Shape(*CODED),
    "AuditSourceIdentification": Shape({"AuditSourceID"}, {"AuditEnterpriseSiteID"}, "(AuditSourceTypeCode )*"),
    "AuditSourceTypeCode": Shape({"csd-code"}, {"codeSystemName", "displayName", "originalText"}),
    "ParticipantObjectIdentification": Shape(
        {"ParticipantObjectID"},
        {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole", "ParticipantObjectDataLifeCycle"},
        "ParticipantObjectIDTypeCode (ParticipantObjectName |ParticipantObjectQuery )"
        "(ParticipantObjectDetail )*(ParticipantObjectDescription )*",
    ),
    "ParticipantObjectIDTypeCode": Shape(*CODED),
    "ParticipantObjectName": Shape(),
    "ParticipantObjectQuery": Shape(),
    "ParticipantObjectDetail": Shape({"type", "value"}),
    "ParticipantObjectDescription": Shape(children="(MPPS )*(Accession )*(SOPClass )*"),
    "SOPClass": Shape({"NumberOfInstances"}, {"UID"}, "(Instance )*"),
}
VALUES = {
    "EventActionCode": r"[CRUDE]",
    "EventOutcomeIndicator": r"0|4|8|12",
    "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
    "UserIsRequestor": r"true|false",
    "NetworkAccessPointTypeCode": r"[1-5]",
    "ParticipantObjectTypeCode": r"[1-4]",
    "ParticipantObjectTypeCodeRole": r"[1-9]|1\d|2[0-6]",
    "NumberOfInstances": r"\d+",
}


def faults(root: Element) -> list[str]:
    """Where a message is not as the schema has it."""
    assert root.tag == "AuditMessage"
    found = [fault for element in root.iter() for fault in _faults_of(element)]
    requestors = [one for one in root.iter("ActiveParticipant") if one.get("UserIsRequestor") == "true"]
    # A.5.2: there are not several requestors.
    return found + (["several requestors"] if len(requestors) > 1 else [])


def _faults_of(element: Element) -> list[str]:
    shape = SHAPES[element.tag]
    names = set(element.attrib)
    found = []
    if not shape.required <= names or not names <= shape.required | shape.optional:
        found.append(f"{element.tag} has the attributes {sorted(names)}")
    if not re.fullmatch(shape.children, "".join(f"{child.tag} " for child in element)):
        found.append(f"{element.tag} has the children {[child.tag for child in element]}")
    for name, value in element.attrib.items():
        if name in VALUES and not re.fullmatch(VALUES[name], value):
            found.append(f"{name} is {value}")
    return found
