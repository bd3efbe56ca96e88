"""How far long work is: a part between 0 and 1, and what is being done."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, str], None]


class CountedProgress:
    """Progress of so many equal steps of one kind."""

    def __init__(self, steps: int, what: str, progress: Progress) -> None:
        self._steps = steps
        self._what = what
        self._progress = progress
        self._done = 0

    def __call__(self) -> None:
        """One more is done."""
        self._done += 1
        self._progress(self._done / self._steps, self._what)


def part(progress: Progress, start: float, stop: float) -> Progress:
    """The progress of one part of the work, within the whole."""
    return lambda done, what: progress(start + (stop - start) * done, what)
