"""Every benchmark runs, at its smallest: so that it does not rot."""

import pytest

from node.config import Settle
from tests.benchmarks import kill, latency


def test_latency_of_one_small_study() -> None:
    (latency_s,) = latency.latencies_s(studies=1, slices=5, matrix=16)
    assert latency_s >= Settle().grace_s


def test_one_kill(capsys: pytest.CaptureFixture[str]) -> None:
    assert kill.measured(rounds=1, slices=5, phases={"receive": kill.during_receive}) == []
    assert capsys.readouterr().out.splitlines()[1].split() == ["receive", "1", "5", "0"]
