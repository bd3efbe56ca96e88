"""The radiotherapy graph: what is known of the series of one patient, and which of them belong together.

Two series are joined when they share a Frame of Reference or when one refers to the other; a registration shares the
Frames of Reference of both of its sides, and so leads from one to the other.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from node.ledger.schema import LinkKind, SeriesState


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
    acquired_at: datetime | None = None
    """Local time as the headers state it; None where they state no date."""


def steps_from(trigger: KnownSeries, usable: Sequence[KnownSeries]) -> dict[str, int]:
    """How many joins lead from the trigger to each series that can be reached, by Series Instance UID."""
    steps = {trigger.series_instance_uid: 0}
    frontier = [trigger]
    while frontier:
        here = frontier.pop(0)
        for one in usable:
            if one.series_instance_uid not in steps and _joined(here, one):
                steps[one.series_instance_uid] = steps[here.series_instance_uid] + 1
                frontier.append(one)
    return steps


def same_patient(one: KnownSeries, other: KnownSeries) -> bool:
    """An empty Patient ID names nobody: two such series may be of two persons."""
    return one.patient_id == other.patient_id != ""


def is_earlier(one: KnownSeries, other: KnownSeries) -> bool:
    """Whether the first was acquired before the other; of one moment, the smaller Series Instance UID goes first.

    The order is total, so of two series with a date exactly one is the earlier; one without a date is in no order.
    """
    if one.acquired_at is None or other.acquired_at is None:
        return False
    return (one.acquired_at, one.series_instance_uid) < (other.acquired_at, other.series_instance_uid)


def is_about(one: KnownSeries, days: Collection[KnownSeries], shared: Collection[KnownSeries]) -> bool:
    """Whether a series such as a registration is about one of these images.

    It refers to one, or has its Frame of Reference; not one that the `shared` series have too, such as the planning CT,
    for then that says nothing.
    """
    if any(_refers(one, image) for image in days):
        return True
    return bool(_frames_of_reference(one) & (_frames_of_all(days) - _frames_of_all(shared)))


def is_about_all(one: KnownSeries, known: Collection[KnownSeries]) -> bool:
    """Whether a series has no Frame of Reference and refers to no series beside those of `known`."""
    uids = {series.series_instance_uid for series in known}
    referred = {uid for kind, uid in one.links if kind is LinkKind.SERIES}
    return _frames_of_reference(one) <= _frames_of_all(known) and referred <= uids


def _joined(one: KnownSeries, other: KnownSeries) -> bool:
    return same_patient(one, other) and (
        bool(_frames_of_reference(one) & _frames_of_reference(other)) or _refers(one, other) or _refers(other, one)
    )


def _frames_of_all(several: Collection[KnownSeries]) -> set[str]:
    return {uid for series in several for uid in _frames_of_reference(series)}


def _frames_of_reference(series: KnownSeries) -> set[str]:
    return {uid for kind, uid in series.links if kind is LinkKind.FRAME_OF_REFERENCE}


def _refers(one: KnownSeries, other: KnownSeries) -> bool:
    if (LinkKind.SERIES, other.series_instance_uid) in one.links:
        return True
    return any(kind is LinkKind.INSTANCE and uid in other.sop_instance_uids for kind, uid in one.links)
