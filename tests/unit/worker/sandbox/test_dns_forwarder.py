"""The forwarder on loopback sockets, against resolvers that answer, lie, or stay silent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from worker.sandbox import dns, namespace
from worker.sandbox.dns import DnsForwarder, server_failure
from worker.time_share import BURST_S, SHARE

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

    def make(*resolvers: dns.Resolver, names: dict[str, str] | None = None) -> tuple[str, int]:
        udp = namespace.open_udp("127.0.0.1", 0)
        address = udp.getsockname()
        forwarders.append(DnsForwarder(udp, namespace.open_listener(*address), resolvers, names))
        forwarders[-1].start()
        return address

    yield make
    for forwarder in forwarders:
        forwarder.close()
        forwarder.close()


async def ask(address: tuple[str, int], query: bytes = QUERY) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(address)
        client.send(query)
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


async def test_a_flood_of_queries_gets_a_share_of_the_worker_s_time_whichever_way_it_comes(
    forward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "_QUERY_COST_S", 0.005)
    address = forward()
    loop = asyncio.get_running_loop()
    local = QUERY[:12] + b"\1a\0\0\1\0\1"
    began_s = loop.time()

    reader, writer = await asyncio.open_connection(*address)
    # In one piece: whoever finds the next query at hand never waits for anything.
    writer.write((len(local).to_bytes(2, "big") + local) * 20)
    async with asyncio.timeout(5):
        for _ in range(20):
            await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    writer.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(address)
        for _ in range(20):
            client.send(local)
        async with asyncio.timeout(5):
            for _ in range(20):
                await loop.sock_recv(client, 512)

    # 40 queries and a connection, less what may come in a row, at the share that a sandbox has for ever.
    assert loop.time() - began_s > (41 * 0.005 - BURST_S - 0.05) / SHARE


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


def query_for(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return QUERY[:12] + labels + b"\0" + kind.to_bytes(2, "big") + b"\0\1"


@pytest.mark.parametrize("name", ["s3.local", "bucket.s3.local", "a.b.S3.Local"])
async def test_own_names_and_all_below_them_are_answered_here(upstream, forward, name: str) -> None:
    resolver, asked = await upstream(ANSWER)
    query = query_for(name)

    answer = await ask(forward(resolver, names={"S3.local.": "127.0.100.1"}), query)

    assert answer[:2] == query[:2]
    assert answer[2:12] == b"\x85\x80\0\1\0\1\0\0\0\0"
    assert answer[12 : len(query)] == query[12:]
    assert answer[len(query) :] == b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\x04\x7f\0\x64\1"
    assert asked.asked == 0


async def test_own_names_have_no_address_of_version_6(upstream, forward) -> None:
    resolver, asked = await upstream(ANSWER)
    query = query_for("s3.local", kind=28)

    answer = await ask(forward(resolver, names={"s3.local": "127.0.100.1"}), query)

    assert answer == query[:2] + b"\x85\x80\0\1\0\0\0\0\0\0" + query[12:]
    assert asked.asked == 0


@pytest.mark.parametrize("name", ["local", "nots3.local", "s3.local.example"])
def test_other_names_are_not_own(name: str) -> None:
    assert dns.own_answer(query_for(name), {"s3.local": "127.0.100.1"}) is None


def test_own_name_of_one_label_is_answered() -> None:
    assert dns.own_answer(query_for("minio"), {"minio": "127.0.100.1"}) is not None


@pytest.mark.parametrize("cut", [13, 18, 22, 25])
def test_cut_question_is_no_own_name(cut: int) -> None:
    assert dns.own_answer(query_for("s3.local")[:cut], {"s3.local": "127.0.100.1"}) is None


def test_own_name_needs_an_address() -> None:
    with (
        namespace.open_udp("127.0.0.1", 0) as udp,
        namespace.open_listener("127.0.0.1", 0) as tcp,
        pytest.raises(ValueError, match="elsewhere"),
    ):
        DnsForwarder(udp, tcp, [], {"s3.local": "elsewhere"})
