"""The stores' suites on a real PostgreSQL server, and what is PostgreSQL's alone: migrations, isolation, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncEngine

from controller.core import Store
from controller.domain import function as domain
from controller.images.ports import ImageStore
from controller.resources.layers.ports import LayerStore
from controller.storage import migrate as migrations
from controller.storage.migrate import migrate
from controller.storage.sql.engine import CONNECTIONS, Database, create_engine
from controller.storage.sql.images import SqlImageStore
from controller.storage.sql.layers import SqlLayerStore
from controller.storage.sql.store import SqlStore
from controller.storage.sql.tables import functions, metadata
from tests.postgres_server import PostgresServer
from tests.suites.function_store import FunctionStoreSuite, active, function, stamps
from tests.suites.image_store import ImageStoreSuite
from tests.suites.layer_store import LayerStoreSuite


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


@pytest.fixture
async def engine(server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    """An engine on an empty, migrated database."""
    engine = create_engine(server.make_database())
    await migrate(engine)
    yield engine
    await engine.dispose()


class TestPostgresFunctions(FunctionStoreSuite):
    @pytest.fixture
    async def store(self, engine: AsyncEngine) -> Store:
        return SqlStore(Database(engine))


class TestPostgresLayers(LayerStoreSuite):
    @pytest.fixture
    async def store(self, engine: AsyncEngine) -> LayerStore:
        return SqlLayerStore(Database(engine))


class TestPostgresImages(ImageStoreSuite):
    @pytest.fixture
    async def images(self, engine: AsyncEngine) -> ImageStore:
        return SqlImageStore(Database(engine))


async def test_processes_that_start_together_migrate_once(server: PostgresServer) -> None:
    url = server.make_database()
    engines = [create_engine(url) for _ in range(4)]

    await asyncio.gather(*(migrate(engine) for engine in engines))
    await SqlStore(Database(engines[0])).create(function())

    assert len(await SqlStore(Database(engines[3])).page("000000000000", "us-east-1", after="", limit=5)) == 1
    for engine in engines:
        await engine.dispose()


async def test_whoever_comes_second_waits_until_the_first_has_migrated(server: PostgresServer) -> None:
    url = server.make_database()
    first, second = create_engine(url), create_engine(url)
    async with first.begin() as connection:
        lock = sa.text("SELECT pg_advisory_xact_lock(:key)")
        await connection.execute(lock, {"key": migrations._ADVISORY_LOCK})

        waiting = asyncio.create_task(migrate(second))
        await asyncio.wait({waiting}, timeout=0.5)
        assert not waiting.done()

    await waiting
    for engine in (first, second):
        await engine.dispose()


async def test_the_migrations_end_in_the_tables_that_the_code_uses(engine: AsyncEngine) -> None:
    def differences(connection: sa.Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_every_name_sorts_by_code_point_in_a_database_that_sorts_otherwise(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        # The test means something only here: this server puts "a" before "C".
        assert (await connection.execute(sa.text("SELECT 'a' < 'C'"))).scalar_one() is True
        collations = await connection.execute(
            sa.text(
                "SELECT table_name, collation_name FROM information_schema.columns"
                " WHERE column_name = 'name' AND table_schema = 'public'"
            )
        )
        found = dict(tuple(row) for row in collations)
    assert found == dict.fromkeys((table.name for table in metadata.tables.values() if "name" in table.c), "C")


async def test_a_reader_sees_one_moment(engine: AsyncEngine) -> None:
    database = Database(engine)
    store = SqlStore(database)
    count = sa.select(sa.func.count()).select_from(functions)
    async with database.read() as connection:
        assert (await connection.execute(count)).scalar_one() == 0

        await store.create(function())

        assert (await connection.execute(count)).scalar_one() == 0
    async with database.read() as connection:
        assert (await connection.execute(count)).scalar_one() == 1


async def test_a_reader_can_write_nothing(engine: AsyncEngine) -> None:
    async with Database(engine).read() as connection:
        with pytest.raises(sa.exc.DBAPIError, match="read-only transaction"):
            await connection.execute(functions.delete())


async def test_more_work_than_connections_is_done_in_turn(engine: AsyncEngine) -> None:
    store = SqlStore(Database(engine))
    made = active(function())
    await store.create(made)

    found = await asyncio.gather(*(store.get_by_uid(made.uid) for _ in range(CONNECTIONS * 10)))

    assert found == [made] * (CONNECTIONS * 10)


async def test_versions_published_at_once_by_two_controllers_get_numbers_of_their_own(server: PostgresServer) -> None:
    url = server.make_database()
    engines = [create_engine(url) for _ in range(2)]
    await migrate(engines[0])
    stores = [SqlStore(Database(engine)) for engine in engines]
    made = active(function())
    await stores[0].create(made)

    async def publish(store: SqlStore) -> None:
        """As the service does: read, decide, write if nobody else has meanwhile; else again."""
        while True:
            current = await store.get_by_uid(made.uid)
            assert current is not None
            changed, version = domain.publish(current, None, stamps())
            changed = domain.replace(changed, head=domain.replace(changed.head, revision_id=stamps().revision_id))
            if await store.replace(changed, current.head.revision_id, version):
                return

    await asyncio.gather(*(publish(store) for store in stores for _ in range(10)))

    versions = await stores[0].page_versions(made.uid, after=0, limit=50)
    assert [version.version for version in versions] == [str(number) for number in range(1, 21)]
    for engine in engines:
        await engine.dispose()


@pytest.mark.parametrize("is_sudden", [False, True])
async def test_a_restart_of_the_server_costs_nothing_once_it_is_back(server: PostgresServer, is_sudden: bool) -> None:
    engine = create_engine(server.make_database())
    await migrate(engine)
    store = SqlStore(Database(engine))
    made = active(function())
    await store.create(made)
    # Every connection of the pool is open, and will be a dead one.
    await asyncio.gather(*(store.get_by_uid(made.uid) for _ in range(CONNECTIONS)))

    end = server.crash if is_sudden else server.stop

    # Nobody has asked meanwhile, so nobody knows that the connections are dead.
    await asyncio.to_thread(end)
    await asyncio.to_thread(server.start)
    found = await asyncio.gather(*(store.get_by_uid(made.uid) for _ in range(CONNECTIONS)))
    assert found == [made] * CONNECTIONS

    await asyncio.to_thread(end)
    with pytest.raises((OSError, sa.exc.DBAPIError)):
        await store.get_by_uid(made.uid)
    await asyncio.to_thread(server.start)

    found = await asyncio.gather(*(store.get_by_uid(made.uid) for _ in range(CONNECTIONS)))
    assert found == [made] * CONNECTIONS
    await engine.dispose()
