import subprocess
import sys
from pathlib import Path

import pytest

from models.training.drawn_ahead import DrawnAhead

REPOSITORY = Path(__file__).parents[3]


def test_each_update_gets_its_own_draw_in_order() -> None:
    drawn = DrawnAhead(lambda number: number * number, 20, 0)
    assert list(drawn.behind(0)) == [number * number for number in range(20)]


def test_a_run_may_begin_in_the_middle_and_nothing_is_drawn_beyond_its_end() -> None:
    assert list(DrawnAhead(lambda number: number, 8, 0).behind(5)) == [5, 6, 7]


def test_a_draw_that_fails_says_so_at_its_update() -> None:
    drawn = DrawnAhead(lambda number: 1 // (2 - number), 4, 0).behind(0)
    assert next(drawn) == 0
    assert next(drawn) == 1
    with pytest.raises(ZeroDivisionError):
        next(drawn)


PROGRAM = """
import os
from models.training.drawn_ahead import DrawnAhead

drawn = list(DrawnAhead(lambda number: (number * number, os.getpid()), 20, 2).behind(5))
print([square for square, _ in drawn] == [number * number for number in range(5, 20)])
print(len({maker for _, maker in drawn}) == 2 and os.getpid() not in {maker for _, maker in drawn})
failing = DrawnAhead(lambda number: 1 // (2 - number), 4, 1).behind(0)
print(next(failing), next(failing))
try:
    next(failing)
except ZeroDivisionError:
    print("said so")
"""


def test_draws_are_made_in_other_processes_in_their_order_and_a_failure_is_said_at_its_update() -> None:
    # In a program of its own: a process forked off this one would share its connection to the runner of the tests.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["True", "True", "0 1", "said so"]
