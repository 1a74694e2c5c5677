"""The layer store's suite on memory and on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.resources.layers.ports import LayerStore
from controller.storage.memory_layers import MemoryLayerStore
from controller.storage.migrate import migrate
from controller.storage.sql.engine import Database, create_engine
from controller.storage.sql.layers import SqlLayerStore
from tests.suites.layer_store import LayerStoreSuite


class TestMemoryLayerStore(LayerStoreSuite):
    @pytest.fixture
    async def store(self) -> LayerStore:
        return MemoryLayerStore()


class TestSqliteLayerStore(LayerStoreSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[LayerStore]:  # type: ignore[override]
        engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/state/lambdock.db")
        await migrate(engine)
        yield SqlLayerStore(Database(engine))
        await engine.dispose()
