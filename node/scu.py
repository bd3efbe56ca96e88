"""Storage, Verification, Query/Retrieve and Storage Commitment SCU: one association, the peer's every answer kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from node.config import Peer
from node.errors import DeliveryError, PeerRefused
from node.sop_classes import (
    OFFERED_TRANSFER_SYNTAXES,
    STORAGE_COMMITMENT_PUSH,
    STORAGE_COMMITMENT_PUSH_INSTANCE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    VERIFICATION,
)

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)
STORED_WITH_WARNING = frozenset({0xB000, 0xB006, 0xB007})
"""Statuses of PS3.4 B.2.3 with which the instance is stored all the same."""
REFUSED_FOR_GOOD = frozenset({0x0122, 0x0124, *range(0xA900, 0xAA00), *range(0xC000, 0xD000)})
"""Statuses after which the same instance would be refused again: class, right, data set."""
REJECTED_PERMANENT = 0x01
COMMIT = 1
"""Action Type ID of a commitment request (PS3.4 J.3.2)."""


@dataclass(frozen=True)
class Outgoing:
    """One instance to send, and the file that holds it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path


class Scu:
    """The node as the requestor of associations."""

    def __init__(self, ae_title: str) -> None:
        self._ae_title = ae_title

    def echo(self, peer: Peer) -> None:
        """C-ECHO; raises DeliveryError or PeerRefused when the peer does not answer it with success."""
        with self._association(peer, [build_context(VERIFICATION)]) as association:
            status = association.send_c_echo()
            if "Status" not in status or status.Status != SUCCESS:
                raise DeliveryError("the peer does not answer C-ECHO with success")

    def send(self, peer: Peer, instances: Sequence[Outgoing], on_answer: Callable[[Outgoing, int], None]) -> None:
        """Send all instances over one association; `on_answer` is told the status of each.

        Raises
        ------
        DeliveryError
            If not every instance was taken, and another attempt may succeed.
        PeerRefused
            If the peer refused in a way that will not change.
        """
        with self._association(peer, _contexts(instances)) as association:
            _require_contexts(association, instances)
            for outgoing in instances:
                status = self._store(association, outgoing)
                on_answer(outgoing, status)
                _require_stored(status)

    def find(self, peer: Peer, query: Dataset) -> list[Dataset]:
        """C-FIND at the level of the query (Study Root); the matches."""
        with self._association(peer, [build_context(STUDY_ROOT_FIND)]) as association:
            matches = []
            for status, match in association.send_c_find(query, STUDY_ROOT_FIND):
                _require_pending_or_success(status, "C-FIND")
                if match is not None:
                    matches.append(match)
            return matches

    def move(self, peer: Peer, query: Dataset) -> None:
        """C-MOVE to this node; what is moved arrives at the node's own port."""
        with self._association(peer, [build_context(STUDY_ROOT_MOVE)]) as association:
            for status, _ in association.send_c_move(query, self._ae_title, STUDY_ROOT_MOVE):
                _require_pending_or_success(status, "C-MOVE")

    def request_commitment(self, peer: Peer, transaction_uid: UID, instances: Sequence[Outgoing]) -> None:
        """N-ACTION of Storage Commitment; the answer comes later, by N-EVENT-REPORT (PS3.4 J.3)."""
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = [_reference(outgoing) for outgoing in instances]
        with self._association(peer, [build_context(STORAGE_COMMITMENT_PUSH)]) as association:
            status, _ = association.send_n_action(
                request, COMMIT, STORAGE_COMMITMENT_PUSH, STORAGE_COMMITMENT_PUSH_INSTANCE
            )
            if "Status" not in status or status.Status != SUCCESS:
                raise DeliveryError("the peer does not take the request for commitment")

    def _store(self, association: Association, outgoing: Outgoing) -> int:
        if not association.is_established:
            raise DeliveryError("the peer ended the association")
        answer = association.send_c_store(dcmread(outgoing.path))
        if "Status" not in answer:
            raise DeliveryError("the peer did not answer a C-STORE request")
        return int(answer.Status)

    @contextmanager
    def _association(self, peer: Peer, contexts: list[PresentationContext]) -> Iterator[Association]:
        ae = AE(self._ae_title)
        ae.connection_timeout = CONNECT_TIMEOUT_S
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ANSWER_TIMEOUT_S
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=contexts,
            ae_title=peer.ae_title,
            max_pdu=0,
            tls_args=(peer.tls.context(), peer.host) if peer.tls else None,
        )
        if not association.is_established:
            _raise_not_established(association)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()


def _contexts(instances: Sequence[Outgoing]) -> list[PresentationContext]:
    """One context for each SOP class and way of encoding; what is compressed is sent as it is."""
    compressed = {(one.sop_class_uid, one.transfer_syntax_uid) for one in instances if _is_compressed(one)}
    plain = {one.sop_class_uid for one in instances if not _is_compressed(one)}
    return [
        *(build_context(sop_class, list(OFFERED_TRANSFER_SYNTAXES)) for sop_class in sorted(plain)),
        *(build_context(sop_class, syntax) for sop_class, syntax in sorted(compressed)),
    ]


def _is_compressed(outgoing: Outgoing) -> bool:
    return UID(outgoing.transfer_syntax_uid).is_compressed


def _require_contexts(association: Association, instances: Sequence[Outgoing]) -> None:
    accepted = {
        (str(one.abstract_syntax), one.transfer_syntax[0].is_compressed) for one in association.accepted_contexts
    }
    for outgoing in instances:
        if (outgoing.sop_class_uid, _is_compressed(outgoing)) not in accepted:
            raise PeerRefused(f"the peer does not accept {UID(outgoing.sop_class_uid).name} in this transfer syntax")


def _require_stored(status: int) -> None:
    if status == SUCCESS or status in STORED_WITH_WARNING:
        return
    if status in REFUSED_FOR_GOOD:
        raise PeerRefused(f"the peer refused an instance with status 0x{status:04X}")
    raise DeliveryError(f"the peer answered status 0x{status:04X}")


def _require_pending_or_success(status: Dataset, what: str) -> None:
    if "Status" not in status:
        raise DeliveryError(f"the peer did not answer {what}")
    if status.Status != SUCCESS and status.Status not in PENDING:
        raise DeliveryError(f"the peer answered {what} with status 0x{status.Status:04X}")


def _raise_not_established(association: Association) -> None:
    if association.is_rejected:
        answer = association.acceptor.primitive
        if answer is not None and answer.result == REJECTED_PERMANENT:
            raise PeerRefused(f"the peer rejects the association for good (diagnostic {answer.diagnostic})")
        raise DeliveryError("the peer rejects the association for now")
    if association.rejected_contexts:
        refused = ", ".join(UID(one.abstract_syntax or "").name for one in association.rejected_contexts)
        raise PeerRefused(f"the peer does not accept {refused} in this transfer syntax")
    raise DeliveryError("the peer can not be reached, or does not negotiate")


def _reference(outgoing: Outgoing) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = outgoing.sop_class_uid
    item.ReferencedSOPInstanceUID = outgoing.sop_instance_uid
    return item
