"""The order of all tests, and their fixtures: a scheduler for nodes that are to run no job, and a PostgreSQL server."""

import gc
from collections.abc import Generator, Iterator

import pytest
from distributed import LocalCluster

from tests.peers import postgresql_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole systems first: they take longest, and of several processes none has to wait for another at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/system/"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Set apart what is imported: it stays to the end, and every collection of garbage would look at all of it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of a Dask scheduler without a worker: jobs stay queued, and nodes start at once."""
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:  # type: ignore[no-untyped-call]
        yield str(cluster.scheduler_address)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server; tests.peers.new_database makes a database of its own for a test."""
    with postgresql_server() as url:
        yield url
