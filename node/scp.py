"""Storage and Verification SCP: receive, hand to the sink, answer. No decision is made here."""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from socketserver import BaseServer
from typing import cast
from weakref import WeakSet

from pydicom import Dataset
from pynetdicom import AE, evt, register_uid
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import ThreadedAssociationServer

from node.config import NodeSettings, Peer
from node.errors import NodeError
from node.intake import Answer, Intake, Received
from node.sop_classes import STORAGE_COMMITMENT_PUSH, TRANSFER_SYNTAXES, VERIFICATION, accepted_sop_classes

MAXIMUM_PDU_BYTES = 128 * 1024
MAXIMUM_ASSOCIATIONS = 50
TLS_HANDSHAKE_S = 10.0
NETWORK_TIMEOUT_S = 60.0
REJECTED_PERMANENT, SERVICE_USER = 0x01, 0x01
CALLING_AE_TITLE_NOT_RECOGNISED = 0x03
"""Result, source and diagnostic of A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

NOT_AUTHORIZED = 0x0124
"""Status of PS3.7 C.5.25."""

ENDINGS = (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)

log = logging.getLogger(__name__)

CommitmentReport = Callable[[Dataset, str], None]


class _Server(ThreadedAssociationServer):
    """Does the TLS handshake on the association's own thread, where a stalled one keeps nobody else waiting."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        assert self.socket is not None
        connection, address = self.socket.accept()
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def shutdown(self) -> None:
        """End `serve_forever`; pynetdicom's own would also look for the server in a list that only its AE keeps."""
        BaseServer.shutdown(self)
        self.server_close()

    def process_request_thread(
        self,
        request: socket.socket | tuple[bytes, socket.socket],
        client_address: tuple[str, int] | str,
    ) -> None:
        if isinstance(request, ssl.SSLSocket) and not _handshaken(request):
            self.shutdown_request(request)
            return
        super().process_request_thread(request, client_address)


def _handshaken(connection: ssl.SSLSocket) -> bool:
    try:
        connection.settimeout(TLS_HANDSHAKE_S)
        connection.do_handshake()
        connection.settimeout(None)
    except OSError:
        log.warning("TLS handshake failed")
        return False
    return True


@dataclass
class _Sending:
    """How a series has come so far."""

    open: set[int] = field(default_factory=set)
    associations: int = 0
    in_good_order: bool = True


