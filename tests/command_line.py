"""Commands of rtnode in this process: what `python -m node` answers, without the seconds of imports of a new one."""

import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest.mock import patch

from node.__main__ import main


def answer_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    out, err = io.StringIO(), io.StringIO()
    with _logging_kept(), warnings.catch_warnings(), patch.object(sys, "argv", ["rtnode", *arguments]):
        with redirect_stdout(out), redirect_stderr(err):
            status = _exit_status()
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def _exit_status() -> int:
    try:
        main()
    except SystemExit as ended:
        assert ended.code is None or isinstance(ended.code, int), "a command ends with a number"
        return ended.code or 0
    return 0


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Put back what a command changes of the loggers of its process."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    levels, handlers = [logger.level for logger in loggers], logging.root.handlers[:]
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        logging.root.handlers[:] = handlers
