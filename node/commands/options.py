"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="DIR", help="Configuration folder; config/, then /etc/rtnode.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
ByOption = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; goes into the audit trail.")]
