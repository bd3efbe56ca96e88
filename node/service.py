"""The node at work: one loop settles, routes, dispatches, collects and delivers; everything else wakes it.

The loop holds no state that matters. Each step asks the ledger what there is to do, so that a node that was killed at
any moment goes on from there.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import ParamSpec

from apscheduler.schedulers.background import BackgroundScheduler

from node.audit.messages import Messages
from node.audit.refusals import Refusals
from node.audit.trail import AuditTrail
from node.config import Config
from node.delivery import Outbox
from node.dispatch import Dispatch
from node.engine import Engine
from node.intake import Intake
from node.ledger import Ledger
from node.ledger.events import What
from node.ledger.schema import Series
from node.linking import Linking
from node.notify import notify, watchdog_interval_s
from node.retention import Retention
from node.retrieve import Retriever
from node.scp import StorageSCP
from node.scu import Scu
from node.series import Assessment, assess, is_final
from node.storage import Storage
from node.web.decisions import Decisions
from node.web.page import Page

WAKE_AT_LEAST_EVERY_S = 1.0
LONGEST_ROUND_S = 120.0
"""A loop that has not turned for so long hangs; systemd is no longer told that all is well."""
COMMITMENT_CHECK_MIN = 10
RETENTION_CHECK_H = 1
ALARM_CHECK_MIN = 10
AUDIT_EVERY_S = 5
FETCH_AGAIN_MIN = 15

log = logging.getLogger(__name__)

P = ParamSpec("P")


class Node:
    """One running node."""

    def __init__(self, config: Config) -> None:
        self._config = config
        settings = config.node
        self._storage = Storage(settings.state_dir, settings.min_free_gib)
        self.ledger = Ledger(settings.ledger_url, [name for name, peer in config.peers.items() if peer.commitment])
        self._pipelines = config.loaded_pipelines()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._listening_since = datetime.max.replace(tzinfo=UTC)
        self._assessed: dict[int, tuple[int, Assessment]] = {}
        scu = Scu(settings.ae_title)
        self._engine = Engine(settings, config.pipelines, self.wake)
        self._dispatch = Dispatch(config, self._pipelines, self.ledger, self._storage, self._engine)
        self._outbox = Outbox(self.ledger, self._storage, config.peers, settings.delivery, scu, self.wake)
        self._retriever = Retriever(config.peers, config.roles, scu, self._peer_queried)
        self._linking = Linking(config, self._pipelines, self.ledger, self._retriever.is_prior)
        self._fetching = ThreadPoolExecutor(max_workers=1, thread_name_prefix="retrieve")
        self._retention = Retention(settings.retention_days, self.ledger, self._storage)
        intake = Intake(self._storage, self.ledger)
        self._refusals = Refusals(self.ledger)
        self._scp = StorageSCP(
            settings, config.peers, intake, self._association_ended, self._outbox.on_commitment, self._peer_refused
        )
        messages = Messages(settings.ae_title, config.peers, settings.audit.patient_ids)
        self._audit = AuditTrail(settings, messages, self.ledger)
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._page = _page(config, self.ledger, self._storage)
        self._started = ExitStack()
        self._turned_s = time.monotonic()
        self._loop = threading.Thread(target=self._run, name="service loop")

    def start(self) -> tuple[str, int]:
        """Take up what an earlier run left, then listen; returns the address."""
        self._storage.sweep()
        left = self.ledger.jobs.recover(self._config.node.max_attempts) + self.ledger.deliveries.recover()
        log.info("ledger taken up", extra={"left_under_way": left})
        started = self._started
        started.callback(self.ledger.close)
        # Looked at before the first new event: one more would hide that the last ones were cut off.
        self._audit.keep_head()
        self.ledger.events.add(What.NODE_STARTED, "node")
        started.callback(self._attempt, self._end_audit)
        started.callback(self.ledger.jobs.put_back)
        started.callback(self.ledger.agreements.put_back)
        started.callback(self._engine.stop)
        self._engine.start()
        started.callback(self._outbox.stop)
        started.callback(self._fetching.shutdown, wait=False, cancel_futures=True)
        self._start_periodic_work()
        started.callback(self._scheduler.shutdown, wait=False)
        self._loop.start()
        started.callback(self._end_loop)
        if self._page:
            host, port = self._page.start()
            started.callback(self._page.stop)
            log.info("status page", extra={"host": host, "port": port})
        self._listening_since = datetime.now(UTC)
        address = self._scp.start()
        started.callback(self._scp.stop)
        notify("READY=1")
        return address

    def stop(self) -> None:
        """End what was started, the last first: no new associations, then the loop, the deliveries, the workers."""
        notify("STOPPING=1")
        self._started.close()
        log.info("stopped")

    def _end_loop(self) -> None:
        self._stopping.set()
        self.wake()
        self._loop.join()

    def wake(self) -> None:
        """Let the loop look at once."""
        self._woken.set()

    def _association_ended(self) -> None:
        """Look now, and again when the grace time is over, not at the next round."""
        self.wake()
        at = datetime.now(UTC) + timedelta(seconds=self._config.node.settle.grace_s)
        self._scheduler.add_job(self.wake, "date", run_date=at, misfire_grace_time=None)

    def _peer_refused(self, host: str, calling_ae_title: str) -> None:
        self._attempt(self._refusals.add, host, calling_ae_title)

    def _peer_queried(self, name: str, modalities: Sequence[str]) -> None:
        why = f"the series of a patient: {', '.join(modalities)}"
        self._attempt(self.ledger.events.add, What.PEER_QUERIED, f"peer/{name}", why)

    def _start_periodic_work(self) -> None:
        add = self._scheduler.add_job
        add(self._outbox.request_commitments, "interval", minutes=COMMITMENT_CHECK_MIN)
        add(self._retention.remove_expired, "interval", hours=RETENTION_CHECK_H)
        add(self._raise_alarms, "interval", minutes=ALARM_CHECK_MIN)
        add(self._attempt, "interval", [self._audit.follow], seconds=AUDIT_EVERY_S)
        add(self._fetch_all_missing, "interval", minutes=FETCH_AGAIN_MIN)
        watchdog_s = watchdog_interval_s()
        if watchdog_s:
            add(self._report_alive, "interval", seconds=watchdog_s)
        self._scheduler.start()

    def _raise_alarms(self) -> None:
        now = datetime.now(UTC)
        held_before = {name: now - timedelta(hours=one.alarm_h) for name, one in self._config.pipelines.items()}
        for result_id in self.ledger.decisions.raise_alarms(held_before):
            log.error("result held too long: a person has to release or reject it", extra={"result": result_id})

    def _end_audit(self) -> None:
        self.ledger.events.add(What.NODE_STOPPED, "node")
        self._audit.end()

    def _report_alive(self) -> None:
        if time.monotonic() - self._turned_s < LONGEST_ROUND_S:
            notify("WATCHDOG=1")

    def _run(self) -> None:
        steps = (self._settle, self._route, self._dispatch.collect, self._dispatch.dispatch, self._outbox.start_due)
        while not self._stopping.is_set():
            self._woken.wait(WAKE_AT_LEAST_EVERY_S)
            self._woken.clear()
            self._turned_s = time.monotonic()
            for step in steps:
                self._attempt(step)

    def _attempt(self, step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """What fails leaves the rest alone; the ledger still has it, so it comes up again."""
        try:
            step(*args, **kwargs)
        except Exception:
            log.exception("service step failed", extra={"step": step.__name__})

    def _settle(self) -> None:
        for series in self.ledger.series.receiving():
            if self._is_quiet(series) or not self._scp.sendings.is_open(series.series_instance_uid):
                self._attempt(self._settle_series, series)

    def _is_quiet(self, series: Series) -> bool:
        return self._silence_s(series) >= self._config.node.settle.quiet_s

    def _silence_s(self, series: Series) -> float:
        """Seconds without a new instance; while the node was down, nobody could send one."""
        since = max(series.last_received_at, self._listening_since)
        return (datetime.now(UTC) - since).total_seconds()

    def _settle_series(self, series: Series) -> None:
        instances = self.ledger.series.instances(series.id)
        # Read while the grace lasts, so that nothing is left to do when it is over.
        assessment = self._assessment(series, [instance.path for instance in instances if instance.path])
        if self._silence_s(series) < self._config.node.settle.grace_s:
            return
        sent_at_once = self._scp.sendings.at_once(series.series_instance_uid)
        if not is_final(assessment, sent_at_once, self._is_quiet(series)):
            return
        if not self.ledger.series.settle(series, len(instances), assessment.settlement):
            return
        del self._assessed[series.id]
        self._scp.sendings.forget(series.series_instance_uid)
        log.info(
            "series settled",
            extra={
                "series_instance_uid": series.series_instance_uid,
                "state": assessment.settlement.state.value,
                "role": assessment.settlement.role,
                "instances": len(instances),
            },
        )

    def _route(self) -> None:
        for series in self.ledger.series.unrouted():
            self._attempt(self._route_series, series)

    def _route_series(self, series: Series) -> None:
        missing = self._linking.route(series)
        self.ledger.series.routed(series)
        self._fetch(missing)

    def _assessment(self, series: Series, paths: list[str]) -> Assessment:
        """Read the headers once for each number of instances, however long the series is waited for."""
        known = self._assessed.get(series.id)
        if known is None or known[0] != len(paths):
            found = assess([self._storage.absolute(path) for path in paths], self._config.roles)
            self._assessed[series.id] = known = (len(paths), found)
        return known[1]

    def _fetch_all_missing(self) -> None:
        for trigger in self.ledger.jobs.triggers_to_fetch_for():
            self._fetch(self._linking.route(trigger))

    def _fetch(self, missing: dict[str, set[str]]) -> None:
        if not self._retriever.has_peers:
            return
        for patient_id, roles in missing.items():
            self._fetching.submit(self._attempt, self._fetch_roles, patient_id, roles)

    def _fetch_roles(self, patient_id: str, roles: set[str]) -> None:
        # Looked up only now: what an earlier fetch has brought in the meantime is not asked for again.
        held = frozenset(one.series_instance_uid for one in self.ledger.series.of_patient(patient_id))
        self._retriever.fetch(patient_id, roles, held)


def _page(config: Config, ledger: Ledger, storage: Storage) -> Page | None:
    web = config.node.web
    if web is None:
        return None
    return Page(web, ledger, Decisions(config, ledger) if web.decisions else None, storage)