class Sendings:
    """How each series that is not settled has come: by how many associations, and whether they ended in good order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[str, _Sending] = {}

    def sends(self, association: Association, series_instance_uid: str) -> None:
        """Remember that the association has brought an instance of the series."""
        with self._lock:
            sending = self._series.setdefault(series_instance_uid, _Sending())
            if id(association) not in sending.open:
                sending.open.add(id(association))
                sending.associations += 1

    def ended(self, association: Association, released: bool) -> bool:
        """The association is over; True if it had brought something."""
        with self._lock:
            sendings = [sending for sending in self._series.values() if id(association) in sending.open]
            for sending in sendings:
                sending.open.discard(id(association))
                sending.in_good_order &= released
        return bool(sendings)

    def is_open(self, series_instance_uid: str) -> bool:
        """Whether an association that is still open has brought an instance of the series."""
        with self._lock:
            return bool(self._series.get(series_instance_uid, _Sending()).open)

    def at_once(self, series_instance_uid: str) -> bool:
        """Whether one association, released in good order, has brought all of it; False for what nobody remembers."""
        with self._lock:
            sending = self._series.get(series_instance_uid, _Sending())
        return sending.associations == 1 and not sending.open and sending.in_good_order

    def forget(self, series_instance_uid: str) -> None:
        """The series has settled."""
        with self._lock:
            sending = self._series.get(series_instance_uid)
            if sending is not None and not sending.open:
                del self._series[series_instance_uid]


class StorageSCP:
    """The node's port: who may connect, and what happens to each request."""

    def __init__(
        self,
        settings: NodeSettings,
        peers: Mapping[str, Peer],
        intake: Intake,
        on_ended: Callable[[], None],
        on_commitment: CommitmentReport,
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._peers = peers
        self._intake = intake
        self._on_ended = on_ended
        self._on_commitment = on_commitment
        self._on_refused = on_refused
        """Told host and AE title of who is no peer."""
        self.sendings = Sendings()
        self._may_store: WeakSet[Association] = WeakSet()
        """Decided once for each association: a peer's host may have to be looked up in the network."""
        self._ae = _application_entity(settings)
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> tuple[str, int]:
        """Listen; returns the address, in which port 0 has become a real one.

        Raises
        ------
        NodeError
            If the address can not be listened on.
        """
        handlers: list[tuple[object, Callable[[Event], object]]] = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_ECHO, lambda event: 0x0000),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_EVENT_REPORT, self._on_event_report),
            *(
                (ending, self._on_association_ended)
                for ending in (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)
            ),
        ]
        try:
            server = self._ae.make_server(
                (self._settings.bind, self._settings.port),
                ae_title=self._settings.ae_title,
                contexts=self._ae.supported_contexts,
                ssl_context=self._settings.tls.context() if self._settings.tls else None,
                evt_handlers=handlers,  # type: ignore[arg-type]
                server_class=_Server,
            )
        except OSError as error:
            raise NodeError(f"the node can not listen (bind and port in node.yaml): {error}") from error
        threading.Thread(target=server.serve_forever, name="scp", daemon=True).start()
        self._server = server
        host, port = server.server_address[:2]
        log.info("listening", extra={"host": host, "port": port, "ae_title": self._settings.ae_title})
        return str(host), int(port)

    def stop(self) -> None:
        """Stop listening and end the associations; what was not acknowledged will be sent again by the peer."""
        if self._server:
            self._server.shutdown()
        for association in self._ae.active_associations:
            association.abort()

    def _on_requested(self, event: Event) -> None:
        requestor = event.assoc.requestor
        assert requestor.primitive is not None
        calling_ae_title = str(requestor.primitive.calling_ae_title).strip()
        known = _known(calling_ae_title, requestor.address, self._peers.values())
        unknown_may = self._settings.accept_unknown_peers
        if any("store" in peer.may for peer in known) or (unknown_may and not known):
            self._may_store.add(event.assoc)
        if known or unknown_may:
            return
        log.warning("association rejected: unknown peer", extra={"host": requestor.address})
        event.assoc.acse.send_reject(REJECTED_PERMANENT, SERVICE_USER, CALLING_AE_TITLE_NOT_RECOGNISED)
        event.assoc.kill()
        self._on_refused(requestor.address, calling_ae_title)

    def _on_store(self, event: Event) -> Dataset:
        request = cast(C_STORE, event.request)
        if event.assoc not in self._may_store:
            return _status(Answer(NOT_AUTHORIZED, "this peer may not store here"))
        answer = self._intake.accept(
            Received(
                encoded=event.encoded_dataset(),
                affected_sop_class_uid=str(request.AffectedSOPClassUID),
                affected_sop_instance_uid=str(request.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                calling_ae_title=str(event.assoc.requestor.ae_title).strip(),
            )
        )
        if answer.series_instance_uid:
            self.sendings.sends(event.assoc, answer.series_instance_uid)
        return _status(answer)

    def _on_association_ended(self, event: Event) -> None:
        """Of an association that is released, the connection closes after it: the first ending counts."""
        if self.sendings.ended(event.assoc, released=event.event is evt.EVT_RELEASED):
            self._on_ended()

    def _on_event_report(self, event: Event) -> tuple[int, None]:
        self._on_commitment(event.event_information, str(event.assoc.requestor.ae_title).strip())
        return 0x0000, None


def _application_entity(settings: NodeSettings) -> AE:
    ae = AE(settings.ae_title)
    ae.require_called_aet = True
    ae.maximum_pdu_size = MAXIMUM_PDU_BYTES
    ae.network_timeout = NETWORK_TIMEOUT_S
    ae.maximum_associations = MAXIMUM_ASSOCIATIONS
    for sop_class in accepted_sop_classes(settings.accept_sop_classes):
        if uid_to_service_class(sop_class) is ServiceClass:
            # Unknown to pynetdicom, which would abort at the first instance of it.
            register_uid(sop_class, f"Storage_{sop_class.replace('.', '_')}", StorageServiceClass)
        ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    ae.add_supported_context(VERIFICATION)
    # The peer that reports a commitment opens the association as SCP of that class (PS3.4 J.3.3).
    ae.add_supported_context(STORAGE_COMMITMENT_PUSH, scu_role=True, scp_role=True)
    return ae


def _known(calling_ae_title: str, address: str, peers: Iterable[Peer]) -> list[Peer]:
    """The peers that it may be; two may share an AE title, but not the rights."""
    return [peer for peer in peers if peer.ae_title == calling_ae_title and address in _addresses(peer.host)]


def _addresses(host: str) -> set[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def _status(answer: Answer) -> Dataset:
    status = Dataset()
    status.Status = answer.status
    if answer.comment:
        status.ErrorComment = answer.comment
    return status
