"""The command line: `rtnode COMMAND`. Exit status 0 only on success, 78 for a configuration that can not be used."""

import sys

import typer

from node.commands import audit, features, images, models, operation, phantom, show, study, trend, work
from node.errors import EX_CONFIG, ConfigError, NodeError
from pipelines.base import PipelineError

app = typer.Typer(
    name="rtnode",
    help="A DICOM node for radiotherapy that proves for every result that it is stable enough to be used.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (operation, work, trend, audit, images, models, study, features, phantom, show):
    group.add_to(app)


def main() -> None:
    """Run the command that the arguments name."""
    try:
        app()
    except ConfigError as error:
        sys.exit(_complain(error, EX_CONFIG))
    except (NodeError, PipelineError) as error:
        sys.exit(_complain(error, 1))


def _complain(error: Exception, status: int) -> int:
    typer.echo(f"rtnode: {error}", err=True)
    return status


if __name__ == "__main__":
    main()
