"""Lets the controllers of a cell know of each other: which of them serve, and where they run."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any, Final

import orjson

from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import Operations
from contract.bus.redis_bus import RedisBus

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0
#: Of one that has not been heard of for so long is not told any more.
SILENT_MS: Final = 5_000
_EXPIRY_MS: Final = 60_000


class Presence:
    """Says of one controller that it serves. For people and supervisors only: nothing is decided by it."""

    def __init__(self, operations: Operations, controller: str) -> None:
        self._bus = operations.bus
        self._key = operations.bus.keys.controllers()
        self._self = orjson.dumps({"id": controller, "host": socket.gethostname(), "pid": os.getpid()})

    async def run(self) -> None:
        """Say so for ever."""
        while True:
            try:
                now_ms = await _now_ms(self._bus)
                await self._bus.command("ZADD", self._key, now_ms, self._self)
                await self._bus.command("ZREMRANGEBYSCORE", self._key, "-inf", now_ms - SILENT_MS)
                await self._bus.command("PEXPIRE", self._key, _EXPIRY_MS)
            except (RedisUnavailableError, RedisReplyError) as error:
                log.warning("presence is not known to others", extra={"error": str(error)})
            await asyncio.sleep(_INTERVAL_S)

    async def leave(self) -> None:
        """Say no more, at once; without Redis it is forgotten after some seconds all the same."""
        try:
            await self._bus.command("ZREM", self._key, self._self, retry_s=0.0)
        except (RedisUnavailableError, RedisReplyError) as error:
            log.warning("presence ends by itself", extra={"error": str(error)})


async def present_controllers(operations: Operations) -> dict[str, Any]:
    """Return host and process id of each controller that serves, by its id."""
    bus = operations.bus
    since_ms = await _now_ms(bus) - SILENT_MS
    found = await bus.command("ZRANGEBYSCORE", bus.keys.controllers(), since_ms, "+inf")
    members = [orjson.loads(member) for member in found]
    return {member.pop("id"): member for member in members}


async def _now_ms(bus: RedisBus) -> int:
    # Redis's clock: hosts differ.
    seconds, micros = await bus.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000
