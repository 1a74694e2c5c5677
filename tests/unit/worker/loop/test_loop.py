from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from contract.bus.connection import RedisUnavailableError
from contract.bus.operations import Registration, WorkerState
from contract.launch import LaunchSpec
from contract.messages import InvokeHeader, LogsRequest, PrepareRequest
from tests.fakes.played_runtime import launch_spec
from tests.fakes.recording_operations import RecordingOperations, Step
from tests.waiting import wait_until
from worker import loop as loop_module
from worker.executor import Delivery
from worker.loop import Life, WorkerLoop

INSTANCE = "w@1"
HEADER = InvokeHeader(
    request_id="r1",
    version_key="uid:$LATEST:1",
    function_uid="uid",
    generation=1,
    memory_mb=128,
    controller="c",
    invoked_function_arn="arn",
).to_json()


class FakePool:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.changes = 0
        self.reaped = 0

    def retire(self, key: str) -> None:
        if key == "bad":
            raise ValueError("bad key")
        self.log.append(f"retire {key}")

    def forget(self, uid: str) -> None:
        self.log.append(f"forget {uid}")

    async def reap(self) -> None:
        self.reaped += 1

    def idle_tokens(self) -> dict[str, Any]:
        return {"uid:1": {"count": 1, "memory": 128}}

    def reservations(self) -> dict[str, int]:
        return {"e": 128}


