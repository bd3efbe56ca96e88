"""What many commands share: options, and the ledger of a node that may be running."""

from pathlib import Path
from typing import Annotated

import typer

from node.config import Config
from node.errors import NodeError
from node.ledger import Ledger

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="DIR", help="Configuration folder; config/, then /etc/rtnode.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
ByOption = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; goes into the audit trail.")]


def existing_ledger(config: Config) -> Ledger:
    """The ledger as the node keeps it; raises NodeError where no node has made one yet."""
    path = config.node.state_dir / "ledger.sqlite3"
    if config.node.ledger == "sqlite" and not path.is_file():
        raise NodeError(f"there is no ledger at {path}: the node was never started with this configuration")
    return Ledger(config.node.ledger_url, migrate=False)
