"""Fixtures of the node's tests: one running node shared by a module, and a ledger on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.ledger import Ledger
from tests.peers import RunningNode, config_folder, new_database, running_node


@pytest.fixture(scope="module")
def node(scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node that receives and settles, with no pipeline; shared, so a test looks only at what it has sent itself."""
    with running_node(config_folder(tmp_path_factory.mktemp("node"), {"engine": scheduler})) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    return new_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger, on either kind of database."""
    one = Ledger(ledger_url)
    yield one
    one.close()