class FakeExecutor:
    """Its deliveries begin in tasks, as those of the real one do, and run until `finish`."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.last_inbox = b"0-0"
        self.deliveries: list[Delivery] = []
        self.running: set[asyncio.Task[None]] = set()
        self.finish = asyncio.Event()
        self.finish.set()

    def accept(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.running.add(asyncio.create_task(self._run(delivery)))

    async def _run(self, delivery: Delivery) -> None:
        self.log.append(f"invoke {delivery.id}")
        await self.finish.wait()

    async def wait_idle(self) -> None:
        await asyncio.gather(*self.running)

    def held(self) -> dict[str, dict[str, Any]]:
        return {}


@dataclass
class World:
    operations: RecordingOperations = field(default_factory=RecordingOperations)
    log: list[str] = field(default_factory=list)
    prepared: list[tuple[PrepareRequest, LaunchSpec]] = field(default_factory=list)
    asked: list[LogsRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool, self.executor = FakePool(self.log), FakeExecutor(self.log)
        operations: Any = self.operations
        self.life = Life(operations, Registration(instance=INSTANCE, epoch=1, predecessors=()))
        pool: Any = self.pool
        executor: Any = self.executor
        self.loop = WorkerLoop(
            self.life,
            engine_id="engine",
            memory_mb=4096,
            pool=pool,
            executor=executor,
            info=dict,
            on_prepare=self._prepare,
            on_logs=self._logs,
            on_forget=self._forget,
        )
        self.running = asyncio.create_task(self.loop.run())

    async def _prepare(self, request: PrepareRequest, launch: LaunchSpec) -> None:
        self.prepared.append((request, launch))

    async def _logs(self, request: LogsRequest) -> None:
        self.asked.append(request)

    async def _forget(self, uid: str) -> None:
        self.log.append(f"logs of {uid} go")

    def push(self, kind: bytes, **fields: bytes) -> None:
        entry = [b"t", kind]
        for name, value in fields.items():
            entry += [name.encode(), value]
        self.operations.bus.push(self.operations.bus.keys.inbox(INSTANCE), *entry)

    def invoke(self, name: bytes = b"i1") -> None:
        self.push(b"invoke", i=name, s=b"warm", o=b"account", h=HEADER, p=b"{}")

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            await self.running


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(loop_module, "HEARTBEAT_S", 0.001)
    world = World()
    yield world
    world.loop.end()
    world.executor.finish.set()
    await world.ended()


async def test_an_invocation_becomes_a_delivery(world: World) -> None:
    world.push(
        b"invoke",
        i=b"i1",
        s=b"cold",
        o=b"account",
        h=HEADER,
        p=b"[1]",
        l=launch_spec().to_json(),
        e=b"a:1\nb:$LATEST:2",
    )
    await wait_until(lambda: bool(world.executor.deliveries), "it is accepted")

    (delivery,) = world.executor.deliveries
    assert (delivery.id, delivery.is_cold, delivery.pool, delivery.payload) == ("i1", True, "account", b"[1]")
    assert delivery.evict == ("a:1", "b:$LATEST:2")
    assert delivery.header.request_id == "r1"
    assert LaunchSpec.from_json(delivery.launch) == launch_spec()
    assert world.executor.last_inbox == b"1-0"


async def test_a_retirement_takes_effect_after_the_invocations_read_before_it(world: World) -> None:
    world.invoke()
    world.push(b"retire", v=b"uid:$LATEST:1")
    world.push(b"forget", v=b"uid")
    await wait_until(lambda: len(world.log) == 4, "all is done")
    assert world.log == ["invoke i1", "retire uid:$LATEST:1", "forget uid", "logs of uid go"]


async def test_questions_of_controllers_are_answered_beside(world: World) -> None:
    world.push(b"prepare", h=PrepareRequest(token="t", controller="c").to_json(), l=launch_spec().to_json())
    world.push(b"logs", h=LogsRequest(token="t", controller="c", function_uid="uid").to_json(), l=b"")
    await wait_until(lambda: bool(world.prepared and world.asked), "both are asked")
    assert world.prepared[0][1].version_key == "uid:$LATEST:1"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"h": b"{"},
        {"h": b"[]"},
        {"h": b'{"request_id": "r"}', "i": b"i", "s": b"warm", "o": b"", "p": b""},
        {"i": b"\xff", "s": b"warm", "o": b"", "h": HEADER, "p": b""},
    ],
)
@pytest.mark.parametrize("kind", [b"invoke", b"retire", b"forget", b"prepare", b"logs", b"news"])
async def test_what_can_t_be_read_is_passed_over(world: World, kind: bytes, fields: dict[str, bytes]) -> None:
    world.push(kind, **fields)
    world.push(b"retire", v=b"bad")
    world.invoke()
    await wait_until(lambda: "invoke i1" in world.log, "the next one is served")
    assert not world.running.done()


async def test_a_fenced_worker_ends(world: World) -> None:
    world.operations.states = [WorkerState.FENCED]
    await world.ended()


async def test_heartbeats_go_on_while_redis_is_away(world: World) -> None:
    world.operations.states = [RedisUnavailableError("away"), RedisUnavailableError("away")]
    await wait_until(lambda: len(world.operations.beats) > 4, "it beats on")


async def test_idle_environments_are_reaped_now_and_then(world: World) -> None:
    await wait_until(lambda: world.pool.reaped > 1, "it reaps")


async def test_a_worker_that_redis_has_lost_tells_what_it_has(world: World) -> None:
    world.operations.states = [WorkerState.UNKNOWN]
    await wait_until(lambda: bool(world.operations.views), "it reconciles")

    view = world.operations.views[0]
    assert (view.engine_id, view.epoch, view.memory_mb) == ("engine", 1, 4096)
    assert (view.idle, view.reserved) == ({"uid:1": {"count": 1, "memory": 128}}, {"e": 128})


async def test_a_new_server_is_reconciled_with_once(world: World) -> None:
    world.operations.bus.run_id = "server-2"
    beats = 5
    await wait_until(lambda: len(world.operations.beats) > beats, "several heartbeats")
    assert len(world.operations.views) == 1


async def test_a_lost_connection_to_the_same_server_is_reason_enough_to_reconcile(world: World) -> None:
    world.operations.bus.connection_count += 1
    await wait_until(lambda: bool(world.operations.views), "it reconciles")


async def test_a_snapshot_that_was_overtaken_is_made_again(world: World) -> None:
    def change() -> None:
        world.pool.changes += len(world.operations.views) < 3

    world.operations.on_reconcile = change
    world.operations.bus.run_id = "server-2"
    await wait_until(lambda: world.life.reconciled_with == world.operations.bus.link, "it is reconciled")
    assert len(world.operations.views) == 3


async def test_a_worker_whose_every_snapshot_is_overtaken_tries_again_at_the_next_heartbeat(world: World) -> None:
    tries = 25

    def change() -> None:
        world.pool.changes += len(world.operations.views) < tries

    world.operations.on_reconcile = change
    world.operations.bus.run_id = "server-2"
    await wait_until(lambda: world.life.reconciled_with == world.operations.bus.link, "it is reconciled in the end")
    assert len(world.operations.views) == tries


async def test_repeated_start_failures_make_a_worker_unplaceable_for_a_while(world: World) -> None:
    for is_ok in (False, False, True, False, False, False):
        world.loop.started(is_ok)
    await wait_until(lambda: (False, False) in world.operations.beats, "it asks to be left alone")
    await wait_until(lambda: world.operations.beats[-1] == (True, False), "it comes back")


async def test_a_draining_worker_ends_when_redis_knows_and_nothing_is_left(world: World) -> None:
    world.operations.bus.answers["SCARD"] = [Step(1), Step(0), Step(0)]
    world.executor.finish.clear()
    world.invoke()
    await wait_until(lambda: bool(world.executor.deliveries), "it runs")
    world.loop.drain()
    await wait_until(lambda: (True, True) in world.operations.beats, "Redis is told")
    assert not world.running.done()
    world.executor.finish.set()
    await world.ended()
    assert len(world.operations.bus.answers["SCARD"]) == 1


async def test_what_came_before_redis_knew_of_the_drain_is_still_served(world: World) -> None:
    counts = iter([1])

    def held() -> int:
        if next(counts, 0):
            world.invoke(b"late")
            return 1
        return 0

    world.operations.bus.answers["SCARD"] = held
    world.loop.drain()
    await world.ended()
    assert "invoke late" in world.log


async def test_a_drain_without_redis_waits_for_its_deadline(world: World) -> None:
    world.operations.bus.answers["SCARD"] = RedisUnavailableError("away")
    world.loop.drain()
    await wait_until(lambda: len(world.operations.bus.commands) > 1, "it asks again")
    assert not world.running.done()
    world.loop.end()
    await world.ended()
