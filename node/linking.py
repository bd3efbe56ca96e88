"""Links the series of a patient and queues the jobs that have all they need, or that have to be made anew."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from node.config import Config
from node.graph import KnownSeries, is_earlier
from node.ledger import Ledger
from node.ledger.jobs import LinkedSeries
from node.ledger.schema import Series, SeriesState
from node.ledger.succession import Standing
from node.routing import Route, has_to_be_renewed, input_key, route, starts
from pipelines.base import Pipeline

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Patient:
    """All series of one patient."""

    rows: Mapping[str, Series]
    """By Series Instance UID."""
    known: Mapping[int, KnownSeries]
    """Those that have settled, by the id of their row."""


class Linking:
    """The routing of settled series to jobs."""

    def __init__(
        self, config: Config, pipelines: Mapping[str, Pipeline], ledger: Ledger, is_prior: Callable[[str], bool]
    ) -> None:
        self._config = config
        self._pipelines = pipelines
        self._ledger = ledger
        self._is_prior = is_prior
        # Who routes by an older view of the patient must not take the place of a job that was routed by a newer one.
        self._one_at_a_time = threading.Lock()

    def route(self, settled: Series) -> dict[str, set[str]]:
        """Queue what the series starts, what waited for it, and what has to take it in although it had been made.

        Returns
        -------
        The roles still missing, by Patient ID.
        """
        missing: set[str] = set()
        with self._one_at_a_time:
            patient = self._patient(settled)
            starting = self._starting(settled)
            for trigger_id in sorted(starting):
                missing |= self._route_trigger(trigger_id, settled, patient)
            for trigger_id in sorted(self._standing(settled) - starting):
                missing |= self._route_trigger(trigger_id, settled, patient, is_new=False)
        return {settled.patient_id: missing} if missing else {}

    def _starting(self, settled: Series) -> set[int]:
        """The series on which jobs may start: itself, and those whose jobs wait or used it before it changed."""
        triggers = set() if self._is_prior(settled.series_instance_uid) else {settled.id}
        if settled.patient_id:
            triggers |= {one.id for one in self._ledger.jobs.triggers_waiting(settled.patient_id)}
            triggers |= {one.id for one in self._ledger.jobs.triggers_superseded_with(settled.id)}
        return triggers

    def _standing(self, settled: Series) -> set[int]:
        """The series on which a pipeline that takes such series has a job already."""
        takers = [name for name, pipeline in self._pipelines.items() if settled.role in pipeline.needs]
        return self._ledger.succession.triggers(settled.patient_id, takers) if settled.patient_id else set()

    def _route_trigger(self, trigger_id: int, settled: Series, patient: _Patient, is_new: bool = True) -> set[str]:
        missing: set[str] = set()
        known, trigger = patient.known, patient.known.get(trigger_id)
        for name, pipeline in self._pipelines.items():
            if trigger is None or not starts(self._config.pipelines[name].when, trigger):
                continue
            standing = self._ledger.succession.standing(name, trigger_id)
            if standing is None and not is_new:
                continue
            if standing and not _may_change(pipeline, trigger, known.get(settled.id)):
                continue
            found = route(pipeline.needs, trigger, list(known.values()))
            if standing and not _has_changed(pipeline, standing, found, known):
                continue
            self._queue(name, pipeline, found, patient.rows)
            missing |= set(found.missing_roles)
        return missing

    def _queue(self, name: str, pipeline: Pipeline, found: Route, rows: Mapping[str, Series]) -> None:
        inputs = [LinkedSeries(role, rows[series.series_instance_uid]) for role, series in found.inputs]
        trigger = inputs[0].series
        if found.missing:
            until = datetime.now(UTC) + timedelta(hours=self._config.pipelines[name].fetch_deadline_h)
            self._ledger.jobs.wait(name, trigger, found.reason, until)
        elif self._ledger.jobs.queue(name, input_key(pipeline, found.inputs), inputs, "; ".join(found.remarks) or None):
            log.info("job queued", extra={"pipeline": name, "series_instance_uid": trigger.series_instance_uid})

    def _patient(self, settled: Series) -> _Patient:
        """The patient's series; an empty Patient ID names nobody, so then only the one that has settled."""
        rows = self._ledger.series.of_patient(settled.patient_id) if settled.patient_id else [settled]
        return _Patient({row.series_instance_uid: row for row in rows}, self._known(rows))

    def _known(self, rows: Sequence[Series]) -> dict[int, KnownSeries]:
        settled = [row for row in rows if row.settled_at is not None]
        links = self._ledger.series.links(row.id for row in settled)
        holders = self._ledger.series.sop_instance_uids(row.id for row in settled)
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
                acquired_at=row.acquired_at,
            )
            for row in settled
        }


def _may_change(pipeline: Pipeline, trigger: KnownSeries, settled: KnownSeries | None) -> bool:
    """Whether a job on this trigger can depend on the series that has settled; a quick look before the whole graph."""
    if settled is None or settled is trigger:
        return settled is trigger
    need = pipeline.needs.get(settled.role)
    return need is not None and (not need.earlier or is_earlier(settled, trigger))


def _has_changed(pipeline: Pipeline, standing: Standing, found: Route, known: Mapping[int, KnownSeries]) -> bool:
    """Whether the standing job would now be another one."""
    revisions = {one.series_instance_uid: one.revision for one in known.values()}
    if any(revisions.get(uid) != revision for uid, revision in standing.revisions.items()):
        return True
    if found.missing:
        return False
    if standing.has_failed:
        # Another structure set, for example, may have what the first one lacked.
        return not {one.series_instance_uid for _, one in found.inputs} <= standing.revisions.keys()
    return has_to_be_renewed(pipeline.needs, standing.revisions.keys(), found, known.values())
