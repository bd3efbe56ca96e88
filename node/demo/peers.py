"""A simulated TPS or PACS: a real Storage SCP on a free port that keeps what it gets."""

import threading
from pathlib import Path
from typing import cast

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from node.intake import CANNOT_UNDERSTAND, SUCCESS
from node.sop_classes import TRANSFER_SYNTAXES, VERIFICATION, accepted_sop_classes


class ReceivingPeer:
    """Keeps every instance as a file named by its SOP Instance UID, and counts the associations."""

    def __init__(self, ae_title: str, folder: Path) -> None:
        self.ae_title = ae_title
        self.folder = folder
        self.associations = 0
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> int:
        """Listen on a free port of the loopback interface; returns it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ae = AE(self.ae_title)
        for sop_class in accepted_sop_classes():
            ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        ae.add_supported_context(VERIFICATION)
        self._server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_ESTABLISHED, self._count)],
        )
        assert self._server is not None
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()

    def files(self) -> list[Path]:
        """What has come so far."""
        return sorted(self.folder.glob("*.dcm"))

    def _count(self, event: Event) -> None:
        with self._lock:
            self.associations += 1

    def _store(self, event: Event) -> Dataset:
        uid = UID(str(cast(C_STORE, event.request).AffectedSOPInstanceUID))
        status = Dataset()
        status.Status = SUCCESS if uid.is_valid else CANNOT_UNDERSTAND
        if uid.is_valid:
            (self.folder / f"{uid}.dcm").write_bytes(event.encoded_dataset())
        return status
