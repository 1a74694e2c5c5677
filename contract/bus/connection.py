"""One connection to Redis that joins the commands of an event-loop tick into one write.

redis-py costs over 100 µs of CPU a command; this costs a few (docs/adr/0003). It knows RESP by hiredis, and nothing of
what the commands mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

#: What a command may be made of.
Argument = bytes | str | int | float


class RedisUnavailableError(ConnectionError):
    """Redis can't be reached, or went away before it answered: whether the command ran is unknown."""


class RedisReplyError(Exception):
    """Redis refused the command; `str()` is its answer (`NOSCRIPT …`, `OOM …`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where a Redis is, from a URL: `redis://[user[:password]@]host[:port][/db]`, `rediss://…`, `unix:///path?db=0`."""

    host: str = ""
    port: int = 6379
    path: str = ""
    username: str = ""
    password: str = ""
    database: int = 0
    is_tls: bool = False

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Parse a URL. Raises ValueError naming what is wrong with it."""
        parts = urlsplit(url)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise ValueError(
                f"LAMBDOCK_REDIS_URL begins with {parts.scheme!r}: expected redis://, rediss:// or unix://"
            )
        username, password = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme == "unix":
            database = parse_qs(parts.query).get("db", ["0"])[0]
            return cls(path=unquote(parts.path), username=username, password=password, database=int(database))
        database = parts.path.strip("/") or parse_qs(parts.query).get("db", ["0"])[0]
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 6379,
            database=int(database),
            is_tls=parts.scheme == "rediss",
            username=username,
            password=password,
        )


def encode(arguments: Iterable[Argument]) -> bytes:
    """Encode one command in RESP."""
    parts = []
    count = 0
    for argument in arguments:
        raw = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
        count += 1
    return b"*%d\r\n%b" % (count, b"".join(parts))


class RedisConnection(asyncio.Protocol):
    """One open connection. Commands are answered in order; when it breaks, all unanswered ones fail, for good."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=RedisReplyError)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, address: RedisAddress, *, timeout_s: float = 5.0) -> RedisConnection:
        """Connect, authenticate and select the database. Raises RedisUnavailableError or RedisReplyError."""
        loop = asyncio.get_running_loop()
        connection: RedisConnection | None = None
        try:
            async with asyncio.timeout(timeout_s):
                if address.path:
                    _, connection = await loop.create_unix_connection(cls, address.path)
                else:
                    context = ssl.create_default_context() if address.is_tls else None
                    _, connection = await loop.create_connection(cls, address.host, address.port, ssl=context)
                if address.password:
                    user = [address.username] if address.username else []
                    await connection.command("AUTH", *user, address.password)
                if address.database:
                    await connection.command("SELECT", address.database)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if not isinstance(error, OSError | TimeoutError):
                raise
            where = address.path or f"{address.host}:{address.port}"
            raise RedisUnavailableError(f"can't reach Redis at {where}: {error or 'timed out'}") from error
        return connection

    @property
    def is_open(self) -> bool:
        """Whether commands may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def command(self, *arguments: Argument) -> asyncio.Future[Any]:
        """Send one command with others of this tick; the future has its reply, or RedisReplyError.

        Raises RedisUnavailableError (in the future) when the connection is or gets lost.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.is_open:
            future.set_exception(RedisUnavailableError("the connection to Redis is closed"))
            return future
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(encode(arguments))
        self._waiting.append(future)
        return future

    def close(self) -> None:
        """Close the connection; unanswered commands fail. Idempotent."""
        if self._transport is not None:
            # Not `close`, which waits for a server that may have stopped reading.
            self._transport.abort()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        # A cast: uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        self._reader.feed(data)
        try:
            while self._waiting and (reply := self._reader.gets()) is not False:
                future = self._waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, RedisReplyError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except hiredis.ProtocolError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._transport = None
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(RedisUnavailableError("the connection to Redis was lost"))
                # Nobody may be waiting any more; the failure is also told to the next command.
                with contextlib.suppress(BaseException):
                    future.exception()
