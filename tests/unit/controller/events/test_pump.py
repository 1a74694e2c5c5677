from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contract.bus.connection import RedisUnavailableError
from contract.bus.operations import ClaimedEvent, Verdict
from contract.messages import InvokeHeader
from controller.domain.errors import PlatformError, ResourceNotFoundError
from controller.domain.function import State
from controller.events import pump as pump_module
from controller.events.acceptor import EventTarget
from controller.events.pump import EventPump
from tests.unit.controller.events.cast import EventOperations, FakeDispatcher, resolved
from tests.waiting import wait_until

TARGET = EventTarget(account="000000000000", region="us-east-1", name="f", qualifier=None)


def claim(name: str = "e1", *, attempt: int = 1, header: bytes = b"", blob: str = "") -> ClaimedEvent:
    return ClaimedEvent(
        id=name,
        function_uid="uid",
        header=header or TARGET.to_json(),
        payload=b"{}",
        blob=blob,
        accepted_ms=0,
        attempt=attempt,
    )


class World:
    def __init__(self, *verdicts: Verdict | Exception) -> None:
        self.operations = EventOperations()
        self.dispatcher = FakeDispatcher(*verdicts)
        operations: Any = self.operations
        dispatcher: Any = self.dispatcher
        self.pump = EventPump(operations, dispatcher)
        self.pops = 0
        operations.bus.pop = self._pop

    async def _pop(self, key: str, *, block_s: float) -> None:
        assert key == self.operations.bus.keys.events_wake()
        assert block_s > 0
        self.pops += 1
        await asyncio.sleep(0)

    async def handle(self, *claims: ClaimedEvent) -> None:
        """Give these claims to the pump, and wait until it looks for more."""
        self.operations.claims = [list(claims)]
        async with self.running():
            await wait_until(lambda: self.pops > 0, "the pump is idle again")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.pump.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_event_is_dispatched_once_under_an_id_of_its_attempt() -> None:
    world = World(Verdict.DISPATCHED)
    await world.handle(claim(attempt=2, blob="ab"))

    (request,) = world.dispatcher.requests
    header = InvokeHeader.from_json(request.header)
    assert (request.id, request.event, request.payload) == ("e1#2", "e1", b"{}")
    assert (header.request_id, header.event, header.payload_blob) == ("e1", "e1", "ab")
    assert (world.operations.deferred, world.operations.dropped) == ([], [])


async def test_an_event_that_is_another_s_by_now_is_left_alone() -> None:
    world = World(Verdict.GONE)
    await world.handle(claim())
    assert (len(world.dispatcher.requests), world.operations.deferred, world.operations.dropped) == (1, [], [])


@pytest.mark.parametrize("verdict", [Verdict.THROTTLED, Verdict.FULL, Verdict.NO_WORKERS, Verdict.PAUSED])
async def test_an_event_without_room_waits_longer_after_each_attempt(verdict: Verdict) -> None:
    world = World(verdict)
    await world.handle(claim("e1"), claim("e2", attempt=4))
    assert sorted(world.operations.deferred) == [("e1", 1000), ("e2", 8000)]


@pytest.mark.parametrize("verdict", [Verdict.STALE, Verdict.UNKNOWN])
async def test_a_version_that_was_settled_anew_is_tried_at_once(verdict: Verdict) -> None:
    world = World(verdict, Verdict.DISPATCHED)
    await world.handle(claim())
    assert (len(world.dispatcher.requests), world.operations.deferred) == (2, [])


async def test_a_version_that_never_settles_is_put_off() -> None:
    world = World(Verdict.STALE)
    await world.handle(claim())
    assert (len(world.dispatcher.requests), world.operations.deferred) == (3, [("e1", 1000)])


async def test_an_event_of_a_deleted_function_is_dropped() -> None:
    world = World(Verdict.DISPATCHED)
    world.dispatcher.versions.answer = ResourceNotFoundError("no such function")
    await world.handle(claim())
    assert (world.operations.dropped, world.dispatcher.requests) == (["e1"], [])


async def test_an_event_of_a_deleted_function_does_not_go_to_its_namesake() -> None:
    world = World(Verdict.DISPATCHED)
    world.dispatcher.versions.answer = resolved(uid="another")
    await world.handle(claim())
    assert (world.operations.dropped, world.dispatcher.requests) == (["e1"], [])


async def test_an_event_is_not_dropped_because_a_deleted_namesake_is_remembered() -> None:
    world = World(Verdict.DISPATCHED)
    world.dispatcher.versions.remembered = resolved(uid="deleted")
    await world.handle(claim())
    assert (world.operations.dropped, len(world.dispatcher.requests)) == ([], 1)


async def test_an_event_of_a_function_that_is_not_active_is_put_off() -> None:
    world = World(Verdict.DISPATCHED)
    world.dispatcher.versions.answer = resolved(State.FAILED)
    await world.handle(claim())
    assert (world.operations.deferred, world.dispatcher.requests) == ([("e1", 1000)], [])


@pytest.mark.parametrize("broken", [claim(header=b"{"), claim(header=b"[]"), claim(header=b"{}")])
async def test_an_event_that_can_t_be_read_harms_no_other(broken: ClaimedEvent) -> None:
    world = World(Verdict.DISPATCHED)
    await world.handle(broken, claim("e2"))
    assert [request.id for request in world.dispatcher.requests] == ["e2#1"]


async def test_a_failure_of_ours_leaves_the_claim_to_end_by_itself() -> None:
    world = World(PlatformError("bug"))
    await world.handle(claim())
    assert (world.operations.deferred, world.operations.dropped) == ([], [])


@pytest.mark.parametrize("where", ["claim", "dispatch"])
async def test_the_pump_outlives_a_redis_that_is_away(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "_IDLE_S", 0.001)
    away = RedisUnavailableError("away")
    world = World(*([away, Verdict.DISPATCHED] if where == "dispatch" else [Verdict.DISPATCHED]))
    world.operations.claims = [away] if where == "claim" else [[claim()]]
    world.operations.claims.append([claim("e2")])
    async with world.running():
        await wait_until(
            lambda: bool(world.dispatcher.requests) and world.dispatcher.requests[-1].id == "e2#1", "it goes on"
        )
