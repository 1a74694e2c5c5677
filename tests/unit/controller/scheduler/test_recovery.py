from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contract.bus.connection import RedisUnavailableError
from contract.bus.operations import BURY_AFTER_MS
from contract.messages import ReplyHeader
from controller.domain.function import FunctionHead
from controller.scheduler import recovery as recovery_module
from controller.scheduler.recovery import Recovery
from tests.fakes.recording_operations import RecordingBus
from tests.waiting import wait_until


def head(uid: str) -> FunctionHead:
    return FunctionHead(uid=uid, account="0", region="r", generation=1, reserved_concurrency=None)


class World:
    """Heads and workers as the stores have them; notes what is done to them."""

    def __init__(self) -> None:
        self.bus = RecordingBus()
        self.bus.answers = {"SET": b"OK"}
        self.heads = [head("a"), head("b")]
        self.found: dict[str, dict[str, str]] = {}
        self.log: list[str] = []
        self.fenced: list[tuple[str, bytes, bool]] = []
        self.on_publish: Any = None
        self.failures: list[Exception] = []
        parts: Any = (self, self)
        self.recovery = Recovery(*parts, "c1", on_new_redis=lambda: self.log.append("new redis"))

    async def publish_all(self) -> int:
        count = 0
        async for each in self.list_heads():
            await self.publish(each)
            count += 1
        return count

    async def list_heads(self) -> AsyncIterator[FunctionHead]:
        for each in self.heads:
            yield each

    async def publish(self, each: FunctionHead) -> None:
        self.log.append(f"publish {each.uid}")
        if self.on_publish is not None:
            self.on_publish()

    async def heads_published(self) -> None:
        self.log.append("published")

    async def workers(self) -> dict[str, dict[str, str]]:
        if self.failures:
            raise self.failures.pop(0)
        self.log.append("look")
        return self.found

    async def fence(self, instance: str, header: bytes, *, only_if_silent: bool) -> int:
        self.fenced.append((instance, header, only_if_silent))
        return 2

    async def bury(self, instance: str, *, min_age_ms: int) -> bool:
        self.log.append(f"bury {instance} {min_age_ms}")
        return True


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(recovery_module, "_INTERVAL_S", 0.001)
    return World()


async def rounds(world: World, description: str, predicate: Any) -> None:
    task = asyncio.create_task(world.recovery.run())
    try:
        await wait_until(predicate, description)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_heads_are_published_once_to_each_server(world: World) -> None:
    await rounds(world, "two looks", lambda: world.log.count("look") > 1)
    assert world.log[:5] == ["new redis", "publish a", "publish b", "published", "look"]
    assert world.log.count("published") == 1

    world.bus.run_id = "server-2"
    await rounds(world, "published again", lambda: world.log.count("published") == 2)


async def test_heads_that_went_to_two_servers_are_published_again_before_either_may_serve(world: World) -> None:
    def change() -> None:
        world.bus.run_id = "server-2"

    world.on_publish = change
    await rounds(world, "published", lambda: "published" in world.log)
    before = world.log[: world.log.index("published")]
    assert before.count("publish a") == before.count("publish b") == 2


async def test_only_the_leader_looks_after_workers(world: World) -> None:
    world.bus.answers = {"SET": None, "GET": b"another"}
    await rounds(world, "several rounds", lambda: len(world.bus.commands) > 10)
    assert "look" not in world.log


async def test_the_leader_renews_its_own_lease(world: World) -> None:
    world.bus.answers = {"SET": None, "GET": b"c1"}
    await rounds(world, "it looks", lambda: "look" in world.log)
    assert ("PEXPIRE", world.bus.keys.leader(), 4000) in world.bus.commands


async def test_silent_workers_are_fenced_and_their_callers_get_a_platform_failure(world: World) -> None:
    world.found = {"w@1": {"state": "live"}, "w@2": {"state": "draining"}}
    await rounds(world, "both are asked about", lambda: len(world.fenced) >= 2)

    assert {instance for instance, _, _ in world.fenced} == {"w@1", "w@2"}
    _, header, only_if_silent = world.fenced[0]
    assert only_if_silent
    assert ReplyHeader.from_json(header).platform_error


async def test_fenced_workers_are_buried_only_when_their_sandboxes_must_be_dead(world: World) -> None:
    world.found = {"w@1": {"state": "fenced"}}
    await rounds(world, "it is buried", lambda: f"bury w@1 {BURY_AFTER_MS}" in world.log)
    assert world.fenced == []


async def test_recovery_outlives_a_redis_that_is_away(world: World) -> None:
    world.failures = [RedisUnavailableError("away"), TimeoutError(), OSError("disk")]
    await rounds(world, "it looks in the end", lambda: "look" in world.log)
