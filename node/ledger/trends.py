"""The ledger's account of control charts: one for each device, pipeline with its model and settings, and finding.

A point is added in the transaction that files its result, when the objects of the result are long written: a trend is
an alarm about a device or a model, not a verdict about one patient, and it neither holds nor releases anything.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from models.control_chart import RULES, Baseline, baseline_of, broken_rules
from node.config import TrendSettings
from node.ledger import events
from node.ledger.database import Database
from node.ledger.events import What
from node.ledger.schema import Job, JobState, Result, TrendPoint
from pipelines.stability import Finding

POINTS_SHOWN = 60
"""Of a chart, the last ones; no rule looks back further than at fifteen."""


@dataclass(frozen=True)
class Process:
    """What the findings of a result are a sample of."""

    device: str
    settings_sha256: str
    """Of the pipeline: another model or setting begins charts of its own."""
    settings: TrendSettings


@dataclass(frozen=True)
class Chart:
    """A control chart, or its last points; oldest first."""

    device: str
    pipeline: str
    finding: str
    unit: str
    points: Sequence[TrendPoint]

    @property
    def baseline(self) -> Baseline | None:
        """That of the last point; None while results for it are being collected."""
        last = self.points[-1]
        return None if last.mean is None or last.sigma is None else Baseline(mean=last.mean, sigma=last.sigma)

    @property
    def rules(self) -> tuple[int, ...]:
        """Nelson's rules that the last point broke."""
        return tuple(self.points[-1].rules)

    @property
    def varies(self) -> bool:
        """Whether there is more to see than one value that never changed."""
        return len(self.points) == 1 or len({point.value for point in self.points}) > 1

    def sentence(self) -> str:
        """How the chart stands, for a person."""
        if self.baseline is None:
            return "collecting its baseline"
        broken = "; ".join(f"{RULES[number]} (Nelson rule {number})" for number in self.rules)
        return broken or "in control"


class TrendLedger:
    """Reading of the charts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, pipeline: str | None = None) -> list[Chart]:
        """Every chart that had a point, of one pipeline or of all; of each model and setting on a device its own."""
        query = _counted().order_by(TrendPoint.id)
        if pipeline is not None:
            query = query.where(TrendPoint.pipeline == pipeline)
        with self._database.read() as session:
            points = list(session.scalars(query))
        by_chart: dict[tuple[str, str, str, str], list[TrendPoint]] = {}
        for point in points:
            key = (point.pipeline, point.device, point.finding, point.settings_sha256)
            by_chart.setdefault(key, []).append(point)
        return [_chart(by_chart[key]) for key in sorted(by_chart)]

    def of_result(self, result_id: int) -> list[Chart]:
        """The charts of the findings of a result, as they stood when it was filed."""
        own = select(TrendPoint).where(TrendPoint.result_id == result_id).order_by(TrendPoint.id)
        with self._database.read() as session:
            return [
                _chart([*_before(session, _same_chart(point), point.id, POINTS_SHOWN - 1), point])
                for point in session.scalars(own).all()
            ]


def add_points(
    session: Session, pipeline: str, result: Result, findings: Iterable[Finding], process: Process
) -> None:  # fmt: skip
    """Put the findings of a new result on their charts; a rule that begins to be broken is an event of the result."""
    # By name: a chart has one point of a result.
    for finding in {one.name: one for one in findings}.values():
        if not math.isfinite(finding.value):
            continue
        point = TrendPoint(
            result_id=result.id,
            device=process.device,
            pipeline=pipeline,
            settings_sha256=process.settings_sha256,
            finding=finding.name,
            unit=finding.unit,
            value=finding.value,
            rules=[],
            at=datetime.now(UTC),
        )
        _judge(session, point, process.settings)
        session.add(point)
    session.flush()


def _judge(session: Session, point: TrendPoint, settings: TrendSettings) -> None:
    chart = _same_chart(point)
    baseline = settings.baselines.get(point.finding) or _first_baseline(session, chart, settings.first)
    if baseline is None:
        return
    earlier = _before(session, chart, None, POINTS_SHOWN)
    broken = broken_rules([*(one.value for one in earlier), point.value], baseline)
    point.mean, point.sigma, point.rules = baseline.mean, baseline.sigma, list(broken)
    known = set(earlier[-1].rules) if earlier else set()
    for number in sorted((set(broken) - known) & settings.alarm_rules):
        why = f"{point.finding} of {point.pipeline} on {point.device}: {RULES[number]} (Nelson rule {number})"
        events.append(session, What.TREND_ALARM, f"result/{point.result_id}", why)


def _first_baseline(session: Session, chart: Sequence[ColumnElement[bool]], first: int) -> Baseline | None:
    """Of the first results of a chart; None while there are not enough."""
    values = select(TrendPoint.value).where(*chart, TrendPoint.result_id.in_(_standing_results()))
    found = list(session.scalars(values.order_by(TrendPoint.id).limit(first)))
    return baseline_of(found) if len(found) == first else None


def _before(
    session: Session, chart: Sequence[ColumnElement[bool]], point_id: int | None, at_most: int
) -> list[TrendPoint]:  # fmt: skip
    """The last points of a chart before one of it, oldest first."""
    query = _counted().where(*chart).order_by(TrendPoint.id.desc()).limit(at_most)
    return list(session.scalars(query if point_id is None else query.where(TrendPoint.id < point_id)))[::-1]


def _same_chart(point: TrendPoint) -> list[ColumnElement[bool]]:
    return [
        TrendPoint.pipeline == point.pipeline,
        TrendPoint.finding == point.finding,
        TrendPoint.device == point.device,
        TrendPoint.settings_sha256 == point.settings_sha256,
    ]


def _counted() -> Select[TrendPoint]:
    return select(TrendPoint).where(TrendPoint.result_id.in_(_standing_results()))


def _standing_results() -> Select[int]:
    """The same images made anew count once: superseded jobs are left out."""
    return select(Result.id).join(Job, Job.id == Result.job_id).where(Job.state != JobState.SUPERSEDED)


def _chart(points: Sequence[TrendPoint]) -> Chart:
    last = points[-1]
    return Chart(last.device, last.pipeline, last.finding, last.unit, points)
