from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from contract.bus.redis_bus import RedisBus
from contract.keys import Keys
from tests.integration.bus.cell import Cell
from tests.redis_fixture import RedisServer, binaries


@pytest.fixture(scope="session", params=sorted(binaries()))
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that all tests share; each has a cell of its own on it."""
    server = RedisServer(binaries()[request.param])
    server.start()
    yield server
    server.remove()


@pytest.fixture(params=sorted(binaries()))
def mortal_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of the test's own, to be killed and started again."""
    server = RedisServer(binaries()[request.param])
    server.start()
    yield server
    server.remove()


def new_keys() -> Keys:
    return Keys(f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture
async def cell(server: RedisServer) -> AsyncIterator[Cell]:
    cell = Cell(RedisBus(server.url, new_keys()), server.url)
    await cell.open()
    yield cell
    immortal = await cell.immortal_keys()
    cell.close()
    assert not immortal, "these keys would stay in Redis for ever"


@pytest.fixture
async def mortal_cell(mortal_server: RedisServer) -> AsyncIterator[Cell]:
    cell = Cell(RedisBus(mortal_server.url, new_keys()), mortal_server.url)
    await cell.open()
    yield cell
    cell.close()
