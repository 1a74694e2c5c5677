"""Fences workers that have fallen silent, buries dead ones, and rebuilds the directory of a new Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import BURY_AFTER_MS, Operations, WorkerState
from contract.messages import LOST
from controller.resources.functions.heads import HeadPublisher

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0
_LEASE_MS: Final = 4000


class Recovery:
    """Runs in every controller; the holder of a lease acts. All steps are idempotent, so two at once do no harm."""

    def __init__(
        self, operations: Operations, heads: HeadPublisher, controller: str, *, on_new_redis: Callable[[], None]
    ) -> None:
        """`on_new_redis` is called before the heads are published to a Redis that is new to this process."""
        self._operations = operations
        self._heads = heads
        self._controller = controller
        self._on_new_redis = on_new_redis
        self._published_to = ""

    async def run(self) -> None:
        """Look after the cell for ever."""
        while True:
            try:
                await self._publish_heads()
                if await self._leads():
                    await self._look_after_workers()
            except (RedisUnavailableError, RedisReplyError, TimeoutError, OSError) as error:
                log.warning("recovery waits", extra={"error": str(error)})
            await asyncio.sleep(_INTERVAL_S)

    async def _leads(self) -> bool:
        bus = self._operations.bus
        key = bus.keys.leader()
        if await bus.command("SET", key, self._controller, "NX", "PX", _LEASE_MS):
            return True
        if await bus.command("GET", key) != self._controller.encode():
            return False
        await bus.command("PEXPIRE", key, _LEASE_MS)
        return True

    async def _publish_heads(self) -> None:
        """A Redis that is new to us may have lost heads; dispatch pauses until they are there again."""
        await self._operations.bus.command("PING", retry_s=0.0)
        run_id = self._operations.bus.run_id
        if run_id == self._published_to:
            return
        self._on_new_redis()
        count = await self._heads.publish_all()
        if self._operations.bus.run_id != run_id:
            # Another one came meanwhile: it may not have heard of all of them.
            return
        await self._operations.heads_published()
        self._published_to = run_id
        log.info("heads published", extra={"functions": count})

    async def _look_after_workers(self) -> None:
        for instance, worker in (await self._operations.workers()).items():
            if worker.get("state") == WorkerState.FENCED:
                if await self._operations.bury(instance, min_age_ms=BURY_AFTER_MS):
                    log.warning("buried a worker that nobody cleared away", extra={"worker_id": instance})
            else:
                answered = await self._operations.fence(instance, LOST.to_json(), only_if_silent=True)
                if answered >= 0:
                    log.error("fenced a silent worker", extra={"worker_id": instance, "invocations": answered})
