"""The ledger's database: SQLite (WAL) beside the files, or PostgreSQL. One writer at a time, whatever is below.

Every writing transaction is serialised, so that the chain of events has no fork and "look, then insert" is safe.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from node.errors import LedgerError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 30_000
WRITER_LOCK = 0x52544E4F4445
"""Key of PostgreSQL's advisory lock that makes the writers queue ("RTNODE" in ASCII)."""


class Database:
    """Sessions for reading and for writing; rows that come out are snapshots."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        self._sqlite = self._engine.dialect.name == "sqlite"
        self._writer = threading.Lock()
        if self._sqlite:
            _prepare_sqlite(self._engine)
        self._writing = self._engine.execution_options(rtnode_writes=True)

    def migrate(self) -> None:
        """Bring the tables to the present version; rows stay, so an upgrade keeps a running queue.

        Raises
        ------
        LedgerError
            If the database can not be reached, or a newer version of the node has written it.
        """
        # Takes a second to import; only a starting node migrates.
        from alembic import command
        from alembic.config import Config as AlembicConfig
        from alembic.util import CommandError

        configuration = AlembicConfig()
        configuration.set_main_option("script_location", str(MIGRATIONS))
        try:
            with self._writer, self._writing.connect() as connection:
                self._queue_up(connection)
                configuration.attributes["connection"] = connection
                command.upgrade(configuration, "head")
                connection.commit()
        except CommandError as error:
            raise LedgerError(
                "the ledger has tables of another version of the node; start that one, or a newer"
            ) from error
        except DBAPIError as error:
            raise LedgerError(f"the ledger can not be opened: {error.orig}") from error

    def require_present_version(self) -> None:
        """Look at the tables without touching them.

        Raises
        ------
        LedgerError
            If the database can not be reached, or another version of the node has made its tables.
        """
        try:
            with self.read() as session:
                version = session.scalar(text("SELECT version_num FROM alembic_version"))
        except DBAPIError as error:
            raise LedgerError(f"the ledger can not be opened: {error.orig}") from error
        if version != _present_version():
            raise LedgerError(
                "the ledger has tables of another version of the node; a start of this one brings older ones up to date"
            )

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that changes the ledger; committed at the end of the block, rolled back by an exception.

        Raises
        ------
        LedgerError
            If the database does not take it.
        """
        try:
            with self._writer, Session(self._writing, expire_on_commit=False) as session, session.begin():
                self._queue_up(session.connection())
                yield session
        except DBAPIError as error:
            raise LedgerError("the ledger has not taken a change") from error

    def _queue_up(self, connection: Connection) -> None:
        """Wait for the writers of other processes; SQLite has done so at BEGIN."""
        if not self._sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITER_LOCK})

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    def connect(self) -> Connection:
        """A bare connection, for tests and tools that look at the tables."""
        return self._engine.connect()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _present_version() -> str:
    """Of the newest migration; their file names begin with it, and alembic would take a second to import."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def _prepare_sqlite(engine: Engine) -> None:
    """Durable commits, and a write lock taken at BEGIN.

    The driver would begin only at the first change; two writers that had both read would then fail instead of queue.
    """

    @event.listens_for(engine, "connect")
    def _on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        settings: Any = connection
        settings.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("rtnode_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
