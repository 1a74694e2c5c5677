"""Makes sure that what Redis has been told is on disk before a caller hears of it."""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from typing import Any, Final

from contract.bus.connection import RedisReplyError
from contract.bus.redis_bus import RedisBus

log = logging.getLogger(__name__)

#: Less than the bus gives any command, so that a slow disk is told as such.
_WAIT_MS: Final = 4000


class NotDurableError(Exception):
    """Redis can't promise that an event survives it; `str()` says which setting to change."""


class Promise(StrEnum):
    """How this server promises durability."""

    #: It has `WAITAOF` (Redis 7.2, Valkey): ask after every write.
    WAIT = "WAITAOF"
    #: It syncs before it answers.
    ALWAYS = "appendfsync always"


class Durability:
    """Of one bus, whose connection it may block: events have a bus of their own.

    `WAITAOF` holds up the commands behind it, which then share the next one: with `appendfsync everysec` a second at
    most, however many events come.
    """

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus
        self._promise: Promise | None = None
        self._server = ""
        #: The sync that is under way, and the next one, which all who come meanwhile share.
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def check(self) -> Promise:
        """Return how this server promises durability. Raises NotDurableError when it does not."""
        if self._promise is not None and self._server == self._bus.run_id:
            return self._promise
        if (await self._setting("appendonly")) != "yes":
            raise NotDurableError("Redis keeps no append-only file; set `appendonly yes`")
        if (await self._bus.command("COMMAND", "INFO", "WAITAOF"))[0] is not None:
            self._promise = Promise.WAIT
        elif (await self._setting("appendfsync")) == "always":
            self._promise = Promise.ALWAYS
        else:
            raise NotDurableError("this Redis has no WAITAOF; set `appendfsync always`, or use Redis 7.2 or Valkey")
        self._server = self._bus.run_id
        return self._promise

    async def barrier(self) -> None:
        """Return when everything written before is on disk. Raises NotDurableError, RedisUnavailableError."""
        if await self.check() is Promise.WAIT:
            if self._next is None:
                self._next = asyncio.create_task(self._sync(self._running), name="sync-events")
            # Others wait for it too: the one who gives up does not end it.
            await asyncio.shield(self._next)

    async def _sync(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        synced: Any = await self._bus.sync_to_disk(_WAIT_MS)
        if not synced or int(synced[0]) < 1:
            raise NotDurableError(f"Redis has not synced its append-only file within {_WAIT_MS} ms")

    async def _setting(self, name: str) -> str:
        try:
            answer = await self._bus.command("CONFIG", "GET", name)
        except RedisReplyError as error:
            raise NotDurableError(f"Redis does not tell its setting {name} ({error}); allow CONFIG GET") from error
        return str(answer[1].decode()) if len(answer) > 1 else ""
