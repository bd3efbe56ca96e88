"""Which pipelines have all that they need: the radiotherapy graph.

Series of one patient are the nodes. Two are joined when they share a Frame of Reference or when one refers to the
other; a registration shares the Frames of Reference of both of its sides, and so leads from one to the other.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from node.config import When
from node.ledger.schema import LinkKind, SeriesState
from pipelines.base import Need, Pipeline, Tie


@dataclass(frozen=True)
class KnownSeries:
    """What routing knows of one series."""

    series_instance_uid: str
    patient_id: str
    role: str
    state: SeriesState
    revision: int
    settled_at: datetime
    links: frozenset[tuple[LinkKind, str]]
    sop_instance_uids: frozenset[str]
    body_parts: frozenset[str]
    """Of Body Part Examined, as the headers write it; empty where none states it."""


@dataclass(frozen=True)
class Route:
    """The inputs of a job, the trigger first, or what is missing, in plain words."""

    inputs: tuple[tuple[str, KnownSeries], ...]
    missing: tuple[str, ...]
    missing_roles: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """What the job waits for."""
        return "waits for " + " and ".join(self.missing)


def route(needs: Mapping[str, Need], trigger: KnownSeries, known: Sequence[KnownSeries]) -> Route:
    """Choose the inputs that `needs` asks for beside the trigger.

    Of several candidates the nearest in the graph is taken, then the one that settled last.
    """
    usable = [one for one in known if one.state is SeriesState.SETTLED and one is not trigger]
    steps = _steps_from(trigger, usable)
    inputs: list[tuple[str, KnownSeries]] = [(trigger.role, trigger)]
    missing: dict[str, str] = {}
    for role, need in needs.items():
        found = _candidates(role, need, trigger, usable, steps)
        if len(found) < need.at_least:
            missing[role] = _missing_text(role, need, len(found))
        inputs += [(role, one) for one in found[: need.at_most]]
    return Route(tuple(inputs), tuple(missing.values()), tuple(missing))


def starts(when: When, series: KnownSeries) -> bool:
    """Whether a series in this state starts a pipeline with this condition."""
    if series.role != when.role or not _may_show(when.body_part, series.body_parts):
        return False
    return series.state is SeriesState.SETTLED or (when.incomplete and series.state is SeriesState.INCOMPLETE)


def input_key(pipeline: Pipeline, inputs: Sequence[tuple[str, KnownSeries]]) -> str:
    """One key for one pipeline with its settings and weights on these series in these revisions."""
    parts = sorted((role, series.series_instance_uid, series.revision) for role, series in inputs)
    return hashlib.sha256(json.dumps([pipeline.settings_sha256(), parts]).encode()).hexdigest()


def _may_show(wanted: Sequence[str] | None, stated: frozenset[str]) -> bool:
    """Many devices state no body part: then the series may show any, and the gate judges what comes of it."""
    if wanted is None or not stated:
        return True
    return not {one.lower() for one in wanted}.isdisjoint(one.lower() for one in stated)


def _candidates(
    role: str, need: Need, trigger: KnownSeries, usable: Sequence[KnownSeries], steps: Mapping[str, int]
) -> list[KnownSeries]:
    far = len(usable) + 1
    found = [
        one
        for one in usable
        if one.role == role
        and (one.series_instance_uid in steps or (need.tied is Tie.PATIENT and _same_patient(one, trigger)))
    ]
    newest_first = sorted(found, key=lambda one: one.settled_at, reverse=True)
    return sorted(newest_first, key=lambda one: steps.get(one.series_instance_uid, far))


def _steps_from(trigger: KnownSeries, usable: Sequence[KnownSeries]) -> dict[str, int]:
    """How many joins lead from the trigger to each series that can be reached."""
    steps = {trigger.series_instance_uid: 0}
    frontier = [trigger]
    while frontier:
        here = frontier.pop(0)
        for one in usable:
            if one.series_instance_uid not in steps and _joined(here, one):
                steps[one.series_instance_uid] = steps[here.series_instance_uid] + 1
                frontier.append(one)
    return steps


def _joined(one: KnownSeries, other: KnownSeries) -> bool:
    return _same_patient(one, other) and (
        bool(_frames_of_reference(one) & _frames_of_reference(other)) or _refers(one, other) or _refers(other, one)
    )


def _same_patient(one: KnownSeries, other: KnownSeries) -> bool:
    """An empty Patient ID names nobody: two such series may be of two persons."""
    return one.patient_id == other.patient_id != ""


def _frames_of_reference(series: KnownSeries) -> set[str]:
    return {uid for kind, uid in series.links if kind is LinkKind.FRAME_OF_REFERENCE}


def _refers(one: KnownSeries, other: KnownSeries) -> bool:
    if (LinkKind.SERIES, other.series_instance_uid) in one.links:
        return True
    return any(kind is LinkKind.INSTANCE and uid in other.sop_instance_uids for kind, uid in one.links)


def _missing_text(role: str, need: Need, found: int) -> str:
    tie = "of this patient" if need.tied is Tie.PATIENT else "tied to it by Frame of Reference or reference"
    return f"{role} {tie} ({found} of {need.at_least} there)"
