"""Opens what a process of the controller needs: the API's, and the background's."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson
from fastapi import FastAPI

from contract.bus.operations import LEASE_MS, Operations, WorkerState
from contract.bus.redis_bus import RedisBus
from contract.keys import Keys
from controller.app import Services
from controller.assembly import open_services
from controller.core import Core
from controller.directory import RedisDirectory
from controller.events.acceptor import EventAcceptor
from controller.events.durability import Durability
from controller.events.pump import EventPump
from controller.invocation.invoker import Dispatcher, Invoker
from controller.invocation.replies import Replies
from controller.invocation.routes import invocation_router
from controller.invocation.versions import VersionCache
from controller.logs.routes import logs_router
from controller.preparation.asking import PreparationAsker
from controller.preparation.queue import RqPreparationQueue, open_queue
from controller.presence import Presence
from controller.scheduler.recovery import Recovery
from controller.server import SHUTDOWN_GRACE_S
from controller.settings import ControllerSettings, split_address
from controller.transfer.door import SideDoor, announced
from controller.transfer.exchange import Exchange
from controller.transfer.server import serve_transfer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What both processes use."""

    core: Core
    services: Services
    bus: RedisBus
    operations: Operations
    asker: PreparationAsker


@asynccontextmanager
async def open_parts(settings: ControllerSettings, *, is_migrating: bool = False) -> AsyncIterator[Parts]:
    """Open database, Redis and queue; closed on leaving the block."""
    bus = RedisBus(settings.redis_url, Keys(settings.cell))
    operations = Operations(bus)
    directory = RedisDirectory(operations, account_concurrency=settings.account_concurrency)
    queue = RqPreparationQueue(open_queue(settings.redis_url, settings.cell))
    try:
        async with open_services(settings, directory, queue, is_migrating=is_migrating) as services:
            yield Parts(
                core=services.core,
                services=services,
                bus=bus,
                operations=operations,
                asker=PreparationAsker(operations, services.core.preparation),
            )
    finally:
        bus.close()


@asynccontextmanager
async def open_api(settings: ControllerSettings) -> AsyncIterator[Services]:
    """Open everything that the API's process serves. Its loops run for as long as the application does."""
    async with open_parts(settings, is_migrating=True) as parts:
        controller = uuid.uuid4().hex
        replies = Replies(parts.operations, controller)
        versions = VersionCache(parts.core.resolver)
        dispatcher = Dispatcher(parts.operations, versions, parts.core.heads, replies)
        exchange = Exchange()
        # A bus of its own: waiting for the disk holds up the commands behind it.
        events_bus = RedisBus(settings.redis_url, Keys(settings.cell))
        durability = Durability(events_bus)
        acceptor = EventAcceptor(Operations(events_bus), durability, parts.services.blobs, versions)
        pump = EventPump(parts.operations, dispatcher)
        presence = Presence(parts.operations, controller)
        recovery = Recovery(parts.operations, parts.core.heads, controller, on_new_redis=versions.clear)
        transfer_host, transfer_port = split_address("LAMBDOCK_TRANSFER_LISTEN", settings.transfer_listen)

        @asynccontextmanager
        async def lifespan(api: FastAPI) -> AsyncIterator[None]:
            door = SideDoor(api)
            async with serve_transfer(exchange, door, transfer_host, transfer_port, settings.transfer_host):
                loops = [_forever(replies.run), _forever(pump.run), _forever(recovery.run), _forever(presence.run)]
                tasks = [asyncio.create_task(loop) for loop in loops]
                try:
                    async with announced(parts.operations, door, exchange.base_url, drain_s=SHUTDOWN_GRACE_S):
                        yield
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                    await presence.leave()

        async def redis_probe() -> None:
            await parts.bus.command("PING", retry_s=1.0)

        async def events_probe() -> None:
            await durability.check()

        try:
            yield replace(
                parts.services,
                probes={**parts.services.probes, "redis": redis_probe, "events": events_probe},
                workers=lambda: live_workers(parts.operations),
                controllers=presence.controllers,
                routers=(
                    invocation_router(Invoker(dispatcher, exchange), acceptor, versions, parts.services.callers),
                    logs_router(parts.operations, replies, parts.core.resolver, parts.services.callers),
                ),
                lifespan=lifespan,
            )
        finally:
            events_bus.close()


async def live_workers(operations: Operations) -> dict[str, Any]:
    """Return what `/health` tells of the workers whose lease is good."""
    # The clock by which heartbeats are written: hosts differ.
    seconds, micros = await operations.bus.command("TIME")
    now_ms = int(seconds) * 1000 + int(micros) / 1000
    return {
        instance: {"placeable": found.get("placeable") == "1", **orjson.loads(found.get("info") or "{}")}
        for instance, found in (await operations.workers()).items()
        if found.get("state") == WorkerState.LIVE and now_ms - float(found.get("heartbeat_ms", 0)) <= LEASE_MS
    }


async def _forever(run: Any) -> None:
    """A loop that fails is a bug of ours; serving on without it would be worse than beginning it again."""
    while True:
        try:
            work: Coroutine[Any, Any, None] = run()
            await work
        except Exception:
            log.exception("a loop of the controller failed and begins again")
        await asyncio.sleep(0.2)
