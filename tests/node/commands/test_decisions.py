import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import NodeError
from node.ledger.schema import DeliveryState
from node.view import full_record
from pipelines.stability import Verdict
from tests.command_line import answer_of
from tests.node.released import Released

CONFIG = {
    "node.yaml": "{state_dir: STATE, min_free_gib: 0}",
    "peers.yaml": "PACS: {ae_title: PACS, host: 127.0.0.1, port: 1, receives: [CT]}",
    "roles.yaml": "- {role: cbct, all: {Modality: CT}}",
    "pipelines/copy.yaml": "{class: pipelines.copy_series:CopySeries, when: {role: cbct}, send_to: [PACS]}",
}


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Released]:
    for name, text in CONFIG.items():
        path = tmp_path / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("STATE", str(tmp_path)))
    state = Released(tmp_path)
    assert state.result({"CT": ["PACS"]}, Verdict.HOLD) == []
    yield state
    state.ledger.close()


def decide(word: str, held: Released, *arguments: str) -> subprocess.CompletedProcess[str]:
    return answer_of(word, "1", *arguments, "--config", str(held.folder / "config"))


@pytest.mark.req("NODE-06")
def test_held_result_is_queued_for_its_peers_only_when_a_person_releases_it(held: Released) -> None:
    answer = decide("release", held, "--by", "Ohta", "--why", "compared with the planning CT")
    assert (answer.returncode, answer.stdout) == (0, "result 1 is released\n")
    (delivery,) = held.ledger.deliveries.of_result(1)
    assert (delivery.peer, delivery.state) == ("PACS", DeliveryState.QUEUED)
    decision = held.ledger.events.of("result/1")[-1]
    assert (decision.what, decision.who, decision.why) == ("result released", "Ohta", "compared with the planning CT")


@pytest.mark.req("NODE-06")
def test_rejected_result_can_not_be_released_any_more(held: Released) -> None:
    assert decide("reject", held, "--by", "Ohta", "--why", "bent jaw").returncode == 0
    answer = decide("release", held, "--by", "Sato", "--why", "looks fine")
    assert (answer.returncode, answer.stderr) == (1, "rtnode: result 1 is not held, but rejected\n")
    assert held.ledger.deliveries.of_result(1) == []


def test_nobody_decides_without_a_name_and_a_reason(held: Released) -> None:
    assert decide("release", held, "--by", "Ohta").returncode == 2
    assert held.ledger.deliveries.of_result(1) == []


def test_result_whose_series_was_opened_again_can_not_be_released(held: Released) -> None:
    held.late_instance()
    answer = decide("release", held, "--by", "Ohta", "--why", "in a hurry")
    assert answer.stderr == "rtnode: result 1 was superseded: late instances arrived for one of its series\n"


def test_units_in_brackets_are_shown(held: Released) -> None:
    command = [sys.executable, "-m", "node", "show", "1", "--config", str(held.folder / "config")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    assert "[hnsf'U]" in shown.stdout


@pytest.fixture
def four_eyes(held: Released) -> Released:
    """The pipeline of the held result asks for two persons."""
    path = held.folder / "config" / "pipelines" / "copy.yaml"
    path.write_text(path.read_text().replace("send_to", "four_eyes: true, send_to"))
    return held


@pytest.mark.req("NODE-06")
def test_where_two_persons_have_to_release_the_first_alone_sends_nothing(four_eyes: Released) -> None:
    answer = decide("release", four_eyes, "--by", "Ohta", "--why", "compared with the planning CT")
    assert (answer.returncode, answer.stdout) == (0, "result 1 stays held until a second person releases it\n")
    assert four_eyes.ledger.deliveries.of_result(1) == []
    again = decide("release", four_eyes, "--by", " ohta", "--why", "once more")
    complaint = "rtnode: result 1 was released by Ohta already: a second person has to release it too\n"
    assert (again.returncode, again.stderr, four_eyes.ledger.deliveries.of_result(1)) == (1, complaint, [])
    assert decide("release", four_eyes, "--by", "Sato", "--why", "I agree").stdout == "result 1 is released\n"
    assert [one.peer for one in four_eyes.ledger.deliveries.of_result(1)] == ["PACS"]
    decisions = [(one.what, one.who, one.why) for one in four_eyes.ledger.events.of("result/1")[1:]]
    assert decisions == [
        ("result released by the first of two persons", "Ohta", "compared with the planning CT"),
        ("result released", "Sato", "I agree"),
    ]


@pytest.mark.req("NODE-06")
def test_one_person_is_enough_to_reject_what_another_has_released(four_eyes: Released) -> None:
    decisions = four_eyes.ledger.decisions
    assert not decisions.release(1, "Ohta", "looks fine", lambda _: ["PACS"], four_eyes=True)
    decisions.reject(1, "Sato", "bent jaw")
    with pytest.raises(NodeError, match="result 1 is not held, but rejected"):
        decisions.release(1, "Kato", "looks fine", lambda _: ["PACS"], four_eyes=True)
    assert four_eyes.ledger.deliveries.of_result(1) == []


def test_who_looks_at_a_job_sees_who_has_released_it_first(four_eyes: Released) -> None:
    four_eyes.ledger.decisions.release(1, "Ohta", "looks fine", lambda _: ["PACS"], four_eyes=True)
    result = full_record(four_eyes.ledger, 1)["result"]
    assert (result["state"], result["released_by_first"], result["decided_by"]) == ("held", "Ohta", None)
