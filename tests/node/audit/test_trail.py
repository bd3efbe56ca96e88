"""The audit trail on its way out: every message in order, none lost while the server is away, and a kept head."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
import trustme
from pynetdicom import AE
from sqlalchemy import create_engine, text

from node.audit.messages import Messages
from node.audit.trail import AuditTrail, kept_head, missing_events
from node.config import Audit, NodeSettings, load_config
from node.connections import Syslog
from node.ledger.events import What
from node.service import Node
from tests.command_line import answer_of
from tests.node.audit.schema import faults
from tests.node.audit.syslog_server import SyslogServer, parsed, syslog_server
from tests.node.released import Released
from tests.peers import config_folder, running_node


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Released]:
    one = Released(tmp_path)
    yield one
    one.ledger.close()


def trail(state: Released, server: SyslogServer | None = None, **tls: Path) -> AuditTrail:
    syslog = None
    if server:
        syslog = Syslog.model_validate({"host": "127.0.0.1", "port": server.port, "transport": server.transport, **tls})
    settings = NodeSettings(state_dir=state.folder, audit=Audit(syslog=syslog))
    return AuditTrail(settings, Messages("RTNODE", {}), state.ledger)


def told(message: Element) -> str:
    """The place in the chain that a message names."""
    return message.findtext("ParticipantObjectIdentification[last()]/ParticipantObjectName", "")


def add(state: Released, *whats: What) -> None:
    for what in whats:
        state.ledger.events.add(what, "node")


def test_frames_are_those_of_rfc_5424(state: Released) -> None:
    add(state, What.NODE_STARTED)
    state.ledger.events.add(What.PEER_REFUSED, "host/192.0.2.9", "is no peer", "STRANGER")
    with syslog_server("tcp") as server:
        trail(state, server).follow()
        started, refused = map(parsed, server.frames)
    assert (started["priority"], refused["priority"]) == ("85", "84")  # authpriv: notice, warning
    assert (started["app"], started["process"], started["message_id"]) == ("rtnode", "-", "DICOM+RFC3881")
    [event, _] = state.ledger.audited.after(0, 10)
    assert started["timestamp"] == event.event.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_udp_takes_one_message_in_a_datagram(state: Released) -> None:
    add(state, What.NODE_STARTED, What.NODE_STOPPED)
    with syslog_server("udp") as server:
        trail(state, server).follow()
        server.stop()
    assert [told(message) for message in server.messages] == ["event 1", "event 2"]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def test_tls_reaches_only_a_server_of_the_authority(state: Released, authority: trustme.CA, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "other", "client")}
    authority.cert_pem.write_to_path(str(files["ca"]))
    trustme.CA().cert_pem.write_to_path(str(files["other"]))
    authority.issue_cert("node.example.org").private_key_and_cert_chain_pem.write_to_path(str(files["client"]))
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    add(state, What.NODE_STARTED)
    with syslog_server("tls", context) as server:
        trail(state, server, ca=files["other"]).follow()
        trail(state, server, ca=files["ca"]).follow()
        assert server.frames == []
        trail(state, server, ca=files["ca"], certificate=files["client"]).follow()
        assert [told(message) for message in server.messages] == ["event 1"]


def test_nothing_is_lost_while_the_server_is_away_or_the_node_is_down(
    state: Released, caplog: pytest.LogCaptureFixture
) -> None:
    server = SyslogServer("tcp", resets_first=1)
    add(state, What.NODE_STARTED)
    one = trail(state, server)
    one.follow()
    one.follow()
    server.start()
    one.follow()
    assert server.connections == 1
    add(state, What.NODE_STOPPED)
    again = trail(state, server)
    again.follow()
    add(state, What.NODE_STARTED)
    again.follow()
    again.follow()
    server.stop()
    assert [told(message) for message in server.messages] == ["event 1", "event 2", "event 3"]
    assert [record.message for record in caplog.records] == ["audit messages wait"]


def test_a_place_that_was_lost_sends_everything_again(state: Released) -> None:
    add(state, What.NODE_STARTED)
    with syslog_server("tcp") as server:
        trail(state, server).follow()
        (state.folder / "audit" / "exported.json").write_text("{")
        trail(state, server).follow()
        trail(state, server).follow()
    assert [told(message) for message in server.messages] == ["event 1", "event 1"]


def test_long_history_comes_in_order_and_an_end_sends_no_more_than_a_batch(
    state: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.audit.trail.BATCH", 3)
    add(state, *[What.NODE_STARTED] * 10)
    with syslog_server("tcp") as server:
        one = trail(state, server)
        one.end()
        assert [told(message) for message in server.messages] == [f"event {number}" for number in (1, 2, 3)]
        trail(state, server).follow()
        assert [told(message) for message in server.messages] == [f"event {number}" for number in range(1, 11)]


def cut_off(state: Released, first_lost: int) -> None:
    engine = create_engine(f"sqlite:///{state.folder / 'ledger.sqlite3'}")
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER events_no_DELETE"))
        connection.execute(text("DELETE FROM events WHERE id >= :first"), {"first": first_lost})
    engine.dispose()


@pytest.mark.req("NODE-12")
def test_events_that_are_cut_off_are_missed_even_when_others_take_their_places(state: Released) -> None:
    add(state, *[What.NODE_STARTED] * 3)
    one = trail(state)
    one.follow()
    assert missing_events(state.ledger, kept_head(state.folder)) is None
    cut_off(state, first_lost=3)
    assert state.ledger.events.first_broken() is None
    complaint = "it does not lead to event 3, the last that was kept beside it: events were cut off"
    assert missing_events(state.ledger, kept_head(state.folder)) == complaint
    add(state, What.NODE_STARTED)
    trail(state).follow()
    assert state.ledger.events.first_broken() is None
    assert missing_events(state.ledger, kept_head(state.folder)) == complaint


@pytest.mark.req("NODE-12")
def test_verify_finds_a_cut_end_by_the_kept_head_or_by_a_message(tmp_path: Path) -> None:
    config = config_folder(tmp_path)
    state = Released(tmp_path / "state")
    add(state, *[What.NODE_STARTED] * 3)
    head = state.ledger.events.head()
    assert head is not None
    trail(state).follow()
    arguments = ("audit", "verify", "--config", str(config))
    assert answer_of(*arguments, "--holds", head.hash).stdout == "the audit trail is whole\n"
    cut_off(state, first_lost=3)
    cut = answer_of(*arguments)
    assert (cut.returncode, cut.stderr.split(": ")[1]) == (1, "the audit trail is broken")
    # Whoever removes the head as well is found by what another machine has received.
    kept_head(state.folder).path.unlink()
    assert answer_of(*arguments).returncode == 0
    held = answer_of(*arguments, "--holds", head.hash)
    assert (held.returncode, held.stderr) == (1, "rtnode: the audit trail is broken: no event has this hash\n")
    state.ledger.close()


def test_export_writes_the_messages_after_an_event(tmp_path: Path) -> None:
    config = config_folder(tmp_path)
    state = Released(tmp_path / "state")
    add(state, What.NODE_STARTED, What.JOB_FAILED, What.NODE_STOPPED)
    state.ledger.close()
    output = tmp_path / "audit.xml"
    arguments = ("audit", "export", "--since", "1", "--output", str(output), "--config", str(config))
    assert answer_of(*arguments).stdout == f"1 audit messages in {output}\n"
    [line] = output.read_text().splitlines()
    assert "event 3" in line
    again = answer_of(*arguments)
    assert (again.returncode, again.stderr.startswith("rtnode: the audit messages can not be written")) == (1, True)


def test_a_running_node_tells_its_start_a_refused_peer_and_its_stop(scheduler: str, tmp_path: Path) -> None:
    with syslog_server("tcp") as server:
        syslog = {"host": "127.0.0.1", "port": server.port, "transport": "tcp"}
        settings = {"engine": scheduler, "audit": {"syslog": syslog}}
        with running_node(config_folder(tmp_path, settings)) as running:
            for _ in range(2):
                ask_for_association(running.address)
        assert [message[0][0].get("originalText") for message in server.messages] == [
            "Application Activity",
            "Security Alert",
            "Application Activity",
        ]
        assert [fault for message in server.messages for fault in faults(message)] == []


@pytest.mark.req("NODE-12")
def test_a_node_says_at_its_start_that_events_are_missing(
    tmp_path: Path, scheduler: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_folder(tmp_path, {"engine": scheduler})
    with running_node(config):
        pass
    cut_off(Released(tmp_path / "state"), first_lost=2)
    node = Node(load_config(config))
    node.start()
    node.stop()
    assert "the audit trail is broken" in [one.message for one in caplog.records if one.levelname == "ERROR"]


def ask_for_association(address: tuple[str, int]) -> None:
    ae = AE("STRANGER")
    ae.add_requested_context("1.2.840.10008.1.1")
    assert ae.associate(*address, ae_title="RTNODE").is_rejected
