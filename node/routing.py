"""Which pipelines have all that they need, and when a job has to be made anew."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from node.config import When
from node.graph import KnownSeries, is_about, is_about_all, is_earlier, same_patient, steps_from
from node.ledger.schema import SeriesState
from pipelines.base import Need, Pipeline, Tie


@dataclass(frozen=True)
class Route:
    """The inputs of a job, the trigger first, or what is missing, in plain words."""

    inputs: tuple[tuple[str, KnownSeries], ...]
    missing: tuple[str, ...]
    missing_roles: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a person should know of the choice, in plain words."""

    @property
    def reason(self) -> str:
        """What the job waits for."""
        return "waits for " + " and ".join(self.missing)


def route(needs: Mapping[str, Need], trigger: KnownSeries, known: Sequence[KnownSeries]) -> Route:
    """Choose the inputs that `needs` asks for beside the trigger.

    Of several candidates the nearest in the graph is taken, then the one that settled last, or of earlier series the
    one that was acquired last.
    """
    usable = [one for one in known if one.state is SeriesState.SETTLED and one is not trigger]
    steps = steps_from(trigger, usable)
    chosen: list[tuple[str, KnownSeries]] = []
    missing: dict[str, str] = {}
    for role, need in needs.items():
        found = _candidates(role, need, trigger, usable, steps)
        if len(found) < need.at_least:
            missing[role] = _missing_text(role, need, len(found))
        chosen += [(role, one) for one in found[: need.at_most]]
    inputs = ((trigger.role, trigger), *_without_later_days(needs, trigger, chosen, usable))
    return Route(inputs, tuple(missing.values()), tuple(missing), _remarks(needs, trigger, usable, steps))


def _without_later_days(
    needs: Mapping[str, Need],
    trigger: KnownSeries,
    chosen: Sequence[tuple[str, KnownSeries]],
    usable: Iterable[KnownSeries],
) -> list[tuple[str, KnownSeries]]:
    """The choice without the registrations of fractions that came after the trigger."""
    inputs = [(trigger.role, trigger), *chosen]
    of_days = {role for role, need in needs.items() if need.earlier}
    later = [one for one in usable if one.role in of_days and (one.role, one) not in inputs]
    days, shared = _days_and_shared(needs, trigger, inputs)
    return [
        (role, one)
        for role, one in chosen
        if not _is_registering(needs[role]) or is_about(one, days, shared) or not is_about(one, later, shared)
    ]


def _is_registering(need: Need) -> bool:
    """Whether the pipeline takes all there are of what leads from series to series."""
    return need.at_most is None and need.tied is Tie.FRAME_OF_REFERENCE and not need.earlier


def _days_and_shared(
    needs: Mapping[str, Need], trigger: KnownSeries, inputs: Iterable[tuple[str, KnownSeries]]
) -> tuple[list[KnownSeries], list[KnownSeries]]:
    """The trigger with the inputs like it, and those of which a pipeline takes one, such as the planning CT."""
    by_role = [(needs.get(role), one) for role, one in inputs]
    days = [one for need, one in by_role if one is trigger or one.role == trigger.role or (need and need.earlier)]
    return days, [one for need, one in by_role if need and need.at_most is not None and one not in days]


def starts(when: When, series: KnownSeries) -> bool:
    """Whether a series in this state starts a pipeline with this condition."""
    if series.role != when.role or not _may_show(when.body_part, series.body_parts):
        return False
    return series.state is SeriesState.SETTLED or (when.incomplete and series.state is SeriesState.INCOMPLETE)


def input_key(pipeline: Pipeline, inputs: Sequence[tuple[str, KnownSeries]]) -> str:
    """One key for one pipeline with its settings and weights on these series in these revisions."""
    parts = sorted((role, series.series_instance_uid, series.revision) for role, series in inputs)
    return hashlib.sha256(json.dumps([pipeline.settings_sha256(), parts]).encode()).hexdigest()


def has_to_be_renewed(
    needs: Mapping[str, Need], given: Collection[str], found: Route, known: Iterable[KnownSeries]
) -> bool:
    """Whether a job on the inputs `given` (Series Instance UIDs) would now take in more, and so be another one.

    Only what a pipeline takes without a limit counts. A newer one of what it takes one of, such as a second planning
    CT, changes nothing that was made; nor does the registration of another day.
    """
    trigger = found.inputs[0][1]
    days, shared = _days_and_shared(needs, trigger, found.inputs)
    others = [one for one in known if one.role == trigger.role and one not in days]
    return any(
        not _is_registering(needs[role]) or _is_for(one, days, shared, others)
        for role, one in found.inputs[1:]
        if needs[role].at_most is None and one.series_instance_uid not in given
    )


def _is_for(
    one: KnownSeries, days: Sequence[KnownSeries], shared: Sequence[KnownSeries], others: Sequence[KnownSeries]
) -> bool:
    if is_about(one, days, shared):
        return True
    return is_about_all(one, (*days, *shared)) and not is_about(one, others, shared)


def _remarks(
    needs: Mapping[str, Need], trigger: KnownSeries, usable: Sequence[KnownSeries], steps: Mapping[str, int]
) -> tuple[str, ...]:
    """Where a missing date has kept a series out."""
    remarks = []
    for role, need in needs.items():
        tied = _tied(role, need, trigger, usable, steps) if need.earlier else []
        undated = sum(one.acquired_at is None for one in tied)
        if tied and trigger.acquired_at is None:
            remarks.append(f"no {role} counts as earlier, for the series that started the job states no date")
        elif undated:
            remarks.append(f"{undated} {role} left out: without a date it can not be told whether it is earlier")
    return tuple(remarks)


def _may_show(wanted: Sequence[str] | None, stated: frozenset[str]) -> bool:
    """Many devices state no body part: then the series may show any, and the gate judges what comes of it."""
    if wanted is None or not stated:
        return True
    return not {one.lower() for one in wanted}.isdisjoint(one.lower() for one in stated)


def _candidates(
    role: str, need: Need, trigger: KnownSeries, usable: Sequence[KnownSeries], steps: Mapping[str, int]
) -> list[KnownSeries]:
    far = len(usable) + 1
    found = [one for one in _tied(role, need, trigger, usable, steps) if not need.earlier or is_earlier(one, trigger)]
    newest_first = sorted(found, key=lambda one: _age(need, one), reverse=True)
    return sorted(newest_first, key=lambda one: steps.get(one.series_instance_uid, far))


def _tied(
    role: str, need: Need, trigger: KnownSeries, usable: Sequence[KnownSeries], steps: Mapping[str, int]
) -> list[KnownSeries]:
    return [
        one
        for one in usable
        if one.role == role
        and (one.series_instance_uid in steps or (need.tied is Tie.PATIENT and same_patient(one, trigger)))
    ]


def _age(need: Need, one: KnownSeries) -> tuple[datetime, str]:
    """Of fractions the last to be acquired is the newest, in whatever order they came."""
    if need.earlier and one.acquired_at:
        return one.acquired_at, one.series_instance_uid
    return one.settled_at, ""


def _missing_text(role: str, need: Need, found: int) -> str:
    tie = "of this patient" if need.tied is Tie.PATIENT else "tied to it by Frame of Reference or reference"
    return f"{role} {tie} ({found} of {need.at_least} there)"
