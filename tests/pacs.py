"""A simulated PACS: a real Storage and Storage Commitment SCP on a free port, with the faults that real ones have."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, repeat
from socketserver import BaseServer
from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage, RTStructureSetStorage, SegmentationStorage
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.transport import ThreadedAssociationServer

from node.config import Peer
from node.sop_classes import (
    OFFERED_TRANSFER_SYNTAXES,
    STORAGE_COMMITMENT_PUSH,
    STORAGE_COMMITMENT_PUSH_INSTANCE,
    VERIFICATION,
)

SUCCESS = 0x0000
COMMITTED, COMMITTED_WITH_FAILURES = 1, 2
"""Event Type ID of a commitment report (PS3.4 J.3.3)."""
NO_SUCH_OBJECT_INSTANCE = 0x0112
LONGEST_STALL_S = 30.0
POLL_S = 0.02
"""How soon the server notices that it is to stop."""
SOP_CLASSES = (CTImageStorage, RTStructureSetStorage, SegmentationStorage)


class Rejection(Enum):
    """Result, source and diagnostic of A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    PERMANENT = (0x01, 0x01, 0x03)
    TRANSIENT = (0x02, 0x03, 0x02)


class Commitment(Enum):
    """What the PACS answers when it is asked to commit."""

    GIVEN = "given"
    REFUSED = "refused"
    NEVER_ANSWERED = "never answered"


@dataclass
class Faults:
    """What goes wrong. The sequences are used up, one element for each association or instance; then all is well."""

    rejections: Sequence[Rejection] = ()
    statuses: Sequence[int] = ()
    abort_after: Sequence[int | None] = ()
    """For each association, after how many instances it is aborted."""
    stalls: Sequence[bool] = ()
    """For each instance, whether the answer is kept back."""
    commitment: Commitment = Commitment.GIVEN


@dataclass
class ReceivedAssociation:
    """What one association has brought."""

    calling_ae_title: str
    datasets: list[Dataset] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ending: str = ""
    """`released` or `aborted`, when it is over."""
    first_request_s: float = 0.0
    """When the first C-STORE request came, on the monotonic clock."""

    @property
    def sop_instance_uids(self) -> list[str]:
        """In the order of their coming."""
        return [str(dataset.SOPInstanceUID) for dataset in self.datasets]


class _Server(ThreadedAssociationServer):
    def service_actions(self) -> None:
        """Nothing: pynetdicom's own collects garbage at every 60th turn of the loop, which turns often here."""


