"""Waits for the answers of workers, and makes sure that nobody waits for one that can't come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from contract import messages
from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import Operations
from controller.domain.errors import PlatformError

log = logging.getLogger(__name__)

#: With Redis away for so long, callers are told rather than kept.
GIVE_UP_S: Final = 10.0
_WATCH_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Pending:
    """Somebody waits for the reply to this id."""

    id: str
    reply: asyncio.Future[tuple[bytes, bytes]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    #: Redis has accepted the request, so it must know of it.
    is_dispatched: bool = False


class Replies:
    """Reads this controller's reply stream. Order: `run` in a task for as long as the process serves."""

    def __init__(self, operations: Operations, controller: str) -> None:
        self.controller = controller
        self.last_read = b""
        self._operations = operations
        self._pending: dict[str, Pending] = {}
        self._known_server = ""
        self._trimmed = b""

    @contextmanager
    def expect(self, request_id: str) -> Iterator[Pending]:
        """Expect a reply to this id for as long as the context lasts."""
        pending = Pending(request_id)
        self._pending[request_id] = pending
        try:
            yield pending
        finally:
            self._pending.pop(request_id, None)

    async def run(self) -> None:
        """Read replies for ever, and watch over Redis."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(), name="replies")
            tasks.create_task(self._watch(), name="redis-watch")

    async def _read(self) -> None:
        bus = self._operations.bus
        async for entry_id, entry in bus.read(bus.keys.reply(self.controller), b"0-0"):
            fields = dict(zip(entry[::2], entry[1::2], strict=True))
            pending = self._pending.get(fields[messages.ID].decode())
            if pending is not None and not pending.reply.done():
                pending.reply.set_result((fields[messages.HEADER], fields[messages.PAYLOAD]))
            self.last_read = entry_id

    async def _watch(self) -> None:
        """A Redis that stays away, or comes back without what was in it, must not leave callers waiting."""
        loop = asyncio.get_running_loop()
        last_seen = loop.time()
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                await self._operations.bus.command("PING", retry_s=0.0)
                last_seen = loop.time()
                await self._check_server()
                await self._trim()
            except (RedisUnavailableError, RedisReplyError) as error:
                if loop.time() - last_seen > GIVE_UP_S and self._pending:
                    log.error("Redis stays away", extra={"callers": len(self._pending), "error": str(error)})
                    self._fail(list(self._pending.values()), "Redis has been away for too long")

    async def _trim(self) -> None:
        """Dispatches trim the replies that have been read; without any, it is done here."""
        if self.last_read and self.last_read != self._trimmed:
            self._trimmed = self.last_read
            stream = self._operations.bus.keys.reply(self.controller)
            await self._operations.bus.command("XTRIM", stream, "MINID", self._trimmed)

    async def _check_server(self) -> None:
        run_id = self._operations.bus.run_id
        if run_id == self._known_server:
            return
        if self._known_server and self._pending:
            if await self._operations.is_reconciling():
                return
            asked = [pending for pending in self._pending.values() if pending.is_dispatched]
            lost = [pending for pending in asked if not await self._operations.is_known(pending.id)]
            self._fail(lost, "Redis restarted and has lost the invocation")
        self._known_server = run_id

    @staticmethod
    def _fail(pendings: list[Pending], reason: str) -> None:
        for pending in pendings:
            if not pending.reply.done():
                pending.reply.set_exception(PlatformError(f"invocation {pending.id}: {reason}"))
