"""Pipelines in shadow through a running node: a worker compares their results with the current ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from starlette.testclient import TestClient

from node import shadow
from node.config import load_config
from node.ledger import Ledger
from node.ledger.schema import AgreementState, Job, JobState, ResultState
from node.view import Record, full_record
from node.web.page import application
from tests.command_line import answer_of
from tests.ct import new_ct_series
from tests.pacs import pacs, send
from tests.peers import PEERS, RunningNode, config_folder, running_node
from tests.waiting import wait_until

DEADLINE_S = 120.0
OFFSET_HU = -12.0


def copy(offset_hu: float = 0.0, **changes: Any) -> dict[str, Any]:
    return {
        "class": "tests.shadow_trials:OffsetCopy",
        "settings": {"offset_hu": offset_hu, **changes.pop("settings", {})},
        "when": {"role": "planning_ct"},
        "quality_report": False,
        **changes,
    }


def boxes(columns: dict[str, list[int]], **changes: Any) -> dict[str, Any]:
    made = {"class": "tests.shadow_trials:BoxOrgans", "settings": {"columns": columns}, "when": {"role": "planning_ct"}}
    return {**made, **changes}


def in_shadow_of(current: str, **settings: Any) -> dict[str, Any]:
    return copy(OFFSET_HU, settings=settings, shadow=True, shadow_of=current)


def sent(node: RunningNode, **changes: Any) -> list[Dataset]:
    series = new_ct_series(**changes)
    assert set(send(series, node.address)) == {0x0000}
    return series


def job_of(ledger: Ledger, pipeline: str) -> Job | None:
    return next((job for job in ledger.jobs.all() if job.pipeline == pipeline), None)


def agreement_of(ledger: Ledger, pipeline: str) -> Record:
    """As `rtnode show` tells it, when it is over."""

    def over() -> Record | None:
        job = job_of(ledger, pipeline)
        record = full_record(ledger, job.id)["agreement"] if job else None
        return record if record and record["state"] in (AgreementState.MEASURED, AgreementState.FAILED) else None

    wait_until(over, DEADLINE_S, "the results are compared")
    found = over()
    assert found is not None
    return found


def values(record: Record) -> dict[str, float]:
    return {one["name"]: one["value"] for one in record["findings"]}


def finished(node: RunningNode, pipeline: str) -> bool:
    job = job_of(node.node.ledger, pipeline)
    return job is not None and job.state == JobState.FINISHED


@pytest.mark.req("NODE-06")
@pytest.mark.parametrize("watched", ["a_new", "z_new"])
def test_in_whatever_order_they_finish_the_difference_is_measured_and_nothing_is_sent(
    tmp_path: Path, watched: str
) -> None:
    # The only worker takes the jobs in the order of the names.
    with pacs(ae_title="TPS") as tps:
        peers = {**PEERS, "TPS": tps.peer(may={"echo", "store"}).model_dump(mode="json")}
        pipelines = {watched: {**in_shadow_of("old"), "send_to": ["TPS"]}, "old": copy(send_to=["TPS"])}
        config = config_folder(tmp_path, {}, peers, None, pipelines)
        with running_node(config) as node:
            series, ledger = sent(node), node.node.ledger
            record = agreement_of(ledger, watched)
            wait_until(lambda: ledger.deliveries.counts() == {"delivered": 1}, DEADLINE_S)
            results = {
                name: ledger.jobs.result_of(job.id) for name in (watched, "old") if (job := job_of(ledger, name))
            }
    new, old = results[watched], results["old"]
    assert new is not None and old is not None
    assert (new.id < old.id) == (watched == "a_new")
    assert values(record) == {
        "agreement_difference_hu": OFFSET_HU,
        "agreement_abs_difference_hu": -OFFSET_HU,
        "agreement_p95_difference_hu": -OFFSET_HU,
    }
    assert (record["current_pipeline"], record["current_result"], record["attempts"]) == ("old", old.id, 1)
    assert (new.state, len(tps.datasets)) == (ResultState.SHADOW, len(series))


def test_show_trend_and_page_tell_of_it_in_plain_words(tmp_path: Path) -> None:
    config = config_folder(tmp_path, pipelines={"new": in_shadow_of("old"), "old": copy()})
    with running_node(config) as node:
        sent(node)
        sent(node, patient_id="MADE-2")
        ledger = node.node.ledger
        wait_until(lambda: [len(one.points) for one in ledger.trends.all("new")].count(2) >= 6, DEADLINE_S)
        job = job_of(ledger, "new")
        assert job is not None
        page = TestClient(application(ledger)).get(f"/jobs/{job.id}").text
    shown = json.loads(answer_of("show", str(job.id), "--json", "--config", str(config)).stdout)
    agreement = shown["agreement"]
    sentence = "was compared with result {} of old (job {}), which is released"
    assert agreement["sentence"] == sentence.format(agreement["current_result"], agreement["current_job"])
    text = answer_of("show", str(job.id), "--config", str(config)).stdout
    assert f"the result in shadow {agreement['sentence']}" in text
    assert "agreement running" in [event["what"] for event in shown["events"]]
    listed = json.loads(answer_of("trend", "new", "--json", "--config", str(config)).stdout)
    (chart,) = [one for one in listed if one["finding"] == "agreement_difference_hu"]
    assert (chart["points"], chart["last"], chart["device"]) == (2, OFFSET_HU, "Maker")
    assert f"The result in shadow {agreement['sentence']}" in page
    assert "Mean difference inside the body, shadow minus current: -12" in page
    assert "agreement_difference_hu" in page.partition("<h2>Trend</h2>")[2]


def test_a_restart_between_the_two_results_loses_no_comparison(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    pipelines = {"a_old": copy(), "new": in_shadow_of("a_old", gate=str(gate))}
    config = config_folder(tmp_path, pipelines=pipelines)
    with running_node(config) as node:
        sent(node)
        wait_until(lambda: finished(node, "a_old"), DEADLINE_S)
    gate.touch()
    with running_node(config) as node:
        assert values(agreement_of(node.node.ledger, "new"))["agreement_difference_hu"] == OFFSET_HU


def test_results_that_a_node_died_over_while_they_were_compared_are_compared_after_its_start(tmp_path: Path) -> None:
    current, silent = copy(), copy(OFFSET_HU, shadow=True)
    with running_node(config_folder(tmp_path, pipelines={"new": silent, "old": current})) as node:
        sent(node)
        wait_until(lambda: finished(node, "new") and finished(node, "old"), DEADLINE_S)
    config = config_folder(tmp_path, pipelines={"new": in_shadow_of("old"), "old": current})
    ledger = Ledger(load_config(config).node.ledger_url)
    # Whoever names no current pipeline has nothing compared.
    job = job_of(ledger, "new")
    assert job is not None and full_record(ledger, job.id)["agreement"] is None
    (pair,) = ledger.agreements.unmeasured({"new": "old"})
    assert ledger.agreements.start(pair) is not None
    ledger.close()
    with running_node(config) as node:
        record = agreement_of(node.node.ledger, "new")
        assert (values(record)["agreement_difference_hu"], record["attempts"]) == (OFFSET_HU, 2)
        wait_until(lambda: node.files("jobs") == [])


def test_a_late_image_makes_both_results_anew_and_they_are_compared_anew(tmp_path: Path) -> None:
    config = config_folder(tmp_path, pipelines={"new": in_shadow_of("old"), "old": copy()})
    with running_node(config) as node:
        ledger, series = node.node.ledger, new_ct_series(6)
        send(series[:5], node.address)
        first = agreement_of(ledger, "new")
        send(series[5:], node.address)
        wait_until(lambda: ledger.jobs.counts().get(JobState.SUPERSEDED) == 2, DEADLINE_S)
        wait_until(lambda: finished(node, "new") and finished(node, "old"), DEADLINE_S)
        second = agreement_of(ledger, "new")
        charts = [one for one in ledger.trends.all("new") if one.finding.startswith("agreement")]
    assert second["current_result"] != first["current_result"]
    assert [len(chart.points) for chart in charts] == [1, 1, 1]


def test_a_comparison_that_kills_its_worker_is_given_up_and_the_next_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "MEASURED_BY", "tests.shadow_trials:DyingAgreement")
    config = config_folder(tmp_path, {"max_attempts": 2}, pipelines={"new": in_shadow_of("old"), "old": copy()})
    with running_node(config) as node:
        sent(node)
        record = agreement_of(node.node.ledger, "new")
        assert record["attempts"] == 2
        assert record["sentence"].endswith(": failed 2 times, the last time: its worker process died")
        sent(node, patient_id="MADE-2")
        wait_until(lambda: node.node.ledger.jobs.counts() == {JobState.FINISHED: 4}, DEADLINE_S)


def test_organs_found_in_shadow_are_held_against_the_current_ones(tmp_path: Path) -> None:
    pipelines = {
        "new": boxes({"Parotid_L": [4, 12], "Rectum": [0, 4]}, shadow=True, shadow_of="old"),
        "old": boxes({"Parotid_L": [6, 14]}),
    }
    with running_node(config_folder(tmp_path, pipelines=pipelines)) as node:
        sent(node)
        record = agreement_of(node.node.ledger, "new")
    # Six columns of eight in both; two of 1.5 mm in one only.
    found = values(record)
    assert found.pop("agreement_parotid_l_hd95_mm") == pytest.approx(3.0)
    assert found == {"agreement_parotid_l_dice": 0.75, "agreement_organs_of_one_only": 1.0}
    assert record["findings"][-1]["text"].endswith("(only in shadow: Rectum): 1")


def test_results_that_can_not_be_compared_say_why(tmp_path: Path) -> None:
    pipelines = {"new": in_shadow_of("old", slices_left_out=1), "old": copy()}
    with running_node(config_folder(tmp_path, pipelines=pipelines)) as node:
        sent(node)
        record = agreement_of(node.node.ledger, "new")
        assert (record["state"], record["findings"], record["attempts"]) == (AgreementState.FAILED, [], 1)
        assert record["sentence"].startswith("could not be compared with result")
        assert record["sentence"].endswith(": The two results have different voxel grids, so no voxel has a partner")
        wait_until(lambda: node.files("jobs") == [])