class Pacs:
    """One simulated PACS; it listens from `start` to `stop`, and its port stays its own in between."""

    def __init__(
        self,
        faults: Faults | None = None,
        ae_title: str = "PACS",
        takes: Sequence[str] = SOP_CLASSES,
        syntaxes: Sequence[str] = OFFERED_TRANSFER_SYNTAXES,
    ) -> None:
        self.ae_title = ae_title
        self.faults = faults or Faults()
        self.associations: list[ReceivedAssociation] = []
        self.commitment_requests: list[Dataset] = []
        self.report_to: tuple[str, int] | None = None
        """Where commitment reports go: the address of the node."""
        self.go_on = threading.Event()
        """Set it to end a stall."""
        self._rejections = iter(self.faults.rejections)
        self._statuses = chain(self.faults.statuses, repeat(SUCCESS))
        self._aborts = chain(self.faults.abort_after, repeat(None))
        self._stalls = chain(self.faults.stalls, repeat(False))
        self._abort_after: dict[int, int | None] = {}
        self._received: dict[int, ReceivedAssociation] = {}
        self._takes = takes
        self._syntaxes = list(syntaxes)
        # Bound but not listening: connections are refused, and nobody else gets the port.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: int = self._reserved.getsockname()[1]
        self._ae: AE | None = None
        self._server: ThreadedAssociationServer | None = None
        self._reports: list[threading.Thread] = []

    def peer(self, **changes: Any) -> Peer:
        """The PACS as the node's configuration has it."""
        return Peer(ae_title=self.ae_title, host="127.0.0.1", port=self.port, **changes)

    def start(self) -> None:
        """Listen."""
        self._ae = AE(self.ae_title)
        self._ae.maximum_associations = 50
        for sop_class in self._takes:
            self._ae.add_supported_context(sop_class, self._syntaxes)
        self._ae.add_supported_context(VERIFICATION)
        self._ae.add_supported_context(STORAGE_COMMITMENT_PUSH)
        handlers: list[EventHandlerType] = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_RELEASED, lambda event: self._on_ended(event, "released")),
            (evt.EVT_ABORTED, lambda event: self._on_ended(event, "aborted")),
            (evt.EVT_CONN_CLOSE, lambda event: self._on_ended(event, "aborted")),
        ]
        contexts = self._ae.supported_contexts
        self._server = self._ae.make_server(
            ("127.0.0.1", self.port),
            contexts=contexts,
            evt_handlers=handlers,
            server_class=_Server,
        )
        threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name=self.ae_title, daemon=True).start()

    def stop(self) -> None:
        """Stop listening and end all associations."""
        self.go_on.set()
        if self._ae is not None and self._server is not None:
            # The server's own shutdown expects to have been started by its AE, with a slow poll.
            BaseServer.shutdown(self._server)
            self._server.server_close()
            for association in self._ae.active_associations:
                association.abort()
            self._ae = self._server = None
        for report in self._reports:
            report.join()

    def close(self) -> None:
        """Stop, and give the port back."""
        self.stop()
        self._reserved.close()

    @property
    def datasets(self) -> list[Dataset]:
        """Everything that was stored: answered with success or with a warning."""
        return [
            dataset
            for association in list(self.associations)
            for dataset, status in zip(association.datasets, association.statuses, strict=False)
            if status == SUCCESS or status >> 12 == 0xB
        ]

    @property
    def sop_instance_uids(self) -> set[str]:
        """The UIDs of everything that was stored."""
        return {str(dataset.SOPInstanceUID) for dataset in self.datasets}

    def _on_requested(self, event: Event) -> None:
        rejection = next(self._rejections, None)
        if rejection is not None:
            event.assoc.acse.send_reject(*rejection.value)
            event.assoc.kill()

    def _on_accepted(self, event: Event) -> None:
        received = ReceivedAssociation(str(event.assoc.requestor.ae_title).strip())
        self._abort_after[id(event.assoc)] = next(self._aborts)
        self._received[id(event.assoc)] = received
        self.associations.append(received)

    def _on_store(self, event: Event) -> int:
        received = self._received[id(event.assoc)]
        if len(received.statuses) == self._abort_after[id(event.assoc)]:
            event.assoc.abort()
            return SUCCESS
        received.first_request_s = received.first_request_s or time.monotonic()
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        received.datasets.append(dataset)
        if next(self._stalls):
            self.go_on.wait(LONGEST_STALL_S)
        status = next(self._statuses)
        received.statuses.append(status)
        return status

    def _on_ended(self, event: Event, ending: str) -> None:
        received = self._received.get(id(event.assoc))
        if received is not None and not received.ending:
            received.ending = ending

    def _on_action(self, event: Event) -> tuple[int, None]:
        request = event.action_information
        self.commitment_requests.append(request)
        if self.faults.commitment is not Commitment.NEVER_ANSWERED:
            report = threading.Thread(target=self._report, args=(request, str(event.assoc.requestor.ae_title)))
            report.start()
            self._reports.append(report)
        return SUCCESS, None

    def _report(self, request: Dataset, node_ae_title: str) -> None:
        """N-EVENT-REPORT over an association of its own, in which the requestor is the SCP (PS3.4 J.3.3)."""
        assert self.report_to is not None, "report_to is not set"
        refused = self.faults.commitment is Commitment.REFUSED
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        references = list(request.ReferencedSOPSequence)
        if refused:
            references[0].FailureReason = NO_SUCH_OBJECT_INSTANCE
            report.FailedSOPSequence = references[:1]
        report.ReferencedSOPSequence = references[1:] if refused else references
        context = build_context(STORAGE_COMMITMENT_PUSH)
        with self._association(self.report_to, node_ae_title, [context]) as association:
            association.send_n_event_report(
                report,
                COMMITTED_WITH_FAILURES if refused else COMMITTED,
                STORAGE_COMMITMENT_PUSH,
                STORAGE_COMMITMENT_PUSH_INSTANCE,
            )

    @contextmanager
    def _association(self, address: tuple[str, int], ae_title: str, contexts: list[Any]) -> Iterator[Association]:
        # Role selection makes the requestor the SCP (PS3.7 D.3.3.4).
        role = build_role(STORAGE_COMMITMENT_PUSH, scp_role=True)
        association = AE(self.ae_title).associate(*address, contexts=contexts, ae_title=ae_title, ext_neg=[role])
        assert association.is_established, "the node does not accept the association"
        try:
            yield association
        finally:
            association.release()


@contextmanager
def pacs(faults: Faults | None = None, ae_title: str = "PACS", **changes: Any) -> Iterator[Pacs]:
    """A simulated PACS that listens."""
    one = Pacs(faults, ae_title, **changes)
    one.start()
    try:
        yield one
    finally:
        one.close()


def send(
    datasets: Sequence[Dataset],
    address: tuple[str, int],
    calling_ae_title: str = "CONSOLE",
    called: str = "RTNODE",
    on_answer: Callable[[], object] = lambda: None,
) -> list[int]:
    """Send datasets to a node over one association, in their order and as often as they are given; the statuses."""
    ae = AE(calling_ae_title)
    contexts = [build_context(one, list(OFFERED_TRANSFER_SYNTAXES)) for one in {d.SOPClassUID for d in datasets}]
    association = ae.associate(*address, contexts=contexts, ae_title=called)
    assert association.is_established, "the node does not accept the association"
    statuses = []
    for dataset in datasets:
        statuses.append(int(association.send_c_store(dataset).Status))
        on_answer()
    association.release()
    return statuses
