"""Which audit message of PS3.15 A.5.3 an event of the chain becomes; most steps of a job become none.

Every message that is made ends with the event's place in the chain, so that who holds the messages can tell whether the
ledger still has the events that they speak of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ImplicitVRLittleEndian

from node.audit.xml import Code, Happening, Participant, Subject, audit_message, private
from node.config import Peer
from node.ledger.audited import AuditedEvent
from node.ledger.events import NODE, What
from node.ledger.schema import Event
from node.sop_classes import STUDY_ROOT_FIND

SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = "0", "4", "8"
"""EventOutcomeIndicator."""
CREATE, READ, UPDATE, DELETE, EXECUTE = "C", "R", "U", "D", "E"
"""EventActionCode."""

APPLICATION_ACTIVITY = Code("110100", "Application Activity")
BEGIN_TRANSFERRING = Code("110102", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
PROCEDURE_RECORD = Code("110111", "Procedure Record")
QUERY = Code("110112", "Query")
SECURITY_ALERT = Code("110113", "Security Alert")
APPLICATION_START = Code("110120", "Application Start")
APPLICATION_STOP = Code("110121", "Application Stop")
NODE_AUTHENTICATION = Code("110126", "Node Authentication")
APPLICATION = Code("110150", "Application")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")
STUDY_INSTANCE_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
NODE_ID = Code("110182", "Node ID")
PATIENT_NUMBER = Code("2", "Patient Number", "RFC-3881")
"""Codes of PS3.16 CID 400 to 405 and D.1, and of A.5.1.2.4."""
SOP_INSTANCE_UID = private("sop-instance-uid", "SOP Instance UID")
EVENT_HASH = private("event-hash", "Hash of the event in the chain of the node's audit trail")

PERSON, SYSTEM_OBJECT = "1", "2"
"""ParticipantObjectTypeCode."""
PATIENT, REPORT, SECURITY_RESOURCE = "1", "3", "13"
"""ParticipantObjectTypeCodeRole."""


@dataclass(frozen=True)
class Message:
    """One audit message, ready to be sent."""

    event: Event
    outcome: str
    xml: bytes


@dataclass(frozen=True)
class Messages:
    """Makes the messages of one node; `patient_ids` False leaves out the patient, whom A.5.3 asks for."""

    ae_title: str
    peers: Mapping[str, Peer]
    patient_ids: bool = False

    def of(self, audited: AuditedEvent) -> Message | None:
        """The message of an event; None for one that the standard has no message for."""
        make = _MAKERS.get(audited.event.what)
        made = make(self, audited) if make else None
        if made is None:
            return None
        happening, participants = made
        subjects = [*self._subjects(audited), *_alert_subjects(audited.event), _link_of_chain(audited.event)]
        xml = audit_message(happening, participants, self.ae_title, subjects)
        return Message(audited.event, happening.outcome, xml)

    def node(self, role: Code | None = None, is_requestor: bool = False) -> Participant:
        """The node as a participant."""
        return Participant(self.ae_title, [role] if role else [], is_requestor, [self.ae_title])

    def peer(self, name: str, role: Code, is_requestor: bool = False) -> Participant:
        """A peer of the configuration; one that left it is named alone."""
        peer = self.peers.get(name)
        if peer is None:
            return Participant(name, [role], is_requestor)
        return Participant(peer.ae_title, [role], is_requestor, [peer.ae_title], peer.host)

    def sender(self, ae_title: str, role: Code) -> Participant:
        """Who called under this AE title; its host where the configuration has but one of them."""
        hosts = {peer.host for peer in self.peers.values() if peer.ae_title == ae_title}
        return Participant(ae_title, [role], True, [ae_title], hosts.pop() if len(hosts) == 1 else None)

    def _subjects(self, audited: AuditedEvent) -> list[Subject]:
        event, concerns = audited.event, audited.concerns
        details = {"reason": event.why} if event.why and event.what in _DECISIONS else None
        studies = [
            Subject(uid, STUDY_INSTANCE_UID, SYSTEM_OBJECT, REPORT, details=details, instances=counts)
            for uid, counts in concerns.instances.items()
        ]
        patients = [Subject(one, PATIENT_NUMBER, PERSON, PATIENT) for one in concerns.patient_ids]
        return [*studies, *(patients if self.patient_ids else [])]


Made = tuple[Happening, list[Participant]]


def _activity(code: Code) -> Callable[[Messages, AuditedEvent], Made]:
    def make(messages: Messages, audited: AuditedEvent) -> Made:
        happening = Happening(APPLICATION_ACTIVITY, EXECUTE, audited.event.at, SUCCESS, [code])
        return happening, [messages.node(APPLICATION)]

    return make


def _receives(event_id: Code, action: str) -> Callable[[Messages, AuditedEvent], Made]:
    def make(messages: Messages, audited: AuditedEvent) -> Made:
        event = audited.event
        senders = audited.concerns.senders or ((event.who,) if event.who != NODE else ())
        sources = [messages.sender(one, SOURCE) for one in senders] or [Participant("unknown", [SOURCE], True)]
        # One requestor at most (A.5.2).
        sources[1:] = [replace(one, is_requestor=False) for one in sources[1:]]
        happening = Happening(event_id, action, event.at, SUCCESS, outcome_description=event.why)
        return happening, [sources[0], messages.node(DESTINATION), *sources[1:]]

    return make


def _sends(event_id: Code, action: str, outcome: str) -> Callable[[Messages, AuditedEvent], Made | None]:
    def make(messages: Messages, audited: AuditedEvent) -> Made | None:
        event = audited.event
        if audited.concerns.peer is None or (event.what == What.DELIVERY_QUEUED and not _was_tried(event)):
            return None
        happening = Happening(event_id, action, event.at, outcome, outcome_description=event.why)
        destination = messages.peer(audited.concerns.peer, DESTINATION)
        return happening, [messages.node(SOURCE, is_requestor=True), destination]

    return make


def _was_tried(event: Event) -> bool:
    """Whether a delivery was put back after an attempt, not queued for the first time or by hand."""
    return event.why is not None and event.who == NODE


def _accesses(action: str) -> Callable[[Messages, AuditedEvent], Made]:
    def make(messages: Messages, audited: AuditedEvent) -> Made:
        event = audited.event
        happening = Happening(
            INSTANCES_ACCESSED, action, event.at, SUCCESS, [_own(event)], outcome_description=event.why
        )
        return happening, [messages.node(is_requestor=True)]

    return make


def _decides(messages: Messages, audited: AuditedEvent) -> Made:
    """A verdict that lets a result go is the node's own; a decision has a person's name."""
    event = audited.event
    if event.who == NODE:
        return _accesses(CREATE)(messages, audited)
    happening = Happening(PROCEDURE_RECORD, UPDATE, event.at, SUCCESS, [_own(event)])
    return happening, [Participant(event.who, is_requestor=True), messages.node()]


def _alerts(code: Code | None = None) -> Callable[[Messages, AuditedEvent], Made]:
    def make(messages: Messages, audited: AuditedEvent) -> Made:
        event = audited.event
        happening = Happening(
            SECURITY_ALERT, EXECUTE, event.at, MINOR_FAILURE, [code or _own(event)], outcome_description=event.why
        )
        if event.who == NODE:
            return happening, [messages.node(is_requestor=True)]
        return happening, [messages.node(), Participant(event.who or "unknown", is_requestor=True)]

    return make


def _queries(messages: Messages, audited: AuditedEvent) -> Made:
    event = audited.event
    name = event.subject.partition("/")[2]
    return Happening(QUERY, EXECUTE, event.at, SUCCESS), [
        messages.node(SOURCE, is_requestor=True),
        messages.peer(name, DESTINATION),
    ]


def _own(event: Event) -> Code:
    """The event's own name, for which the standard has no code."""
    return private(event.what.replace(" ", "-"), event.what.capitalize())


