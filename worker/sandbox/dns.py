"""Names for sandboxes: a forwarder on 127.0.0.1:53 of a sandbox's namespace, served by the worker.

Resolvers are usually private addresses, which sandboxes can't reach. The worker can, and asks for them; nothing but
DNS messages passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.time_share import TimeShare

logger = logging.getLogger(__name__)

Resolver = tuple[str, int]

PORT = 53
#: What the sandbox reads as `/etc/resolv.conf`; its patience is longer than the forwarder's.
RESOLV_CONF = "nameserver 127.0.0.1\noptions timeout:5 attempts:2\n"
#: Asked in turn, as libc does.
MAX_RESOLVERS = 3
#: Of one sandbox. More are refused at once, so that a function can't make the worker hold sockets without bound.
MAX_OUTSTANDING = 64
QUERY_TIMEOUT_S = 4.0
_ATTEMPT_TIMEOUT_S = 2.0
_IDLE_TIMEOUT_S = 10.0
_HEADER_BYTES = 12
_DATAGRAM_BYTES = 65_535
#: A length byte from here on is a compression pointer, or reserved.
_FIRST_POINTER = 64
_BURST = 16
#: What a query, or a connection, costs the worker, generously: a task, and mostly a socket of its own.
_QUERY_COST_S = 0.0002
_TYPE_A, _TYPE_ANY, _CLASS_IN = 1, 255, 1
#: How long a sandbox may remember a name that the forwarder itself answers, in seconds.
_TTL_S = 60


def system_resolvers(path: Path = Path("/etc/resolv.conf")) -> list[Resolver]:
    """Return the worker's own resolvers; empty when there are none."""
    found: list[Resolver] = []
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    ipaddress.ip_address(words[1])
                    found.append((words[1], PORT))
    return found[:MAX_RESOLVERS]


def server_failure(query: bytes) -> bytes:
    """Return the SERVFAIL answer to `query`, which must have at least a header. Pure."""
    return _refusal(query, 2)


def no_such_name(query: bytes) -> bytes:
    """Return the NXDOMAIN answer to `query`, which must have at least a header. Pure."""
    return _refusal(query, 3)


def is_local_name(query: bytes) -> bool:
    """Tell whether `query` asks for a name of one label, which only networks of the operator's own know. Pure.

    Above all the names of the platform's services, which the engine's resolver tells to its containers.
    """
    length = query[_HEADER_BYTES] if len(query) > _HEADER_BYTES else 0
    end = _HEADER_BYTES + 1 + length
    return 0 < length < _FIRST_POINTER and len(query) > end and query[end] == 0


def asked_name(query: bytes) -> tuple[str, int, int] | None:
    """Return the name, in lower case without its last dot, the position behind it, and the type that `query` asks for.

    None for what is no single question. Pure.
    """
    if query[4:6] != b"\0\1":
        return None
    labels, at = [], _HEADER_BYTES
    while at < len(query) and 0 < query[at] < _FIRST_POINTER:
        labels.append(query[at + 1 : at + 1 + query[at]])
        at += 1 + query[at]
    if at + 5 > len(query) or query[at] != 0:
        return None
    name = b".".join(labels).decode("latin-1").lower()
    return name, at + 5, int.from_bytes(query[at + 1 : at + 3], "big")


def own_answer(query: bytes, names: Mapping[str, str]) -> bytes | None:
    """Return the answer for one of `names` or a name below one of them, None for any other. Pure.

    What is not an address of version 4 is answered by "there is none", so that nobody asks on.
    """
    asked = asked_name(query) if names else None
    if asked is None:
        return None
    name, end, kind = asked
    while name not in names:
        _, dot, name = name.partition(".")
        if not dot:
            return None
    # Of the query's flags only "recursion desired" is repeated; ours say "answer, with authority, recursion available".
    head = query[:2] + bytes((0x84 | (query[2] & 0x01), 0x80)) + b"\0\1"
    if kind not in (_TYPE_A, _TYPE_ANY):
        return head + b"\0\0\0\0\0\0" + query[_HEADER_BYTES:end]
    record = struct.pack(">HHHIH4s", 0xC000 | _HEADER_BYTES, _TYPE_A, _CLASS_IN, _TTL_S, 4, _packed(names[name]))
    return head + b"\0\1\0\0\0\0" + query[_HEADER_BYTES:end] + record


