"""The one place that talks to Redis for invocations: reconnects, runs scripts, reads streams."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from typing import Any, Final

from contract.bus.connection import Argument, RedisAddress, RedisConnection, RedisReplyError, RedisUnavailableError
from contract.keys import Keys

log = logging.getLogger(__name__)

#: How long a command is retried while Redis is away: a restart takes a second or two.
RETRY_S: Final = 8.0
#: Longer than any command takes that does not block; a server that is silent for so long is as good as gone.
COMMAND_TIMEOUT_S: Final = 5.0
#: How long dispatch may pause after Redis has changed: a few heartbeats, so that every live worker reports.
RECONCILE_PAUSE_MS: Final = 3000
_RECONNECT_PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4)


def load_scripts() -> dict[str, bytes]:
    """Return the text of every script by its name, the shared prelude in front."""
    folder = resources.files("contract.bus") / "lua"
    prelude = (folder / "_prelude.lua").read_bytes()
    return {
        entry.name.removesuffix(".lua"): prelude + entry.read_bytes()
        for entry in folder.iterdir()
        if entry.name.endswith(".lua") and not entry.name.startswith("_")
    }


class RedisBus:
    """A shared connection for commands that return at once, and one more for each blocking reader.

    Every script is idempotent, so a call whose connection broke is simply made again, for at most `RETRY_S`.
    """

    def __init__(self, url: str, keys: Keys, *, on_server_change: Callable[[], None] | None = None) -> None:
        """`on_server_change` is called when a connection finds another server life than the one before."""
        self.keys = keys
        self._address = RedisAddress.parse(url)
        self._scripts = load_scripts()
        self._digests = {name: hashlib.sha1(text).hexdigest() for name, text in self._scripts.items()}  # noqa: S324 - Redis's own address of a script
        self._on_server_change = on_server_change
        #: The life of the Redis server that this process last talked to.
        self.run_id = ""
        #: Rises with each connection for commands: with a lost one, an answer may have been lost.
        self.connection_count = 0
        self._connection: RedisConnection | None = None
        #: The attempt that all callers wait for together; one each would take many time-outs in a row.
        self._connecting: asyncio.Task[RedisConnection] | None = None
        #: Scripts run and other commands sent, for the test that counts them.
        self.calls: dict[str, int] = {}

    @property
    def link(self) -> str:
        """Names the present connection to the present life of the server; another one may have lost an answer."""
        return f"{self.run_id}/{self.connection_count}"

    async def command(self, *arguments: Argument, retry_s: float = RETRY_S) -> Any:
        """Run one command that may safely run twice.

        Raises RedisUnavailableError when Redis stays away for `retry_s`, RedisReplyError when it refuses.
        """
        name = str(arguments[0])
        self.calls[name] = self.calls.get(name, 0) + 1
        deadline = asyncio.get_running_loop().time() + retry_s
        for attempt in range(10**6):
            connection = self._connection
            try:
                if connection is None or not connection.is_open:
                    connection = await self._connect()
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    return await connection.command(*arguments)
            except (RedisUnavailableError, TimeoutError) as error:
                if isinstance(error, TimeoutError) and connection is not None:
                    connection.close()
                if asyncio.get_running_loop().time() >= deadline:
                    raise RedisUnavailableError(f"Redis has been away for {retry_s:g} s: {error}") from error
                await asyncio.sleep(_RECONNECT_PAUSES_S[min(attempt, len(_RECONNECT_PAUSES_S) - 1)])
            except RedisReplyError as error:
                # LOADING: the server has just started and reads its files. Anything else is final.
                if not str(error).startswith(("LOADING", "BUSY ")) or asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(0.05)
        raise AssertionError("unreachable")

    async def script(self, name: str, *arguments: Argument, retry_s: float = RETRY_S) -> Any:
        """Run a script by name, in one round trip once the server knows it. Raises as `command`."""
        try:
            return await self.command("EVALSHA", self._digests[name], 1, self.keys.prefix, *arguments, retry_s=retry_s)
        except RedisReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.command("EVAL", self._scripts[name], 1, self.keys.prefix, *arguments, retry_s=retry_s)

    async def sync_to_disk(self, wait_ms: int) -> Any:
        """Return WAITAOF's answer once all that was written before, by whatever connection, is in the synced file.

        WAITAOF looks at the writes of its own connection only, and a new one has none: so it follows a write of its
        own, which lies behind all earlier ones in the append-only file. Raises RedisUnavailableError.
        """
        deadline = asyncio.get_running_loop().time() + RETRY_S
        while True:
            connection = self._connection
            try:
                if connection is None or not connection.is_open:
                    connection = await self._connect()
                mark = connection.command("SET", self.keys.barrier(), "1", "PX", 60_000)
                synced = connection.command("WAITAOF", 1, 0, wait_ms)
                async with asyncio.timeout(wait_ms / 1000 + COMMAND_TIMEOUT_S):
                    await mark
                    return await synced
            except (RedisUnavailableError, TimeoutError) as error:
                if isinstance(error, TimeoutError) and connection is not None:
                    connection.close()
                if asyncio.get_running_loop().time() >= deadline:
                    raise RedisUnavailableError(f"Redis could not be asked to sync: {error}") from error
                await asyncio.sleep(_RECONNECT_PAUSES_S[-1])

    async def read(
        self, stream: str, cursor: bytes, *, block_ms: int = 5000
    ) -> AsyncIterator[tuple[bytes, Sequence[bytes]]]:
        """Yield a stream's entries after `cursor`, for ever, as (id, flat list of names and values).

        Survives lost connections without losing or repeating an entry. Blocks on a connection of its own, which is
        closed with the generator.
        """
        connection: RedisConnection | None = None
        attempt = 0
        try:
            while True:
                try:
                    if connection is None or not connection.is_open:
                        connection = await self._open()
                        attempt = 0
                    async with asyncio.timeout(block_ms / 1000 + COMMAND_TIMEOUT_S):
                        answer = await connection.command(
                            "XREAD", "COUNT", 256, "BLOCK", block_ms, "STREAMS", stream, cursor
                        )
                except (RedisUnavailableError, RedisReplyError, TimeoutError) as error:
                    log.warning("stream reader lost its connection", extra={"stream": stream, "error": str(error)})
                    if connection is not None:
                        connection.close()
                    connection = None
                    await asyncio.sleep(_RECONNECT_PAUSES_S[min(attempt, len(_RECONNECT_PAUSES_S) - 1)])
                    attempt += 1
                    continue
                for entry_id, entry in answer[0][1] if answer else ():
                    cursor = entry_id
                    yield entry_id, entry
        finally:
            if connection is not None:
                connection.close()

    async def pop(self, key: str, *, block_s: float) -> bytes | None:
        """Wait up to `block_s` for an element of a list and take it; None when none came or Redis was away."""
        try:
            connection = await self._open()
        except (RedisUnavailableError, RedisReplyError):
            await asyncio.sleep(min(block_s, 0.5))
            return None
        try:
            async with asyncio.timeout(block_s + COMMAND_TIMEOUT_S):
                answer = await connection.command("BLPOP", key, block_s)
        except (RedisUnavailableError, RedisReplyError, TimeoutError):
            return None
        finally:
            connection.close()
        return answer[1] if answer else None

    def close(self) -> None:
        """Close the shared connection. Readers close theirs when their generators are closed."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()

    async def _connect(self) -> RedisConnection:
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    def _connected(self, attempt: asyncio.Task[RedisConnection]) -> None:
        self._connecting = None
        # Its failure is told to those who wait, if any still do.
        if not attempt.cancelled() and attempt.exception() is None:
            self._connection = attempt.result()
            self.connection_count += 1

    async def _open(self) -> RedisConnection:
        """Connect; when the server is not the one that the cell has agreed on, begin to reconcile before anything else.

        So no dispatch is admitted against counts that a restart may have lost.
        """
        connection = await RedisConnection.open(self._address)
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                run_id = _field(await connection.command("INFO", "server"), b"run_id")
                if run_id != self.run_id:
                    script = self._scripts["begin_reconcile"]
                    await connection.command("EVAL", script, 1, self.keys.prefix, run_id, RECONCILE_PAUSE_MS)
        except BaseException:
            connection.close()
            raise
        if run_id != self.run_id:
            self.run_id = run_id
            if self._on_server_change is not None:
                self._on_server_change()
        return connection


def _field(info: bytes, name: bytes) -> str:
    for line in info.splitlines():
        if line.startswith(name + b":"):
            return line.split(b":", 1)[1].strip().decode()
    raise RedisReplyError(f"INFO does not tell {name.decode()}")
