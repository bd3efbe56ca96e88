"""The audit messages of a whole history, by the schema of PS3.15 A.5.1 and the tables of A.5.3."""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import CTImageStorage

from node.audit.messages import Messages
from node.config import Peer
from node.ledger.events import What
from node.ledger.schema import InstanceState
from node.ledger.series import Arrival, SetAside
from node.storage import Identity
from pipelines.stability import Verdict
from tests.node.audit.schema import faults
from tests.node.released import Released
from tests.pipelines.made import ct_series

CONSOLE = Peer(ae_title="CONSOLE", host="console.example.org", port=104, may=frozenset({"store"}))
PACS = Peer(ae_title="PACS", host="192.0.2.7", port=104)
STUDY = str(ct_series()[0].StudyInstanceUID)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Released]:
    """Five images were received, a job ran on them, its result of five images is held."""
    state = Released(tmp_path)
    state.result({"CT": ["PACS"]}, Verdict.HOLD)
    yield state
    state.ledger.close()


def messages_of(state: Released, patient_ids: bool = False, since: int = 0) -> list[Element]:
    messages = Messages("RTNODE", {"CONSOLE": CONSOLE, "PACS": PACS}, patient_ids)
    made = [messages.of(event) for event in state.ledger.audited.after(since, 1000)]
    return [fromstring(message.xml) for message in made if message]


def last_of(state: Released) -> Element:
    return messages_of(state)[-1]


def name_of(message: Element) -> str:
    """Event, action, outcome, and type where there is one."""
    event = message.find("EventIdentification")
    assert event is not None
    codes = [code.get("originalText", "") for code in event if "csd-code" in code.attrib]
    return " / ".join([*codes, event.get("EventActionCode", ""), event.get("EventOutcomeIndicator", "")])


def participants_of(message: Element) -> list[tuple[str | None, ...]]:
    """User, role, whether requestor, and host."""
    return [
        (
            one.get("UserID"),
            *[role.get("csd-code") for role in one.iter("RoleIDCode")],
            one.get("UserIsRequestor"),
            one.get("NetworkAccessPointID"),
        )
        for one in message.iter("ActiveParticipant")
    ]


def subject_of(message: Element, id_type: str) -> Element:
    [found] = [one for one in message.iter("ParticipantObjectIdentification") if one[0].get("csd-code") == id_type]
    return found


def test_what_a_held_result_went_through_is_told_in_order(held: Released) -> None:
    assert [name_of(message) for message in messages_of(held)] == [
        "Begin Transferring DICOM Instances / E / 0",
        "DICOM Instances Transferred / C / 0",
        "DICOM Instances Accessed / Job running / R / 0",
        "DICOM Instances Accessed / Result held / C / 0",
    ]


def test_received_series_names_its_sender_study_and_number_of_images(held: Released) -> None:
    transferred = messages_of(held)[1]
    assert participants_of(transferred) == [
        ("CONSOLE", "110153", "true", "console.example.org"),
        ("RTNODE", "110152", "false", None),
    ]
    study = subject_of(transferred, "110180")
    assert (study.get("ParticipantObjectID"), study.get("ParticipantObjectTypeCode")) == (STUDY, "2")
    assert [one.attrib for one in study.iter("SOPClass")] == [{"UID": CTImageStorage, "NumberOfInstances": "5"}]
    console, node = transferred.iter("ActiveParticipant")
    assert (console.get("NetworkAccessPointTypeCode"), node.get("AlternativeUserID")) == ("1", "AETITLES=RTNODE")


@pytest.mark.req("NODE-10")
def test_patient_is_named_only_where_the_site_asks_for_it(held: Released) -> None:
    assert not [message for message in messages_of(held) if message.find(".//*[@csd-code='2']") is not None]
    for message in messages_of(held, patient_ids=True):
        patient = subject_of(message, "2")
        assert (patient.get("ParticipantObjectID"), patient[0].get("codeSystemName")) == ("RAMP-1", "RFC-3881")


def test_decision_names_the_person_and_the_reason(held: Released) -> None:
    held.ledger.decisions.reject(1, "Ohta & Søn", 'bent <jaw>\x00\nsays "Ohta"')
    message = last_of(held)
    assert name_of(message) == "Procedure Record / Result rejected / U / 0"
    assert participants_of(message) == [("Ohta & Søn", "true", None), ("RTNODE", "false", None)]
    [reason] = subject_of(message, "110180").iter("ParticipantObjectDetail")
    assert reason.get("type") == "reason"
    assert b64decode(reason.get("value", "")) == b'bent <jaw>\x00\nsays "Ohta"'


