"""The ledger: instances, series, jobs, results, deliveries and events; the only package that speaks SQL."""

from collections.abc import Sequence

from node.ledger.agreements import AgreementLedger
from node.ledger.audited import AuditedLedger
from node.ledger.database import Database
from node.ledger.decisions import DecisionLedger
from node.ledger.deliveries import DeliveryLedger
from node.ledger.events import EventLedger
from node.ledger.jobs import JobLedger
from node.ledger.removal import RemovalLedger
from node.ledger.series import SeriesLedger
from node.ledger.succession import SuccessionLedger
from node.ledger.trends import TrendLedger


class Ledger:
    """The truth about everything that the node has received, made and sent."""

    def __init__(self, url: str, committing_peers: Sequence[str] = (), migrate: bool = True) -> None:
        self._database = Database(url)
        if migrate:
            self._database.migrate()
        else:
            self._database.require_present_version()
        self.series = SeriesLedger(self._database)
        self.jobs = JobLedger(self._database)
        self.succession = SuccessionLedger(self._database)
        self.deliveries = DeliveryLedger(self._database)
        self.decisions = DecisionLedger(self._database)
        self.trends = TrendLedger(self._database)
        self.agreements = AgreementLedger(self._database)
        self.removal = RemovalLedger(self._database, committing_peers)
        self.events = EventLedger(self._database)
        self.audited = AuditedLedger(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
