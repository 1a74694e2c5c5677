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

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0
#: Of one that has not been heard of for so long is not told any more.
SILENT_MS: Final = 5_000


class Presence:
    """Says of one controller that it serves. For people and supervisors only: nothing is decided by it."""

    def __init__(self, operations: Operations, controller: str) -> None:
        self._operations = operations
        self._self = orjson.dumps({"id": controller, "host": socket.gethostname(), "pid": os.getpid()})
        self._present: dict[str, Any] = {}

    async def run(self) -> None:
        """Say so for ever."""
        while True:
            try:
                self._remember(await self._operations.present(self._self, SILENT_MS))
            except (RedisUnavailableError, RedisReplyError) as error:
                self._remember([])
                log.warning("presence is not known to others", extra={"error": str(error)})
            await asyncio.sleep(_INTERVAL_S)

    async def controllers(self) -> dict[str, Any]:
        """Return host and process id of each controller that serves, by its id, as of a second ago."""
        return self._present

    async def leave(self) -> None:
        """Say no more, at once; without Redis it is forgotten after some seconds all the same."""
        try:
            await self._operations.present(self._self, 0, retry_s=0.0)
        except (RedisUnavailableError, RedisReplyError) as error:
            log.warning("presence ends by itself", extra={"error": str(error)})

    def _remember(self, members: list[bytes]) -> None:
        found = [orjson.loads(member) for member in members]
        self._present = {member.pop("id"): member for member in found}
