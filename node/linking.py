"""Links the series of a patient and queues the jobs that have all they need."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from node.config import Config
from node.ledger import Ledger
from node.ledger.jobs import LinkedSeries
from node.ledger.schema import Series, SeriesState
from node.routing import KnownSeries, Route, input_key, route, starts
from pipelines.base import Pipeline

log = logging.getLogger(__name__)


class Linking:
    """The routing of settled series to jobs."""

    def __init__(
        self, config: Config, pipelines: Mapping[str, Pipeline], ledger: Ledger, is_prior: Callable[[str], bool]
    ) -> None:
        self._config = config
        self._pipelines = pipelines
        self._ledger = ledger
        self._is_prior = is_prior

    def route(self, settled: Series) -> dict[str, set[str]]:
        """Queue what the series starts, and what waited for it; returns the roles still missing, by Patient ID."""
        patient_id = settled.patient_id
        triggers = {} if self._is_prior(settled.series_instance_uid) else {settled.id: settled}
        if patient_id:
            triggers |= {one.id: one for one in self._ledger.jobs.triggers_waiting(patient_id)}
            triggers |= {one.id: one for one in self._ledger.jobs.triggers_superseded_with(settled.id)}
        missing: set[str] = set()
        for trigger in triggers.values():
            missing |= self._route_trigger(trigger)
        return {patient_id: missing} if missing else {}

    def _route_trigger(self, trigger: Series) -> set[str]:
        known = self._known(trigger)
        missing: set[str] = set()
        for name, pipeline in self._pipelines.items():
            settings = self._config.pipelines[name]
            if not starts(settings.when, known[trigger.id]):
                continue
            found = route(pipeline.needs, known[trigger.id], list(known.values()))
            self._queue(name, pipeline, trigger, found, known)
            missing |= set(found.missing_roles)
        return missing

    def _queue(
        self, name: str, pipeline: Pipeline, trigger: Series, found: Route, known: Mapping[int, KnownSeries]
    ) -> None:
        if found.missing:
            until = datetime.now(UTC) + timedelta(hours=self._config.pipelines[name].fetch_deadline_h)
            self._ledger.jobs.wait(name, trigger, found.reason, until)
            return
        rows = {series.series_instance_uid: series for series in self._rows(trigger)}
        inputs = [LinkedSeries(role, rows[series.series_instance_uid]) for role, series in found.inputs]
        if self._ledger.jobs.queue(name, input_key(pipeline, found.inputs), inputs):
            log.info("job queued", extra={"pipeline": name, "series_instance_uid": trigger.series_instance_uid})

    def _rows(self, trigger: Series) -> list[Series]:
        """The patient's series; an empty Patient ID names nobody, so then only the trigger."""
        return self._ledger.series.of_patient(trigger.patient_id) if trigger.patient_id else [trigger]

    def _known(self, trigger: Series) -> dict[int, KnownSeries]:
        rows = [row for row in self._rows(trigger) if row.settled_at is not None]
        links = self._ledger.series.links(row.id for row in rows)
        holders = self._ledger.series.sop_instance_uids(row.id for row in rows)
        return {
            row.id: KnownSeries(
                series_instance_uid=row.series_instance_uid,
                patient_id=row.patient_id,
                role=row.role or "",
                state=SeriesState(row.state),
                revision=row.revision,
                settled_at=row.settled_at or row.first_received_at,
                links=frozenset(links[row.id]),
                sop_instance_uids=frozenset(uid for uid, holder in holders.items() if holder == row.id),
                body_parts=frozenset(row.body_parts or ()),
            )
            for row in rows
        }
