"""Records of jobs and states, as the command line and the page show them; nothing in them names a patient."""

from datetime import UTC, datetime
from typing import Any

from node.errors import NodeError
from node.ledger import Ledger
from node.ledger.agreements import Compared
from node.ledger.schema import AgreementState, Event, Job
from node.ledger.trends import Chart

Record = dict[str, Any]


def counts(ledger: Ledger) -> dict[str, dict[str, int]]:
    """How many of each thing are in each state."""
    return {
        "series": ledger.series.counts(),
        "set aside": ledger.series.set_aside_counts(),
        "jobs": ledger.jobs.counts(),
        "results": ledger.decisions.counts(),
        "deliveries": ledger.deliveries.counts(),
    }


def alarms(ledger: Ledger) -> list[Record]:
    """What a person has to decide at last."""
    return [
        {"result": one.id, "job": one.job_id, "verdict": one.verdict, "held_since": moment(one.created_at)}
        for one in ledger.decisions.alarmed()
    ]


def job_record(job: Job) -> Record:
    """One line about a job."""
    return {
        "id": job.id,
        "pipeline": job.pipeline,
        "state": job.state,
        "reason": job.reason,
        "attempts": job.attempts,
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "finished_at": moment(job.finished_at),
        "seconds": _seconds(job),
    }


def full_record(ledger: Ledger, job_id: int) -> Record:
    """All about one job: inputs, findings, deliveries and what happened; raises NodeError if there is none."""
    job = ledger.jobs.get(job_id)
    if job is None:
        raise NodeError(f"there is no job {job_id}")
    result = ledger.jobs.result_of(job_id)
    deliveries = ledger.deliveries.of_result(result.id) if result else []
    charts = ledger.trends.of_result(result.id) if result else []
    compared = ledger.agreements.of_result(result.id) if result else None
    subjects = [f"job/{job_id}", *([f"result/{result.id}"] if result else [])]
    subjects += [f"delivery/{delivery.id}" for delivery in deliveries]
    history = [event for subject in subjects for event in ledger.events.of(subject)]
    return {
        **job_record(job),
        "inputs": [
            {"role": one.role, "series_instance_uid": one.series_instance_uid, "instances": len(one.paths)}
            for one in ledger.jobs.inputs(job_id)
        ],
        "result": {
            "id": result.id,
            "state": result.state,
            "verdict": result.verdict,
            "released_by_first": ledger.decisions.first_release_of(result.id),
            "decided_by": result.decided_by,
            "decided_why": result.decided_why,
            "findings": result.findings,
        }
        if result
        else None,
        "agreement": _agreement_record(compared) if compared else None,
        "trend": [trend_record(chart) for chart in charts],
        "deliveries": [
            {
                "id": one.id,
                "peer": one.peer,
                "state": one.state,
                "attempts": one.attempts,
                "reason": one.reason,
                "proved_instances": len(ledger.deliveries.proofs(one.id)),
            }
            for one in deliveries
        ],
        "events": [_event_record(event) for event in sorted(history, key=lambda event: event.id)],
    }


def _agreement_record(compared: Compared) -> Record:
    """How far a result in shadow agrees with the current one."""
    agreement, job = compared.agreement, compared.current_job
    said, number = _SAID_OF_AGREEMENT[agreement.state], agreement.current_result_id
    current = f"result {number} of {job.pipeline} (job {job.id}), which is {compared.current_state}"
    because = f": {agreement.reason}" if agreement.reason else ""
    return {
        "state": agreement.state,
        "sentence": f"{said} {current}{because}",
        "current_pipeline": job.pipeline,
        "current_job": job.id,
        "current_result": number,
        "attempts": agreement.attempts,
        "findings": [
            {key: finding[key] for key in ("name", "value", "unit", "text")} for finding in agreement.findings
        ],
    }


_SAID_OF_AGREEMENT = {
    AgreementState.QUEUED: "waits to be compared with",
    AgreementState.RUNNING: "is being compared with",
    AgreementState.MEASURED: "was compared with",
    AgreementState.FAILED: "could not be compared with",
    AgreementState.SUPERSEDED: "is not compared any more with",
}


def trend_record(chart: Chart) -> Record:
    """How one control chart stands at its last point."""
    baseline = chart.baseline
    return {
        "finding": chart.finding,
        "pipeline": chart.pipeline,
        "device": chart.device,
        "points": len(chart.points),
        "last": chart.points[-1].value,
        "mean": baseline.mean if baseline else None,
        "sigma": baseline.sigma if baseline else None,
        "unit": chart.unit,
        "rules": list(chart.rules),
        "state": chart.sentence(),
    }


def _seconds(job: Job) -> float:
    """How long the last attempt took, or has taken until now."""
    if job.started_at is None:
        return 0.0
    return ((job.finished_at or datetime.now(UTC)) - job.started_at).total_seconds()


def _event_record(event: Event) -> Record:
    return {"at": moment(event.at), "who": event.who, "what": event.what, "subject": event.subject, "why": event.why}


def moment(at: datetime | None) -> str:
    """ISO 8601 in UTC, with milliseconds; "" for never."""
    return at.isoformat(timespec="milliseconds") if at else ""
