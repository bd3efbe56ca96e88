"""`rtnode` that dies by SIGKILL at a point of its own transaction.

    python -m tests.system.killed_command before release 1 --by NAME --why TEXT --config DIR

`before` the database commits, or `after` it has, with nothing printed yet.
"""

import os
import signal
import sys

import typer
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from node.commands import work


def _die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    point = sys.argv.pop(1)
    if point == "before":
        event.listen(Engine, "commit", _die)
    else:
        event.listen(Session, "after_commit", _die)
    app = typer.Typer()
    work.add_to(app)
    app()
