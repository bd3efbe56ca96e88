"""Tables of the ledger and the states that they hold."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class InstanceState(StrEnum):
    """Of one received instance."""

    RECEIVED = "received"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"


class SeriesState(StrEnum):
    """Of one series."""

    RECEIVING = "receiving"
    SETTLED = "settled"
    INCOMPLETE = "incomplete"
    REJECTED = "rejected"


class JobState(StrEnum):
    """Of one run of one pipeline on one study."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class ResultState(StrEnum):
    """Of what a job has made."""

    HELD = "held"
    RELEASED = "released"
    REJECTED = "rejected"
    SHADOW = "shadow"
    """Made by a pipeline that is only watched: kept, and never sent."""


class AgreementState(StrEnum):
    """Of the comparison of a result in shadow with the current one."""

    QUEUED = "queued"
    RUNNING = "running"
    MEASURED = "measured"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """Of one series on its way to one peer."""

    QUEUED = "queued"
    SENDING = "sending"
    DELIVERED = "delivered"
    COMMITTED = "committed"
    FAILED = "failed"


class LinkKind(StrEnum):
    """What a series points to."""

    FRAME_OF_REFERENCE = "frame_of_reference"
    SERIES = "series"
    INSTANCE = "instance"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, on every database."""

    impl = DateTime(timezone=False)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC without its mark, which SQLite could not keep."""
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The mark is put back."""
        return value.replace(tzinfo=UTC) if value else None


class Table(DeclarativeBase):
    """A row of the ledger; rows that leave the ledger are snapshots."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, str: String, float: Double, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class Series(Table):
    """A received series; `revision` counts how often it has settled, `routed_revision` is the last one routed.

    `body_parts` are the values of Body Part Examined; none, or None in a row of an older version, where none is stated.
    `acquired_at` is local time as the headers state it; None where they state no date, and in rows of an older version.
    """

    __tablename__ = "series"

    id: Mapped[int] = mapped_column(primary_key=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    patient_id: Mapped[str] = mapped_column(index=True)
    modality: Mapped[str]
    role: Mapped[str | None]
    body_parts: Mapped[list[Any] | None]
    acquired_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=False))
    state: Mapped[SeriesState] = mapped_column(String(16), index=True)
    reason: Mapped[str | None]
    revision: Mapped[int] = mapped_column(default=0)
    routed_revision: Mapped[int] = mapped_column(default=0)
    first_received_at: Mapped[datetime]
    last_received_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class Instance(Table):
    """A received instance and the file that holds it; one that was set aside may belong to no series."""

    __tablename__ = "instances"
    __table_args__ = (
        Index(
            "uq_instances_received",
            "sop_instance_uid",
            unique=True,
            sqlite_where=text("state = 'received'"),
            postgresql_where=text("state = 'received'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int | None] = mapped_column(ForeignKey("series.id"), index=True)
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    path: Mapped[str | None]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    state: Mapped[InstanceState] = mapped_column(String(16))
    reason: Mapped[str | None]
    calling_ae_title: Mapped[str]
    received_at: Mapped[datetime]


class Link(Table):
    """A UID that a settled series shares or refers to."""

    __tablename__ = "links"

    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), primary_key=True)
    kind: Mapped[LinkKind] = mapped_column(String(24), primary_key=True)
    uid: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)


class Job(Table):
    """One run of one pipeline; `input_key` makes it one for the same inputs.

    `predecessors` are the earlier reports that its result refers to: found when it is first handed over, then kept, so
    that every attempt makes the same; None until then.
    """

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("pipeline", "input_key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    pipeline: Mapped[str]
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    input_key: Mapped[str] = mapped_column(String(64))
    state: Mapped[JobState] = mapped_column(String(16), index=True)
    reason: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    worker_deaths: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    fetch_until: Mapped[datetime | None]
    predecessors: Mapped[list[Any] | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobInput(Table):
    """A series that a job works on, in the revision that it had."""

    __tablename__ = "job_inputs"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), primary_key=True, index=True)
    role: Mapped[str]
    revision: Mapped[int]


class Result(Table):
    """What a job has made, and what was decided about it."""

    __tablename__ = "results"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), unique=True)
    state: Mapped[ResultState] = mapped_column(String(16), index=True)
    verdict: Mapped[str]
    findings: Mapped[list[Any]]
    decided_by: Mapped[str | None]
    decided_why: Mapped[str | None]
    created_at: Mapped[datetime]


class ResultInstance(Table):
    """One instance of a result and the file that holds it; its study is None in rows of an older version."""

    __tablename__ = "result_instances"

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    study_instance_uid: Mapped[str | None] = mapped_column(String(64))
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    modality: Mapped[str]
    sop_class_uid: Mapped[str]
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str]
    path: Mapped[str]
    sha256: Mapped[str]
    is_quality_report: Mapped[bool | None]
    """None in rows of an older version, which made none."""


class TrendPoint(Table):
    """The value of one finding of one result, as a point of a control chart.

    A chart is of one device, one pipeline with one model and settings, and one finding; `rules` are those of Nelson's
    that the point broke when it came.
    """

    __tablename__ = "trend_points"
    __table_args__ = (
        UniqueConstraint("result_id", "finding"),
        Index("ix_trend_points_chart", "pipeline", "finding", "device", "settings_sha256"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    device: Mapped[str]
    pipeline: Mapped[str]
    settings_sha256: Mapped[str] = mapped_column(String(64))
    finding: Mapped[str]
    unit: Mapped[str]
    value: Mapped[float]
    mean: Mapped[float | None]
    sigma: Mapped[float | None]
    rules: Mapped[list[Any]]
    at: Mapped[datetime]


class Agreement(Table):
    """How far a result in shadow agrees with the current one on the same series.

    Of each result in shadow, all but the last are superseded. A pair without a row has not been looked at yet.
    """

    __tablename__ = "agreements"
    __table_args__ = (UniqueConstraint("shadow_result_id", "current_result_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    shadow_result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    current_result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    state: Mapped[AgreementState] = mapped_column(String(16), index=True)
    reason: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    findings: Mapped[list[Any]]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Delivery(Table):
    """One series of a result on its way to one peer."""

    __tablename__ = "deliveries"
    __table_args__ = (UniqueConstraint("result_id", "series_instance_uid", "peer"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    peer: Mapped[str]
    state: Mapped[DeliveryState] = mapped_column(String(16), index=True)
    reason: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    queued_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]
    commitment_uid: Mapped[str | None] = mapped_column(String(64), unique=True)
    commitment_asked_at: Mapped[datetime | None]


class DeliveryProof(Table):
    """The status that a peer answered for one instance."""

    __tablename__ = "delivery_proofs"

    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), primary_key=True)
    result_instance_id: Mapped[int] = mapped_column(ForeignKey("result_instances.id"), primary_key=True)
    status: Mapped[int]
    answered_at: Mapped[datetime]


class Event(Table):
    """A change of state: who, what, when, why; never changed, each holds the hash of the one before."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str]
    what: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    why: Mapped[str | None]
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
