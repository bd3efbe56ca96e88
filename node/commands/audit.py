"""Commands about the audit trail: audit verify, audit export."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from node.audit.messages import Messages
from node.audit.trail import BATCH, kept_head, missing_events
from node.commands.options import ConfigOption, existing_ledger
from node.config import load_config
from node.errors import NodeError
from node.ledger import Ledger

audit = typer.Typer(help="The audit trail.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(audit, name="audit")


@audit.command("verify")
def verify(
    holds: Annotated[
        str | None, typer.Option("--holds", metavar="HASH", help="Of an event that an exported message speaks of.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Check the chain of events, and that its end was not cut off; exit status 1 where it is broken."""
    settings = load_config(config)
    ledger = existing_ledger(settings)
    broken = ledger.events.first_broken()
    missing = missing_events(ledger, kept_head(settings.node.state_dir))
    is_held = holds is None or ledger.events.holds(holds)
    ledger.close()
    if broken is not None:
        raise NodeError(f"the audit trail is broken at event {broken}")
    if missing is not None:
        raise NodeError(f"the audit trail is broken: {missing}")
    if not is_held:
        raise NodeError("the audit trail is broken: no event has this hash")
    typer.echo("the audit trail is whole")


@audit.command("export")
def export(
    since: Annotated[int, typer.Option("--since", metavar="ID", help="Begin with the event after this one.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="A new file; standard output if left out.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write the audit trail as DICOM audit messages (PS3.15 A.5), one on each line."""
    settings = load_config(config)
    ledger = existing_ledger(settings)
    messages = Messages(settings.node.ae_title, settings.peers, settings.node.audit.patient_ids)
    count = 0
    try:
        with output.open("xb") if output else nullcontext(sys.stdout.buffer) as file:
            for xml in _exported(ledger, messages, since):
                file.write(xml + b"\n")
                count += 1
    except OSError as error:
        raise NodeError(f"the audit messages can not be written: {error}") from error
    finally:
        ledger.close()
    if output:
        typer.echo(f"{count} audit messages in {output}")


def _exported(ledger: Ledger, messages: Messages, since: int) -> Iterator[bytes]:
    while events := ledger.audited.after(since, BATCH):
        yield from (message.xml for message in map(messages.of, events) if message)
        since = events[-1].event.id
