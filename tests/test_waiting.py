"""Waiting ends with the condition or with the deadline."""

import pytest

from tests.waiting import wait_until


def test_waiting_ends_when_the_condition_holds() -> None:
    answers = iter([False, False, True])
    wait_until(lambda: next(answers))
    assert list(answers) == []


def test_waiting_raises_past_its_deadline() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the cows come home"):
        wait_until(lambda: False, deadline_s=0.05, what="the cows come home")