def test_delivery_names_the_peer_and_a_failed_one_the_reason(held: Released) -> None:
    held.ledger.decisions.release(1, "Ohta", "compared", lambda _: ["PACS"])
    [delivery] = held.ledger.deliveries.claim_due([])
    assert name_of(last_of(held)) == "Begin Transferring DICOM Instances / E / 0"
    assert participants_of(last_of(held)) == [
        ("RTNODE", "110153", "true", None),
        ("PACS", "110152", "false", "192.0.2.7"),
    ]
    held.ledger.deliveries.wait(delivery, delivery.queued_at, "it does not answer")
    assert name_of(last_of(held)) == "DICOM Instances Transferred / R / 4"
    held.ledger.deliveries.fail(delivery, "it refuses")
    assert name_of(last_of(held)) == "DICOM Instances Transferred / R / 8"
    assert last_of(held).findtext(".//EventOutcomeDescription") == "it refuses"
    held.ledger.deliveries.delivered(delivery)
    assert name_of(last_of(held)) == "DICOM Instances Transferred / R / 0"
    assert subject_of(last_of(held), "110180").find(".//SOPClass[@NumberOfInstances='5']") is not None


def test_conflict_and_refused_peer_are_security_alerts(held: Released) -> None:
    arrival = Arrival(Identity("", "", "", "SECRET^NAME"), "", "1.2", "1.2", "0" * 64, 1, "CONSOLE")
    held.ledger.series.set_aside(arrival, SetAside(InstanceState.QUARANTINED, "q.dcm", "no DICOM"))
    assert name_of(last_of(held)) == "Security Alert / Instance quarantined / E / 4"
    assert subject_of(last_of(held), "sop-instance-uid").get("ParticipantObjectID") == "invalid"
    held.ledger.events.add(What.PEER_REFUSED, "host/192.0.2.9", "is no peer", "STRANGER")
    assert name_of(last_of(held)) == "Security Alert / Node Authentication / E / 4"
    assert subject_of(last_of(held), "110182").get("ParticipantObjectID") == "192.0.2.9"


def test_trend_alarm_is_an_alert_of_the_node_about_the_study(held: Released) -> None:
    why = "edge_shift_mm of copy on Maker / One: one value beyond 3 sigma (Nelson rule 1)"
    held.ledger.events.add(What.TREND_ALARM, "result/1", why)
    message = last_of(held)
    assert name_of(message) == "Security Alert / Trend alarm / E / 4"
    assert participants_of(message) == [("RTNODE", "true", None)]
    assert subject_of(message, "110180").get("ParticipantObjectID") == STUDY
    assert message.findtext(".//EventOutcomeDescription") == why


def test_results_that_are_compared_are_read(held: Released) -> None:
    held.ledger.events.add(What.AGREEMENT_RUNNING, "result/1", "with result 2: attempt 1")
    assert name_of(last_of(held)) == "DICOM Instances Accessed / Agreement running / R / 0"
    assert subject_of(last_of(held), "110180").get("ParticipantObjectID") == STUDY


def test_query_is_told_without_the_patient(held: Released) -> None:
    held.ledger.events.add(What.PEER_QUERIED, "peer/PACS", "the series of a patient: CT, RTSTRUCT")
    message = last_of(held)
    assert name_of(message) == "Query / E / 0"
    assert participants_of(message)[1] == ("PACS", "110152", "false", "192.0.2.7")
    encoded = b64decode(subject_of(message, "110181").findtext("ParticipantObjectQuery") or "")
    query = dcmread(DicomBytesIO(encoded), force=True)
    assert (query.QueryRetrieveLevel, query.Modality) == ("SERIES", ["CT", "RTSTRUCT"])


def test_start_and_stop_are_activities_of_the_application(held: Released) -> None:
    held.ledger.events.add(What.NODE_STARTED, "node")
    held.ledger.events.add(What.NODE_STOPPED, "node")
    start, stop = messages_of(held)[-2:]
    assert [name_of(start), name_of(stop)] == [
        "Application Activity / Application Start / E / 0",
        "Application Activity / Application Stop / E / 0",
    ]
    assert participants_of(start) == [("RTNODE", "110150", "false", None)]


def test_every_message_holds_to_the_schema_and_names_its_event(held: Released) -> None:
    for what in What:
        for subject in ("job/1", "result/1", "series/1", "series/99", "instance/1.2", "host/::1", "peer/GONE", "node"):
            held.ledger.events.add(what, subject, "because\x1b of: CT", "somebody")
    messages = messages_of(held, patient_ids=True)
    assert len(messages) > 100
    assert [fault for message in messages for fault in faults(message)] == []
    hashes = {event.event.hash for event in held.ledger.audited.after(0, 1000)}
    assert {subject_of(message, "event-hash").get("ParticipantObjectID") for message in messages} < hashes


def test_a_series_that_grows_is_told_as_it_was_then(held: Released) -> None:
    before = held.ledger.audited.after(0, 1000)
    held.late_instance()
    [settled] = [one for one in before if one.event.what == What.SERIES_SETTLED]
    [again] = held.ledger.audited.after(settled.event.id - 1, 1)
    assert again.concerns.instances == settled.concerns.instances == {STUDY: {CTImageStorage: 5}}