def _packed(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed


def _refusal(query: bytes, code: int) -> bytes:
    answer = bytearray(query)
    answer[2] = query[2] | 0x80
    answer[3] = 0x80 | code
    return bytes(answer)


def is_answer(query: bytes, message: bytes) -> bool:
    """Tell whether `message` may be an answer to `query`."""
    return len(message) >= _HEADER_BYTES and message[:2] == query[:2] and bool(message[2] & 0x80)


class DnsForwarder:
    """Answers one sandbox's DNS queries, over UDP and TCP, within its share of the worker's time. Owns both sockets."""

    def __init__(
        self,
        udp: socket.socket,
        tcp: socket.socket,
        resolvers: Sequence[Resolver],
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Serve the bound sockets (non-blocking) by asking `resolvers`. Call `start` next.

        `names` (host name → IPv4 address) are answered here, with all names below them. Raises ValueError for one
        whose address is none.
        """
        self._udp = udp
        self._tcp = tcp
        self._resolvers = list(resolvers)
        self._names = {name.rstrip(".").lower(): address for name, address in (names or {}).items()}
        for address in self._names.values():
            ipaddress.IPv4Address(address)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._share = TimeShare(asyncio.get_running_loop(), self._update)
        #: While it is clear, what a sandbox sends stays in the kernel, where there is room for little.
        self._may_read = asyncio.Event()

    def start(self) -> None:
        """Begin to serve."""
        self._is_open = True
        self._update()

    def close(self) -> None:
        """Stop serving; queries under way get no answer. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self._share.close()
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._udp)
        loop.remove_reader(self._tcp)
        self._udp.close()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()

    def _update(self) -> None:
        """Read, or leave what arrives where it is."""
        if not self._is_open:
            return
        loop = asyncio.get_running_loop()
        if self._share.is_held:
            self._may_read.clear()
            loop.remove_reader(self._udp)
            loop.remove_reader(self._tcp)
        else:
            self._may_read.set()
            loop.add_reader(self._udp, self._on_datagrams)
            loop.add_reader(self._tcp, self._on_connection)

    def _on_datagrams(self) -> None:
        for _ in range(_BURST):
            if self._share.is_held:
                return
            try:
                query, sender = self._udp.recvfrom(_DATAGRAM_BYTES)
            except OSError:
                return
            self._share.charge(_QUERY_COST_S)
            if len(query) < _HEADER_BYTES:
                continue
            if len(self._tasks) >= MAX_OUTSTANDING:
                self._send(server_failure(query), sender)
            else:
                self._own(self._answer_datagram(query, sender))

    def _on_connection(self) -> None:
        try:
            connection, _ = self._tcp.accept()
        except OSError:
            return
        self._share.charge(_QUERY_COST_S)
        if len(self._tasks) >= MAX_OUTSTANDING:
            connection.close()
            return
        connection.setblocking(False)
        self._own(self._serve_connection(connection))

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_datagram(self, query: bytes, sender: tuple[str, int]) -> None:
        self._send(await self._ask(query, _ask_by_udp), sender)

    def _send(self, answer: bytes, sender: tuple[str, int]) -> None:
        if self._is_open:
            # The asker may be gone, or its socket full: DNS over UDP promises nothing.
            with contextlib.suppress(OSError):
                self._udp.sendto(answer, sender)

    async def _serve_connection(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while True:
                # Queries that are there already, and answers that nobody is asked for, suspend this task nowhere else.
                await self._may_read.wait()
                self._share.charge(_QUERY_COST_S)
                async with asyncio.timeout(_IDLE_TIMEOUT_S):
                    query = await _read_message(reader)
                if len(query) < _HEADER_BYTES:
                    return
                answer = await self._ask(query, _ask_by_tcp)
                async with asyncio.timeout(_IDLE_TIMEOUT_S):
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return
        finally:
            writer.close()

    async def _ask(self, query: bytes, transport: Any) -> bytes:
        if (own := own_answer(query, self._names)) is not None:
            return own
        if is_local_name(query):
            return no_such_name(query)
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                for resolver in self._resolvers:
                    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                        async with asyncio.timeout(_ATTEMPT_TIMEOUT_S):
                            answer: bytes = await transport(query, resolver)
                        return answer
        except TimeoutError:
            pass
        logger.debug("no resolver answered")
        return server_failure(query)


async def _ask_by_udp(query: bytes, resolver: Resolver) -> bytes:
    family = socket.AF_INET6 if ":" in resolver[0] else socket.AF_INET
    loop = asyncio.get_running_loop()
    # A socket of its own, connected: an unguessable port, and only the resolver can answer.
    with socket.socket(family, socket.SOCK_DGRAM) as upstream:
        upstream.setblocking(False)
        upstream.connect(resolver)
        upstream.send(query)
        readable = asyncio.Event()
        loop.add_reader(upstream, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                with contextlib.suppress(BlockingIOError):
                    answer = upstream.recv(_DATAGRAM_BYTES)
                    if is_answer(query, answer):
                        return answer
        finally:
            loop.remove_reader(upstream)


async def _ask_by_tcp(query: bytes, resolver: Resolver) -> bytes:
    reader, writer = await asyncio.open_connection(*resolver)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        answer = await _read_message(reader)
        if not is_answer(query, answer):
            raise ConnectionError(f"{resolver[0]} sent something that is no answer")
        return answer
    finally:
        writer.close()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
