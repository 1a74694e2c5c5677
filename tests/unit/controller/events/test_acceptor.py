from __future__ import annotations

from typing import Any

import pytest

from contract.blobs.memory import MemoryBlobStore
from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.messages import INLINE_LIMIT_BYTES
from controller.domain.errors import LambdaError, PlatformError, ResourceNotFoundError
from controller.domain.function import State
from controller.events.acceptor import EventAcceptor, EventTarget
from controller.events.durability import NotDurableError
from tests.unit.controller.events.cast import CALLER, NAME, EventOperations, FakeVersions, resolved

LARGE = b"x" * (INLINE_LIMIT_BYTES + 1)


class World:
    """Notes in `operations.log` what is done, in order."""

    def __init__(self) -> None:
        self.operations = EventOperations()
        self.log = self.operations.log
        self.versions = FakeVersions()
        self.blobs = MemoryBlobStore()
        self.check_failure: Exception | None = None
        self.barrier_failure: Exception | None = None
        #: Run ids of the servers that the barriers find.
        self.servers: list[str] = []
        parts: Any = (self.operations, self, self, self.versions)
        self.acceptor = EventAcceptor(*parts)

    async def check(self) -> None:
        self.log.append("check")
        if self.check_failure is not None:
            raise self.check_failure

    async def barrier(self) -> None:
        self.log.append("barrier")
        if self.servers:
            self.operations.bus.run_id = self.servers.pop(0)
        if self.barrier_failure is not None:
            raise self.barrier_failure

    async def put(self, data: bytes) -> str:
        self.log.append("blob")
        return await self.blobs.put(data)

    async def accept(self, payload: bytes = b"{}") -> None:
        await self.acceptor.accept(CALLER, NAME, "e1", payload)


async def test_an_event_is_queued_and_on_disk_before_its_caller_hears_of_it() -> None:
    world = World()
    await world.accept()
    assert world.log == ["check", "enqueue e1 uid 2 False", "barrier"]


async def test_an_event_goes_to_the_function_that_is_there_now_not_to_one_that_is_remembered() -> None:
    world = World()
    world.versions.remembered = resolved(uid="deleted")
    await world.accept()
    assert "enqueue e1 uid 2 False" in world.log


async def test_a_large_payload_is_a_blob_before_anything_refers_to_it() -> None:
    world = World()
    await world.accept(LARGE)
    assert world.log == ["check", "blob", "enqueue e1 uid 0 True", "barrier"]


async def test_what_the_event_is_for_is_kept_as_it_was_named() -> None:
    world = World()
    await world.accept()
    target = EventTarget.from_json(world.operations.header)
    assert target == EventTarget(account="000000000000", region="us-east-1", name="f", qualifier="live")


async def test_an_event_that_its_server_may_have_taken_with_it_is_queued_again() -> None:
    world = World()
    world.servers = ["server-2", "server-2"]
    await world.accept()
    assert world.log == ["check", "enqueue e1 uid 2 False", "barrier", "enqueue e1 uid 2 False", "barrier"]


@pytest.mark.parametrize(
    "failure", [RedisUnavailableError("away"), RedisReplyError("OOM"), TimeoutError(), OSError("disk full")]
)
async def test_an_event_that_can_t_be_queued_is_our_failure(failure: Exception) -> None:
    world = World()
    world.operations.failure = failure
    with pytest.raises(PlatformError, match="event e1 could not be kept"):
        await world.accept()
    assert "barrier" not in world.log


async def test_a_server_that_promises_nothing_is_not_even_told() -> None:
    world = World()
    world.check_failure = NotDurableError("set `appendonly yes`")
    with pytest.raises(PlatformError, match="appendonly"):
        await world.accept(LARGE)
    assert world.log == ["check"]


async def test_an_event_that_did_not_reach_the_disk_is_our_failure() -> None:
    world = World()
    world.barrier_failure = NotDurableError("slow")
    with pytest.raises(PlatformError, match="slow"):
        await world.accept()


@pytest.mark.parametrize("answer", [ResourceNotFoundError("no such function"), resolved(State.PENDING)])
async def test_what_can_t_be_invoked_is_refused_before_anything_is_kept(answer: Any) -> None:
    world = World()
    world.versions.answer = answer
    with pytest.raises(LambdaError):
        await world.accept(LARGE)
    assert world.log == []
