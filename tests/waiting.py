"""Waiting for a condition, with a deadline: no test sleeps for a time that somebody guessed."""

import time
from collections.abc import Callable

POLL_S = 0.02


def wait_until(condition: Callable[[], object], deadline_s: float = 30.0, what: str = "") -> None:
    """Return as soon as the condition holds; AssertionError when it does not by the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what or condition}"
        time.sleep(POLL_S)
