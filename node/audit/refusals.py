"""Refused associations in the audit trail, once in an hour for each host: a scan must not fill the ledger."""

import threading
import time

from node.ledger import Ledger
from node.ledger.events import What

AGAIN_AFTER_S = 3600.0
HOSTS_REMEMBERED = 1000


class Refusals:
    """Who was refused of late."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._last_s: dict[str, float] = {}

    def add(self, host: str, calling_ae_title: str) -> None:
        """Record that this host asked for an association under a title that it does not have."""
        if self._is_new(host):
            why = "asked for an association and is no peer; more of this host within an hour are not recorded"
            self._ledger.events.add(What.PEER_REFUSED, f"host/{host}", why, calling_ae_title)

    def _is_new(self, host: str) -> bool:
        now_s = time.monotonic()
        with self._lock:
            last_s = self._last_s.get(host)
            if last_s is not None and now_s - last_s < AGAIN_AFTER_S:
                return False
            if len(self._last_s) >= HOSTS_REMEMBERED:
                self._last_s.clear()
            self._last_s[host] = now_s
        return True
