"""The connection and the bus over it, through everything that goes wrong with a server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import uvloop

from contract.bus.connection import RedisAddress, RedisConnection, RedisReplyError, RedisUnavailableError
from contract.bus.redis_bus import RedisBus
from contract.keys import Keys
from tests.integration.bus.cell import Cell
from tests.redis_fixture import RedisServer, binaries
from tests.waiting import wait_until


async def kill_clients(server: RedisServer, keys: str = "normal") -> None:
    """Cut all connections but the one that says so."""
    connection = await RedisConnection.open(RedisAddress.parse(server.url))
    await connection.command("CLIENT", "KILL", "TYPE", keys, "SKIPME", "yes")
    connection.close()


@pytest.fixture
async def connection(server: RedisServer) -> AsyncIterator[RedisConnection]:
    connection = await RedisConnection.open(RedisAddress.parse(server.url))
    yield connection
    connection.close()


async def test_a_thousand_commands_at_once_get_each_its_own_answer(connection: RedisConnection) -> None:
    answers = await asyncio.gather(*(connection.command("ECHO", f"{number}") for number in range(1000)))

    assert answers == [b"%d" % number for number in range(1000)]


async def test_large_and_binary_arguments_arrive_as_they_were(connection: RedisConnection) -> None:
    payload = bytes(range(256)) * 4096

    assert await connection.command("ECHO", payload) == payload
    assert await connection.command("ECHO", "ü") == "ü".encode()
    assert await connection.command("ECHO", b"") == b""


async def test_a_refused_command_fails_alone(connection: RedisConnection) -> None:
    first, refused, last = [connection.command(name) for name in ("PING", "NO-SUCH-COMMAND", "PING")]

    with pytest.raises(RedisReplyError, match="unknown command"):
        await refused
    assert (await first, await last) == (b"PONG", b"PONG")


async def test_a_caller_who_gave_up_does_not_shift_the_answers_of_others(connection: RedisConnection) -> None:
    given_up = connection.command("ECHO", "a")
    kept = connection.command("ECHO", "b")

    given_up.cancel()

    assert await kept == b"b"
    assert await connection.command("ECHO", "c") == b"c"


async def test_a_cut_connection_fails_all_that_wait_and_all_that_come(
    mortal_server: RedisServer,
) -> None:
    connection = await RedisConnection.open(RedisAddress.parse(mortal_server.url))
    waiting = [connection.command("BLPOP", "nothing", 0) for _ in range(3)]
    await kill_clients(mortal_server)

    failures = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(failure) for failure in failures] == [RedisUnavailableError] * 3
    assert not connection.is_open
    with pytest.raises(RedisUnavailableError, match="closed"):
        await connection.command("PING")


async def test_a_wrong_password_and_a_missing_one_are_told_as_redis_tells_them() -> None:
    server = RedisServer(next(iter(binaries().values())), password="right")
    server.start()
    try:
        bus = RedisBus(server.url, Keys("c"))
        assert await bus.command("PING") == b"PONG"
        bus.close()
        for url, text in (("unix://:wrong@", "WRONGPASS"), ("unix://", "NOAUTH")):
            with pytest.raises(RedisReplyError, match=text):
                await RedisBus(f"{url}{server.socket}", Keys("c")).command("PING")
    finally:
        server.remove()


async def test_a_server_that_is_not_there_is_named_after_the_retry_time() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(RedisUnavailableError, match=r"away for 0\.1 s: can't reach Redis at /nowhere/redis\.sock"):
        await RedisBus("unix:///nowhere/redis.sock", Keys("c")).command("PING", retry_s=0.1)

    assert 0.1 <= loop.time() - began < 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", RedisAddress(host="127.0.0.1")),
        ("redis://h:1/2", RedisAddress(host="h", port=1, database=2)),
        ("rediss://u:p%40ss@h", RedisAddress(host="h", username="u", password="p@ss", is_tls=True)),
        ("unix:///run/r.sock?db=3", RedisAddress(path="/run/r.sock", database=3)),
    ],
)
def test_addresses_are_parsed(url: str, expected: RedisAddress) -> None:
    assert RedisAddress.parse(url) == expected


def test_an_address_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="begins with 'http': expected redis://, rediss:// or unix://"):
        RedisAddress.parse("http://x")


async def test_a_database_is_selected(server: RedisServer) -> None:
    connection = await RedisConnection.open(RedisAddress.parse(f"{server.url}?db=3"))

    assert b"db=3" in await connection.command("CLIENT", "LIST", "ID", await connection.command("CLIENT", "ID"))
    connection.close()


async def test_commands_are_answered_although_their_connection_is_cut_again_and_again(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    function = await mortal_cell.function()

    for number in range(10):
        calls = [mortal_cell.enqueue(function, f"e{number}-{n}") for n in range(30)]
        await asyncio.gather(kill_clients(mortal_server), *calls)

    assert await mortal_cell.bus.command("LLEN", mortal_cell.keys.events(function.uid)) == 300


async def test_commands_that_a_killed_server_left_unanswered_are_answered_by_the_next(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    function = await mortal_cell.function()
    mortal_server.signal(signal.SIGSTOP)
    calls = [asyncio.create_task(mortal_cell.enqueue(function, f"e{n}")) for n in range(100)]
    connection = mortal_cell.bus._connection
    assert connection is not None
    await wait_until(lambda: len(connection._waiting) == 100, "all commands are on their way")

    await asyncio.to_thread(mortal_server.kill)
    await asyncio.to_thread(mortal_server.start)
    await asyncio.gather(*calls)

    assert await mortal_cell.bus.command("LLEN", mortal_cell.keys.events(function.uid)) == 100


async def test_a_script_that_the_server_has_forgotten_is_sent_again(mortal_cell: Cell) -> None:
    function = await mortal_cell.function()
    await mortal_cell.bus.command("SCRIPT", "FLUSH")

    assert await mortal_cell.enqueue(function, "e")
    before = dict(mortal_cell.bus.calls)
    assert await mortal_cell.enqueue(function, "e2")
    assert mortal_cell.bus.calls["EVAL"] == before["EVAL"]


async def test_a_reader_loses_and_repeats_nothing_through_cut_connections_and_a_killed_server(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell, stream, seen = mortal_cell, mortal_cell.keys.prefix + "reply:c", []
    reading = cell.bus.read(stream, b"0-0", block_ms=1000)

    async def read() -> None:
        async for _, fields in reading:
            seen.append(int(fields[1]))
            if fields[1] == b"499":
                return

    task = asyncio.create_task(read())
    for number in range(500):
        await cell.bus.command("XADD", stream, f"1-{number + 1}", "n", number)
        if number % 50 == 25:
            await kill_clients(mortal_server)
        if number == 250:
            await asyncio.to_thread(mortal_server.kill)
            await asyncio.to_thread(mortal_server.start)
    async with asyncio.timeout(10):
        await task
    await reading.aclose()  # type: ignore[attr-defined]

    assert seen == list(range(500))


async def test_popping_from_an_empty_list_and_from_a_server_that_is_away_gives_nothing(cell: Cell) -> None:
    assert await cell.bus.pop(cell.keys.events_wake(), block_s=0.01) is None
    assert await RedisBus("unix:///nowhere/redis.sock", Keys("c")).pop("key", block_s=0.01) is None


def test_it_works_on_uvloop_too(server: RedisServer) -> None:
    async def talk() -> list[bytes]:
        bus = RedisBus(server.url, Keys("uvloop"))
        answers = await asyncio.gather(*(bus.command("ECHO", f"{n}") for n in range(100)))
        await bus.command("DEL", bus.keys.generation(), bus.keys.reconciling())
        bus.close()
        return list(answers)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(talk()) == [b"%d" % n for n in range(100)]


async def test_many_callers_share_one_attempt_to_connect(server: RedisServer) -> None:
    bus = RedisBus(server.url, Keys("many"))
    watcher = await RedisConnection.open(RedisAddress.parse(server.url))
    before = int((await watcher.command("INFO", "stats")).split(b"total_connections_received:")[1].split()[0])

    await asyncio.gather(*(bus.command("PING") for _ in range(100)))

    after = int((await watcher.command("INFO", "stats")).split(b"total_connections_received:")[1].split()[0])
    assert after - before == 1
    await bus.command("DEL", bus.keys.generation(), bus.keys.reconciling())
    bus.close()
    watcher.close()
