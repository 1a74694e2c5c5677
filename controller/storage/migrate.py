"""Brings the database to the newest schema, one process at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine

from controller.storage.sql.engine import Database

_SCRIPTS = Path(__file__).parent / "migrations"
#: Any number that nobody else uses for an advisory lock in this database ("lambdock" in letters' places).
_ADVISORY_LOCK = 1_201_132_415
LOCK_DEADLINE_S = 120.0


async def migrate(engine: AsyncEngine) -> None:
    """Apply what is missing. Processes that start together wait for each other; the later ones find nothing to do."""
    if engine.url.get_backend_name() == "sqlite":
        async with (
            _file_lock(Path(f"{engine.url.database}.migrate.lock")),
            Database(engine).write() as connection,
        ):
            await connection.run_sync(_upgrade)
        return
    async with asyncio.timeout(LOCK_DEADLINE_S):
        # Tried again and again rather than awaited: a statement that waits has a deadline, and holds a connection.
        while not await _upgrade_if_alone(engine):  # noqa: ASYNC110 - the lock is another process's
            await asyncio.sleep(0.1)


async def _upgrade_if_alone(engine: AsyncEngine) -> bool:
    async with engine.begin() as connection:
        # Held until the transaction ends, however it ends.
        lock = await connection.execute(sa.text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        if not lock.scalar_one():
            return False
        await connection.run_sync(_upgrade)
        return True


def _upgrade(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@asynccontextmanager
async def _file_lock(path: Path) -> AsyncIterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        async with asyncio.timeout(LOCK_DEADLINE_S):
            # Tried again and again rather than awaited in a thread, which could not be cancelled.
            while not _try_lock(descriptor):  # noqa: ASYNC110 - a file lock has no event to wait for
                await asyncio.sleep(0.05)
        yield
    finally:
        # Closing releases the lock; the file stays, or a third process could lock another file of this name.
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