def _alert_subjects(event: Event) -> list[Subject]:
    kind, _, key = event.subject.partition("/")
    if kind == "instance":
        # What is no UID may be a name that someone typed.
        return [
            Subject(key if UID(key, IGNORE).is_valid else "invalid", SOP_INSTANCE_UID, SYSTEM_OBJECT, SECURITY_RESOURCE)
        ]
    if kind == "host":
        return [Subject(key, NODE_ID, SYSTEM_OBJECT, SECURITY_RESOURCE)]
    if kind == "peer":
        query, syntax = _query(event), {"TransferSyntax": ImplicitVRLittleEndian}
        return [
            Subject(
                STUDY_ROOT_FIND,
                SOP_CLASS_UID,
                SYSTEM_OBJECT,
                REPORT,
                details=syntax,
                query=query,
            )
        ]
    return []


def _query(event: Event) -> bytes:
    """The identifier of the C-FIND with what the chain knows of it: never the patient's id."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.Modality = (event.why or "").partition(": ")[2].split(", ")
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, identifier)
    return buffer.getvalue()


def _link_of_chain(event: Event) -> Subject:
    return Subject(event.hash, EVENT_HASH, SYSTEM_OBJECT, name=f"event {event.id}")


_DECISIONS = (What.RESULT_RELEASED, What.RESULT_RELEASED_BY_ONE, What.RESULT_REJECTED)
_MAKERS: Mapping[str, Callable[[Messages, AuditedEvent], Made | None]] = {
    What.NODE_STARTED: _activity(APPLICATION_START),
    What.NODE_STOPPED: _activity(APPLICATION_STOP),
    What.PEER_REFUSED: _alerts(NODE_AUTHENTICATION),
    What.PEER_QUERIED: _queries,
    What.INSTANCE_CONFLICT: _alerts(),
    What.INSTANCE_QUARANTINED: _alerts(),
    What.INSTANCES_REMOVED: _accesses(DELETE),
    What.SERIES_RECEIVING: _receives(BEGIN_TRANSFERRING, EXECUTE),
    What.SERIES_SETTLED: _receives(INSTANCES_TRANSFERRED, CREATE),
    What.SERIES_INCOMPLETE: _receives(INSTANCES_TRANSFERRED, CREATE),
    What.SERIES_REJECTED: _receives(INSTANCES_TRANSFERRED, CREATE),
    What.JOB_RUNNING: _accesses(READ),
    What.RESULT_HELD: _accesses(CREATE),
    What.RESULT_IN_SHADOW: _accesses(CREATE),
    What.AGREEMENT_RUNNING: _accesses(READ),
    What.TREND_ALARM: _alerts(),
    What.RESULT_RELEASED: _decides,
    What.RESULT_RELEASED_BY_ONE: _decides,
    What.RESULT_REJECTED: _decides,
    What.DELIVERY_SENDING: _sends(BEGIN_TRANSFERRING, EXECUTE, SUCCESS),
    What.DELIVERY_DELIVERED: _sends(INSTANCES_TRANSFERRED, READ, SUCCESS),
    What.DELIVERY_QUEUED: _sends(INSTANCES_TRANSFERRED, READ, MINOR_FAILURE),
    What.DELIVERY_FAILED: _sends(INSTANCES_TRANSFERRED, READ, SERIOUS_FAILURE),
}
