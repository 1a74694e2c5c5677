"""A runtime that floods its Runtime API takes a share of the worker's time, and no more."""

from __future__ import annotations

import asyncio

from tests.unit.worker.runtime_api.client import NEXT, platform, post
from tests.unit.worker.runtime_api.test_server import event
from tests.unit.worker.waiting import wait_until
from worker.runtime_api.protocol import MAX_HEADERS, MAX_PIPELINED, Connections
from worker.time_share import BURST_S, SHARE

UNKNOWN = b"GET /x HTTP/1.1\r\n\r\n"


async def test_more_requests_at_once_than_anybody_sends_end_the_connection() -> None:
    async with platform() as aws:
        few, many = await aws.connect(), await aws.connect()

        await few.send(UNKNOWN * MAX_PIPELINED)
        await many.send(UNKNOWN * (MAX_PIPELINED + 1))

        for _ in range(MAX_PIPELINED):
            assert (await few.answer()).status == 404
        assert b" 400 " in await many.closed()
        assert (await few.ask(UNKNOWN)).status == 404


async def test_more_headers_than_anybody_sends_end_the_connection() -> None:
    async with platform() as aws:
        runtime = await aws.connect()

        await runtime.send(b"GET /x HTTP/1.1\r\n" + b"a:b\r\n" * (MAX_HEADERS + 1) + b"\r\n")

        assert (await runtime.closed()).startswith(b"HTTP/1.1 400 ")


async def test_a_body_in_tiny_pieces_arrives_whole() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        await runtime.send(NEXT)
        sent = event()
        outcome = aws.server.invoke(sent)
        await runtime.answer()
        head = post(f"invocation/{sent.request_id}/response", b"", Transfer_Encoding="chunked")

        await runtime.send(head.replace(b"Content-Length: 0\r\n", b"") + b"2\r\nxy\r\n" * 20_000 + b"0\r\n\r\n")

        assert (await runtime.answer()).status == 202
        assert (await outcome).body == b"xy" * 20_000  # type: ignore[union-attr]


async def test_time_is_given_back_only_as_fast_as_it_is_earned() -> None:
    connections = Connections(asyncio.get_running_loop())
    connections.share.charge(BURST_S / 2)
    assert not connections.share.is_held

    began = asyncio.get_running_loop().time()
    connections.share.charge(BURST_S)

    assert connections.share.is_held
    await wait_until(lambda: not connections.share.is_held, "its time is made up for")
    assert asyncio.get_running_loop().time() - began > BURST_S / 2 / SHARE * 0.5


async def test_a_flood_is_held_and_its_own_runtime_is_served_afterwards() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        connections = aws.server._connections
        connections.share.charge(BURST_S * 2)
        assert connections.share.is_held

        late = await aws.connect()
        await late.send(UNKNOWN)
        await runtime.send(UNKNOWN)

        assert (await late.answer()).status == 404
        assert (await runtime.answer()).status == 404
        assert not connections.share.is_held
