"""What is kept of the audit trail outside the ledger: its head, and how far it was exported.

A chain of hashes shows what was changed in it, not that its last events were cut off: what is left is a whole chain. So
the head is kept in a file beside the ledger. Who can write both can cut both; only the messages that another machine
has received are beyond such a hand.
"""

import json
import logging
import os
import socket
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from node.audit.messages import Message, Messages
from node.audit.syslog import send
from node.config import NodeSettings
from node.errors import DeliveryError
from node.ledger import Ledger
from node.ledger.events import Head
from node.storage import fsync_folder

BATCH = 200
"""Events that are read, and whose messages are sent, at a time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptHead:
    """A file that holds the id and the hash of an event."""

    path: Path

    def read(self) -> Head | None:
        """What was kept; None where nothing was.

        Raises
        ------
        ValueError
            If the file does not hold what was written into it.
        """
        if not self.path.is_file():
            return None
        document: Any = json.loads(self.path.read_text(encoding="ascii"))
        match document:
            case {"event_id": int(event_id), "hash": str(event_hash)}:
                return Head(event_id, event_hash)
        raise ValueError("it holds something else")

    def write(self, head: Head) -> None:
        """Put it in place of what was kept, durably and at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="ascii") as file:
            json.dump(asdict(head), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)
        fsync_folder(self.path.parent)


class AuditTrail:
    """The files of the audit trail, and its way to the syslog server; safe to call from several threads."""

    def __init__(self, settings: NodeSettings, messages: Messages, ledger: Ledger) -> None:
        self._syslog = settings.audit.syslog
        self._messages = messages
        self._ledger = ledger
        self._head = kept_head(settings.state_dir)
        self._exported = KeptHead(settings.state_dir / "audit" / "exported.json")
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._is_away = False
        self._is_broken = False

    def keep_head(self) -> None:
        """Keep the head as it is now; one that the ledger has lost stays, as the proof that events are missing."""
        with self._lock:
            self._keep_head()

    def follow(self) -> None:
        """Keep the head, and send what was not sent yet."""
        with self._lock:
            self._keep_head()
            while self._syslog and not self._is_broken and not self._ending.is_set() and self._export_batch():
                pass

    def end(self) -> None:
        """Keep the head, and send one batch more: what is left then is sent after the next start."""
        self._ending.set()
        with self._lock:
            self._keep_head()
            if self._syslog and not self._is_broken:
                self._export_batch()

    def _keep_head(self) -> None:
        complaint = missing_events(self._ledger, self._head)
        if complaint:
            if not self._is_broken:
                log.error("the audit trail is broken", extra={"reason": complaint})
            self._is_broken = True
            return
        head = self._ledger.events.head()
        if head is not None and head != self._head.read():
            self._head.write(head)

    def _export_batch(self) -> bool:
        """Send the next messages, then move the place on: a crash between sends them twice. False if none is left."""
        events = self._ledger.audited.after(self._place(), BATCH)
        messages = [message for message in map(self._messages.of, events) if message]
        if not events or (messages and not self._sent(messages)):
            return False
        last = events[-1].event
        self._exported.write(Head(last.id, last.hash))
        return True

    def _place(self) -> int:
        """Id of the last event that was sent."""
        try:
            kept = self._exported.read()
        except ValueError:
            kept = Head(0, "")
        if kept is not None and not self._ledger.events.has(kept):
            # Sent twice is better than never.
            log.warning("the place of the audit export is lost: everything is sent again")
            kept = None
        return kept.event_id if kept else 0

    def _sent(self, messages: list[Message]) -> bool:
        assert self._syslog is not None
        try:
            send(self._syslog, messages, socket.gethostname())
        except DeliveryError as error:
            # Once for each time that it goes away, not at every look.
            if not self._is_away:
                log.warning("audit messages wait", extra={"reason": str(error)})
            self._is_away = True
            return False
        if self._is_away:
            log.info("audit messages are sent again")
        self._is_away = False
        return True


def kept_head(state_dir: Path) -> KeptHead:
    """The head of the audit trail as it is kept beside the ledger."""
    return KeptHead(state_dir / "audit" / "head.json")


def missing_events(ledger: Ledger, kept: KeptHead) -> str | None:
    """Why the ledger does not hold all events that it had when its head was kept; None if it does."""
    try:
        head = kept.read()
    except ValueError:
        return f"{kept.path} does not hold what the node has written into it"
    if head is None or ledger.events.has(head):
        return None
    return f"it does not lead to event {head.event_id}, the last that was kept beside it: events were cut off"
