"""Log lines: an event with data, as JSON for machines or in colours for a person. No patient in any of them.

UIDs, ids and AE titles go in; what a library says about a value that it could not read does not.
"""

import logging
import sys
import traceback
import warnings
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

QUIET = {
    "pydicom": logging.CRITICAL,
    "pynetdicom": logging.CRITICAL,
    "distributed": logging.ERROR,
    # Writes the message of every exception that a job has raised.
    "distributed.worker": logging.CRITICAL,
    "apscheduler": logging.ERROR,
    "alembic": logging.WARNING,
}
"""Loggers of libraries that quote values of data sets, or that would drown the node's own lines."""


def start_log(level: str = "INFO", as_json: bool | None = None) -> None:
    """Send every logger's lines to standard error; as JSON unless that is a terminal."""
    as_json = not sys.stderr.isatty() if as_json is None else as_json
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        exception_without_values,
    ]
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    hush_libraries()


def hush_libraries() -> None:
    """Keep libraries from writing a patient's data; in every process of the node, whoever writes its log."""
    for name, lowest in QUIET.items():
        logging.getLogger(name).setLevel(lowest)
    # A reader's warning quotes the value it warns about.
    warnings.filterwarnings("ignore", module=r"pydicom\..*")


def exception_without_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep of an exception its type and where it came from; its message may quote a patient's name."""
    exc_info = event.pop("exc_info", None)
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        event["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event
