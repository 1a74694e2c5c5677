"""Pipes from a sandbox to the operator's endpoints."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.unit.worker.endpoints.function import Api, sandbox
from tests.unit.worker.waiting import wait_until
from worker.endpoints.server import MAX_CONNECTIONS
from worker.endpoints.setting import Target

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def endpoint(handler: Handler) -> AsyncIterator[Target]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Target(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo until the end is heard, then say so."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write(b"end")
    await writer.drain()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def test_bytes_pass_both_ways_and_an_end_leaves_the_way_back_open() -> None:
    async with endpoint(echo) as target, sandbox(Api(), target) as box:
        function = await box.connect(1)
        await function.send(b"hello")
        async with asyncio.timeout(10):
            assert await function.reader.readexactly(5) == b"hello"
        function.writer.write_eof()

        assert await function.rest() == b"end"
        await wait_until(lambda: not box.served._pipes.open, "the pipe is gone")


async def test_what_an_endpoint_says_before_it_hangs_up_arrives_whole() -> None:
    said = bytes(range(256)) * 40_000

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    async with endpoint(speak) as target, sandbox(Api(), target) as box:
        assert await (await box.connect(1)).rest() == said


async def test_each_endpoint_has_a_listener_of_its_own() -> None:
    async def one(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"one")

    async def two(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"two")

    async with endpoint(one) as first, endpoint(two) as second, sandbox(Api(), first, second) as box:
        assert await (await box.connect(1)).rest() == b"one"
        assert await (await box.connect(2)).rest() == b"two"


async def test_a_slow_reader_holds_up_the_other_side_instead_of_filling_the_worker() -> None:
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    async with endpoint(flood) as target, sandbox(Api(), target) as box:
        function = await box.connect(1)
        function.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wait_until(lambda: any(not pipe.function.is_writable for pipe in box.served._pipes.open), "it is held up")
        before = sent
        pipe = next(iter(box.served._pipes.open))

        assert not pipe.endpoint._transport.is_reading()  # type: ignore[union-attr]
        assert before < 64 * 2**20


async def test_an_endpoint_that_is_away_ends_the_connection_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    target = Target(host="127.0.0.1", port=unused_port())
    with caplog.at_level(logging.INFO, logger="worker.endpoints"):
        async with sandbox(Api(), target) as box:
            for _ in range(3):
                assert await (await box.connect(1)).rest() == b""
            server = await asyncio.start_server(lambda _reader, writer: writer.close(), target.host, target.port)
            assert await (await box.connect(1)).rest() == b""
            server.close()

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[0].port == target.port  # type: ignore[attr-defined]


async def test_what_one_side_breaks_is_broken_for_the_other() -> None:
    ended = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        try:
            await reader.read()
        finally:
            ended.set()

    async with endpoint(listen) as target, sandbox(Api(), target) as box:
        function = await box.connect(1)
        await function.send(b"x")
        await wait_until(lambda: any(pipe.endpoint.is_connected for pipe in box.served._pipes.open), "it is connected")

        function.writer.transport.abort()

        async with asyncio.timeout(10):
            await ended.wait()


async def test_the_end_of_the_sandbox_ends_its_pipes() -> None:
    async with endpoint(echo) as target, sandbox(Api(), target) as box:
        function = await box.connect(1)
        await function.send(b"x")
        async with asyncio.timeout(10):
            await function.reader.readexactly(1)

        box.served.close()

        assert await function.rest() == b""
        assert box.served._pipes.open == set()
        with pytest.raises(ConnectionError):
            await box.connect(1)


async def test_all_endpoints_together_have_a_limit_of_connections() -> None:
    async with endpoint(echo) as first, endpoint(echo) as second, sandbox(Api(), first, second) as box:
        many = [await box.connect(1 + number % 2) for number in range(MAX_CONNECTIONS)]
        for function in many:
            await function.send(b"x")
            async with asyncio.timeout(10):
                assert await function.reader.readexactly(1) == b"x"
        late = await box.connect(2)
        await late.send(b"y")
        await many[0].send(b"z")
        async with asyncio.timeout(10):
            assert await many[0].reader.readexactly(1) == b"z"
        assert len(box.served._pipes.open) == MAX_CONNECTIONS

        many[1].writer.transport.abort()

        async with asyncio.timeout(10):
            assert await late.reader.readexactly(1) == b"y"
