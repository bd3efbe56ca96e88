"""Held results that nobody decides on: an alarm once, seen until a person has decided."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from node.config import load_config
from node.ledger import Ledger
from node.service import Node
from node.view import alarms, counts
from node.web.page import application
from pipelines.stability import Verdict
from tests.node.course import Course
from tests.peers import config_folder

SOON = timedelta(hours=1)


@pytest.fixture
def held(ledger: Ledger, tmp_path: Path) -> Course:
    """The report of the first fraction is held."""
    course = Course.of(ledger, tmp_path)
    course.plan()
    course.fraction(1)
    course.run_next(Verdict.HOLD)
    return course


def raised(course: Course, pipeline: str = "reports", after: timedelta = SOON) -> list[int]:
    return course.ledger.decisions.raise_alarms({pipeline: datetime.now(UTC) + after})


def test_a_result_that_is_held_too_long_raises_one_alarm(held: Course) -> None:
    assert (raised(held, after=-SOON), raised(held, "another")) == ([], [])
    assert (raised(held), raised(held)) == ([1], [])
    assert [event.what for event in held.ledger.events.of("result/1")] == ["result held", "result held too long"]
    assert counts(held.ledger)["results"] == {"held": 1, "held too long": 1}
    assert [(one["result"], one["job"], one["verdict"]) for one in alarms(held.ledger)] == [(1, 1, "hold")]


@pytest.mark.parametrize("ends", ["released", "rejected", "superseded"])
def test_an_alarm_is_over_when_a_person_has_decided_or_nobody_has_to(held: Course, ends: str) -> None:
    raised(held)
    if ends == "released":
        held.ledger.decisions.release(1, "Ohta", "looks fine", lambda _: [])
    elif ends == "rejected":
        held.ledger.decisions.reject(1, "Ohta", "bent jaw")
    else:
        held.receives("1")
    assert alarms(held.ledger) == []
    assert counts(held.ledger)["results"] == ({} if ends == "superseded" else {ends: 1})


def test_the_page_shows_what_is_held_too_long(held: Course) -> None:
    page = TestClient(application(held.ledger))
    assert "Held too long" not in page.get("/").text
    raised(held)
    assert 'Result 1 of <a href="/jobs/1">job 1</a> is held since' in page.get("/").text


def test_the_node_says_it_as_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reports = {"class": "tests.fraction_reports:FractionReport", "when": {"role": "cbct"}, "alarm_h": 1e-9}
    node = Node(load_config(config_folder(tmp_path, pipelines={"reports": reports})))
    course = Course.of(node.ledger, tmp_path)
    course.plan()
    course.fraction(1)
    course.run_next(Verdict.HOLD)
    node._raise_alarms()
    [record] = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.__dict__["result"] == 1
    node.ledger.close()
