"""Every benchmark runs, at its smallest: so that it does not rot."""

import pytest

from node.config import Settle
from tests.benchmarks import kill, latency, organ_objects, projection_speed


def test_latency_of_one_small_study() -> None:
    (latency_s,) = latency.latencies_s(studies=1, slices=5, matrix=16)
    assert latency_s >= Settle().grace_s


def test_one_kill(capsys: pytest.CaptureFixture[str]) -> None:
    assert kill.measured(rounds=1, slices=5, phases={"receive": kill.during_receive}) == []
    assert capsys.readouterr().out.splitlines()[1].split() == ["receive", "1", "5", "0"]


def test_projection_of_a_small_slice(capsys: pytest.CaptureFixture[str]) -> None:
    projection_speed.main(pixels=16, views=40, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-8:]] == ["40", "40", "8", "8", "4", "4", "2", "2"]
    assert all(float(seconds) >= 0.0 for line in lines[-8:] for seconds in line.split()[4:])


def test_organs_to_objects_and_back_on_a_small_grid(capsys: pytest.CaptureFixture[str]) -> None:
    organ_objects.main(slices=4, matrix=32, count=3)
    assert len(capsys.readouterr().out.splitlines()) == 6
