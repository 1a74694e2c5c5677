"""The function store's suite on memory and on SQLite, and the migrations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from controller.core import Store
from controller.images.ports import ImageStore
from controller.storage.memory import MemoryStore
from controller.storage.memory_images import MemoryImageStore
from controller.storage.migrate import migrate
from controller.storage.sql.engine import Database, create_engine
from controller.storage.sql.images import SqlImageStore
from controller.storage.sql.store import SqlStore
from controller.storage.sql.tables import metadata
from tests.suites.function_store import FunctionStoreSuite, function
from tests.suites.image_store import ImageStoreSuite


class TestMemoryStore(FunctionStoreSuite):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryStore()


class TestSqliteStore(FunctionStoreSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:  # type: ignore[override]
        engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/state/lambdock.db")
        await migrate(engine)
        yield SqlStore(Database(engine))
        await engine.dispose()


class TestMemoryImageStore(ImageStoreSuite):
    @pytest.fixture
    async def images(self) -> ImageStore:
        return MemoryImageStore()


class TestSqliteImageStore(ImageStoreSuite):
    @pytest.fixture
    async def images(self, tmp_path: Path) -> AsyncIterator[ImageStore]:  # type: ignore[override]
        engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/lambdock.db")
        await migrate(engine)
        yield SqlImageStore(Database(engine))
        await engine.dispose()


async def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    engines = [create_engine(f"sqlite+aiosqlite:///{tmp_path}/lambdock.db") for _ in range(4)]

    await asyncio.gather(*(migrate(engine) for engine in engines))
    await SqlStore(Database(engines[0])).create(function())

    assert len(await SqlStore(Database(engines[3])).page("000000000000", "us-east-1", after="", limit=5)) == 1
    for engine in engines:
        await engine.dispose()


async def test_the_migrations_end_in_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/lambdock.db")
    await migrate(engine)

    def differences(connection: sa.Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
