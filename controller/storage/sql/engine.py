"""Opens the database, with what SQLite and PostgreSQL each need to be shared by several processes."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_TIMEOUT_MS = 15_000
#: Of one process: two controllers and the background process stay far below a server's usual 100.
CONNECTIONS: Final = 10
_CONNECT_S: Final = 10.0
_STATEMENT_S: Final = 30.0
#: Connections are closed when they are so old: addresses behind a name change, and proxies forget.
_RECYCLE_S: Final = 1800
#: The server's own deadlines, should this process be stopped or cut off in the middle of a transaction.
_SERVER_SETTINGS: Final = MappingProxyType(
    {
        "application_name": "lambdock",
        "lock_timeout": str(BUSY_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": "60000",
        "jit": "off",
    }
)
_POSTGRESQL: Final = "postgresql+asyncpg"
_SQLITE: Final = "sqlite+aiosqlite"
_DRIVERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "postgresql": _POSTGRESQL,
        "postgres": _POSTGRESQL,
        _POSTGRESQL: _POSTGRESQL,
        "sqlite": _SQLITE,
        _SQLITE: _SQLITE,
    }
)
_FORMS: Final = "expected postgresql://user:password@host:5432/database or sqlite:////absolute/file.db"
#: Marks a connection whose transaction will write.
_WRITES = "lambdock_writes"


class Database:
    """Transactions on one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading, self._writing = engine, engine.execution_options(**{_WRITES: True})
        if engine.dialect.name == "postgresql":
            # By default every statement there sees a moment of its own. Readers never fail by it, nor hold up writers.
            self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one moment and changes nothing."""
        async with self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that is committed on leaving the block, rolled back when an exception leaves it.

        On SQLite one at a time writes. On PostgreSQL they run side by side and each statement sees what is committed by
        then: an update waits for another one of its row, and then looks at its own condition again. So what must hold
        between two statements takes a row's lock first, by updating it.
        """
        async with self._writing.begin() as connection:
            yield connection

    async def probe(self) -> None:
        """Raise unless the database answers."""
        async with self.read() as connection:
            await connection.execute(sa.select(1))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def create_engine(url: str) -> AsyncEngine:
    """Return an engine for the URL; the directory of a SQLite file is made if need be. Connects when first used.

    Errors do not show a statement's parameters: functions' environments are among them, and errors are logged.
    Raises ValueError, as `driver_url` does.
    """
    parsed = driver_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_async_engine(
            parsed,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=_CONNECT_S,
            pool_recycle=_RECYCLE_S,
            # The server may have been started anew since a connection was last used.
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "timeout": _CONNECT_S,
                "command_timeout": _STATEMENT_S,
                "server_settings": dict(_SERVER_SETTINGS),
            },
        )
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(parsed, hide_parameters=True)
    sa.event.listen(engine.sync_engine, "connect", _configure_sqlite)
    sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def driver_url(url: str) -> sa.URL:
    """Return the URL with the driver that the platform uses, whatever other tools call it: `postgresql://…`.

    Raises ValueError, which begins with the setting's name and holds no password, for a database of another kind.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ValueError(f"LAMBDOCK_DATABASE_URL is no database's URL; {_FORMS}") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ValueError(f"LAMBDOCK_DATABASE_URL: {parsed.drivername!r} is not supported; {_FORMS}")
    parsed = parsed.set(drivername=driver)
    if driver == _POSTGRESQL and "sslmode" in parsed.query:
        # libpq's name of it, which people copy from their provider.
        parsed = parsed.update_query_dict({"ssl": parsed.query["sslmode"]}).difference_update_query(["sslmode"])
    return parsed


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and late; see _begin_sqlite.
    connection.isolation_level = None
    cursor: sqlite3.Cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once, whatever the time-out, if another one wrote in
    # between; taking the write lock at the beginning waits instead.
    is_writing = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")
