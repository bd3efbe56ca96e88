"""Pipelines that misbehave in one way each; workers import them from here."""

import ctypes
import os
import re
import signal
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from pipelines.base import InputRejected, Inputs, Need, Outcome, PipelineError, Progress, no_progress
from pipelines.copy_series import CopySeries
from pipelines.stability import judged

POLL_S = 0.02


class Trouble(StrEnum):
    """What an attempt does, besides copying."""

    NONE = "none"
    WAITS = "waits"
    """Until the file `gate` lies in the folder."""
    HANGS = "hangs"
    HOLDS_THE_INTERPRETER = "holds the interpreter"
    BACKTRACKS = "backtracks"
    EATS_MEMORY = "eats memory"
    DIES = "dies"
    STOPS = "stops"
    """The process, so that nothing in it can end it."""
    FAILS = "fails"
    REJECTS = "rejects"


class TrialCopy(CopySeries):
    """Copies a series after trouble; every attempt leaves a file with the id of its process in the folder."""

    folder: Path
    trouble: Trouble = Trouble.NONE
    attempts_in_trouble: int = 1000
    """All later attempts on this pipeline go well."""

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Copy the triggering series, if it comes to that."""
        attempt = len(attempts(self.folder)) + 1
        (self.folder / f"attempt-{attempt:03d}").write_text(str(os.getpid()))
        if attempt <= self.attempts_in_trouble:
            self._be_in_trouble()
        return super().run(inputs, progress)

    def _be_in_trouble(self) -> None:
        match self.trouble:
            case Trouble.WAITS:
                while not (self.folder / "gate").exists():
                    time.sleep(POLL_S)
            case Trouble.HANGS:
                time.sleep(1000)
            case Trouble.HOLDS_THE_INTERPRETER:
                # A function called through PyDLL keeps the interpreter's lock, as a bad extension would.
                ctypes.PyDLL(None).sleep(1000)
            case Trouble.BACKTRACKS:
                re.match(r"(a+)+$", "a" * 60 + "b")
            case Trouble.EATS_MEMORY:
                eaten = []
                while True:
                    eaten.append(b"x" * 2**24)
                    time.sleep(POLL_S)
            case Trouble.DIES:
                os.kill(os.getpid(), signal.SIGKILL)
            case Trouble.STOPS:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Trouble.FAILS:
                raise PipelineError("the trial failed")
            case Trouble.REJECTS:
                raise InputRejected("The series is a trial")


class CopyWithPlan(CopySeries):
    """Copies a series that has a planning CT and a structure set; waits for them otherwise."""

    needs: ClassVar[Mapping[str, Need]] = {"planning_ct": Need(), "structure_set": Need()}


class HeldCopy(CopySeries):
    """Copies a series and finds something that nobody knows a limit of: every result waits for a person."""

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Copy the triggering series."""
        copied = super().run(inputs, progress)
        unknown = judged("strangeness", 1.0, "1", None, "How strange it looks")
        return Outcome(copied.series, (*copied.findings, unknown))


def attempts(folder: Path) -> list[int]:
    """Process ids of the attempts so far, the first one first."""
    return [int(path.read_text() or 0) for path in sorted(folder.glob("attempt-*"))]
