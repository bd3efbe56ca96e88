"""The series of a folder of files, judged and linked as if they had come over the network; without ledger or port."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.tag import Tag

from node.config import Config
from node.errors import NodeError
from node.graph import KnownSeries
from node.headers import UnreadableInstance, read_header, text_of
from node.ledger.schema import LinkKind
from node.roles import RoleRule
from node.routing import Route, route, starts
from node.scu import Outgoing
from node.series import assess
from pipelines.base import Pipeline

if TYPE_CHECKING:
    from pipelines.execution import JobOrder

_IDENTIFYING = ("PatientID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "SOPClassUID")


@dataclass(frozen=True)
class FolderSeries:
    """One series of the folder."""

    known: KnownSeries
    modality: str
    paths: tuple[Path, ...]
    reason: str | None


@dataclass(frozen=True)
class Plan:
    """A pipeline that one series of the folder would start, with its inputs or what is missing."""

    pipeline: str
    trigger: FolderSeries
    route: Route


def series_of(folder: Path, rules: Sequence[RoleRule]) -> list[FolderSeries]:
    """Every series below the folder, in the order of their UIDs; files that are no DICOM are passed over.

    Raises
    ------
    NodeError
        If there is no such folder, or no DICOM file in it.
    """
    if not folder.is_dir():
        raise NodeError(f"{folder} is no folder")
    files: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = read_header(path, [Tag(keyword) for keyword in _IDENTIFYING])
        except UnreadableInstance:
            continue
        uid, sop_instance_uid = text_of(header, "SeriesInstanceUID"), text_of(header, "SOPInstanceUID")
        if uid and sop_instance_uid:
            files[uid].setdefault(sop_instance_uid, path)
    if not files:
        raise NodeError(f"{folder} has no DICOM file")
    return [_series(uid, instances, rules) for uid, instances in sorted(files.items())]


def plans(config: Config, pipelines: Mapping[str, Pipeline], series: Sequence[FolderSeries]) -> list[Plan]:
    """What the series of the folder would start."""
    known = [one.known for one in series]
    return [
        Plan(name, one, route(pipeline.needs, one.known, known))
        for name, pipeline in pipelines.items()
        for one in series
        if starts(config.pipelines[name].when, one.known)
    ]


def outgoing(path: Path) -> tuple[str, Outgoing]:
    """A file as it would be sent, with its Series Instance UID.

    Raises
    ------
    UnreadableInstance
        If it is no DICOM file.
    """
    header = read_header(path, [Tag(keyword) for keyword in _IDENTIFYING])
    syntax = text_of(header.file_meta, "TransferSyntaxUID")
    one = Outgoing(text_of(header, "SOPClassUID"), text_of(header, "SOPInstanceUID"), syntax, path)
    return text_of(header, "SeriesInstanceUID"), one


def order_of(config: Config, plan: Plan, series: Sequence[FolderSeries], output_dir: Path) -> "JobOrder":
    """The order that a worker would get for the plan."""
    # Brings torch along, which a look at a folder does without.
    from pipelines.execution import JobOrder, OrderedSeries

    paths = {one.known.series_instance_uid: one.paths for one in series}
    settings = config.pipelines[plan.pipeline]
    trigger, *linked = [
        OrderedSeries(role=role, series_instance_uid=one.series_instance_uid, paths=paths[one.series_instance_uid])
        for role, one in plan.route.inputs
    ]
    return JobOrder(
        job_id=0,
        attempt=1,
        pipeline_name=plan.pipeline,
        pipeline_class=settings.class_path,
        settings=settings.values(),
        trigger=trigger,
        linked=tuple(linked),
        labelling=settings.labelling.labelling(),
        quality_report=settings.quality_report,
        output_dir=output_dir,
    )


def _series(uid: str, instances: Mapping[str, Path], rules: Sequence[RoleRule]) -> FolderSeries:
    paths = tuple(instances.values())
    header = read_header(paths[0], [Tag(keyword) for keyword in _IDENTIFYING])
    settlement = assess(paths, rules).settlement
    known = KnownSeries(
        series_instance_uid=uid,
        patient_id=text_of(header, "PatientID"),
        role=settlement.role,
        state=settlement.state,
        revision=1,
        settled_at=datetime.now(UTC),
        links=frozenset((LinkKind(kind), linked) for kind, linked in settlement.links),
        sop_instance_uids=frozenset(instances),
        body_parts=settlement.body_parts,
        acquired_at=settlement.acquired_at,
    )
    return FolderSeries(known, text_of(header, "Modality"), paths, settlement.reason)
