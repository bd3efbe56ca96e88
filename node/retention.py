"""Removes what is old and safe elsewhere: inputs and results whose time is over and whose results were taken.

Rows and events stay; only files go, and never to make room.
"""

import logging
from datetime import UTC, datetime, timedelta

from node.ledger import Ledger
from node.storage import Storage, page_files

log = logging.getLogger(__name__)


class Retention:
    """The retention time of the site."""

    def __init__(self, retention_days: float, ledger: Ledger, storage: Storage) -> None:
        self._time = timedelta(days=retention_days)
        self._ledger = ledger
        self._storage = storage

    def remove_expired(self) -> int:
        """Remove the files of every series and result that may go; returns how many files."""
        removed = 0
        for removal in self._ledger.removal.expired(datetime.now(UTC) - self._time):
            # The row first: a crash between the two leaves a file without a row, never a row without its file.
            if not self._ledger.removal.forget(removal):
                continue
            self._storage.remove(removal.paths)
            # The picture shows the patient: it goes with the images that it was made of.
            self._storage.remove(page_files(removal.paths) if removal.result_id is not None else ())
            removed += len(removal.paths)
        if removed:
            log.info("expired files removed", extra={"files": removed})
        return removed
