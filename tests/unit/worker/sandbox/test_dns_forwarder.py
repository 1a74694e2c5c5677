"""The forwarder on loopback sockets, against resolvers that answer, lie, or stay silent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from worker.sandbox import dns, namespace
from worker.sandbox.dns import DnsForwarder, server_failure

QUERY = bytes.fromhex("beef01000001000000000000") + b"\x04name\x07example\0\0\1\0\1"
ANSWER = QUERY[:2] + b"\x81\x80" + QUERY[4:]


class Upstream(asyncio.DatagramProtocol):
    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.asked = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        for answer in self.answers:
            self.transport.sendto(answer, addr)


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., object]]:
    transports = []

    async def serve(*answers: bytes) -> tuple[dns.Resolver, Upstream]:
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Upstream(list(answers)), local_addr=("127.0.0.1", 0)
        )
        transports.append(transport)
        return transport.get_extra_info("sockname"), protocol

    yield serve
    for transport in transports:
        transport.close()


@pytest.fixture
async def forward() -> AsyncIterator[Callable[..., tuple[str, int]]]:
    forwarders = []

    def make(*resolvers: dns.Resolver) -> tuple[str, int]:
        udp = namespace.open_udp("127.0.0.1", 0)
        address = udp.getsockname()
        forwarders.append(DnsForwarder(udp, namespace.open_listener(*address), resolvers))
        forwarders[-1].start()
        return address

    yield make
    for forwarder in forwarders:
        forwarder.close()
        forwarder.close()


async def ask(address: tuple[str, int]) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(address)
        client.send(QUERY)
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(client, 512)


async def test_query_is_answered_by_the_resolver(upstream, forward) -> None:
    resolver, _ = await upstream(ANSWER)

    assert await ask(forward(resolver)) == ANSWER


async def test_answers_to_something_else_are_ignored(upstream, forward) -> None:
    resolver, _ = await upstream(b"\0\0" + ANSWER[2:], QUERY, b"x", ANSWER)

    assert await ask(forward(resolver)) == ANSWER


async def test_dead_resolver_is_passed_over(upstream, forward) -> None:
    resolver, _ = await upstream(ANSWER)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        dead = closed.getsockname()

    assert await ask(forward(dead, resolver)) == ANSWER


async def test_no_resolver_is_a_server_failure(forward) -> None:
    assert await ask(forward()) == server_failure(QUERY)


async def test_silent_resolver_is_a_server_failure_in_time(upstream, forward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "_ATTEMPT_TIMEOUT_S", 0.02)
    resolver, asked = await upstream()

    assert await ask(forward(resolver)) == server_failure(QUERY)
    assert asked.asked == 1


async def test_queries_beyond_the_bound_are_refused_at_once(upstream, forward) -> None:
    resolver, _ = await upstream()
    address = forward(resolver)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(address)
        for _ in range(dns.MAX_OUTSTANDING + 1):
            client.send(QUERY)

        async with asyncio.timeout(1):
            assert await asyncio.get_running_loop().sock_recv(client, 512) == server_failure(QUERY)


async def test_tcp_query_is_forwarded_over_tcp(forward) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        assert await reader.readexactly(size) == QUERY
        writer.write(len(ANSWER).to_bytes(2, "big") + ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = forward(server.sockets[0].getsockname())
    reader, writer = await asyncio.open_connection(*address)
    for _ in range(2):
        writer.write(len(QUERY).to_bytes(2, "big") + QUERY)
        async with asyncio.timeout(5):
            size = int.from_bytes(await reader.readexactly(2), "big")
            assert await reader.readexactly(size) == ANSWER

    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_names_of_one_label_are_not_asked_for(
    upstream: Callable[..., object], forward: Callable[..., tuple[str, int]]
) -> None:
    resolver, protocol = await upstream(ANSWER)  # type: ignore[misc]
    query = bytes.fromhex("beef01000001000000000000") + b"\x05redis\0\0\1\0\1"
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setblocking(False)
        await loop.sock_sendto(asker, query, forward(resolver))
        answer = await asyncio.wait_for(loop.sock_recv(asker, 512), 5)

    assert answer[:2] == query[:2]
    assert answer[3] & 0x0F == 3
    assert protocol.asked == 0


@pytest.mark.parametrize("rest", [b"", b"\0", b"\xc0\x0c", b"\x05red"])
def test_a_query_that_is_cut_short_names_nothing_local(rest: bytes) -> None:
    assert not dns.is_local_name(QUERY[:12] + rest)
