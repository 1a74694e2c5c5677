from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contract.bus.connection import RedisUnavailableError
from contract.bus.operations import Completion
from contract.messages import INLINE_LIMIT_BYTES, InvokeHeader, ReplyHeader
from tests.fakes.played_runtime import CATALOG, Stage, launch_spec
from tests.fakes.recording_operations import RecordingOperations
from tests.unit.worker.environments.test_pool import Launcher
from tests.waiting import wait_until
from worker.environments.pool import EnvironmentPool
from worker.executor import Delivery, Executor
from worker.sandbox.driver import ImageStartFailedError, SandboxSpec, SandboxStartFailedError
from worker.transfer import TransferError


class FakeTransfer:
    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    async def fetch(self, url: str) -> bytes:
        if url not in self.bodies:
            raise TransferError(f"nothing at {url}")
        return self.bodies.pop(url)

    async def put(self, url: str, body: bytes) -> None:
        if not url:
            raise TransferError("no address")
        self.bodies[url] = body

    async def blob(self, sha256: str) -> bytes:
        return await self.fetch(sha256)


@dataclass
class World:
    stage: Stage
    operations: RecordingOperations = field(default_factory=RecordingOperations)
    transfer: FakeTransfer = field(default_factory=FakeTransfer)
    fenced: int = 0
    starts: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        operations: Any = self.operations
        self.pool = EnvironmentPool(self.stage.environment_parts, operations, Launcher(), CATALOG, idle_timeout_s=600)
        transfer: Any = self.transfer
        #: Set while this instance may run what it was given.
        self.leased = asyncio.Event()
        self.leased.set()
        self.executor = Executor(
            operations,
            self.pool,
            transfer,
            authority=self._authority,
            on_fenced=self._on_fenced,
            on_start=self.starts.append,
        )

    async def _authority(self) -> None:
        await self.leased.wait()

    def _on_fenced(self) -> None:
        self.fenced += 1

    async def run(self, *deliveries: Delivery) -> ReplyHeader:
        """Run deliveries to their ends; the header of the last completion."""
        for delivery in deliveries:
            self.executor.accept(delivery)
        async with asyncio.timeout(5):
            await self.executor.wait_idle()
        return ReplyHeader.from_json(self.operations.completed[-1]["header"])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(Stage(tmp_path))
    yield world
    await world.executor.abandon()
    assert await world.pool.clear()
    await world.stage.close()
    assert not world.stage.driver.live, "a sandbox is left"


def delivery(number: int = 1, *, start: str = "cold", evict: tuple[str, ...] = (), **header: Any) -> Delivery:
    launch = launch_spec()
    made = InvokeHeader(
        **(
            {
                "request_id": f"r{number}",
                "version_key": launch.version_key,
                "function_uid": "uid",
                "generation": 1,
                "memory_mb": 128,
                "controller": "c",
                "invoked_function_arn": "arn",
            }
            | header
        )
    )
    return Delivery(
        id=f"i{number}",
        is_cold=start == "cold",
        pool="account",
        header=made,
        raw_header=made.to_json(),
        payload=b"{}",
        launch=launch.to_json() if start == "cold" else b"",
        evict=evict,
    )


async def test_a_worker_whose_lease_is_over_hands_nothing_to_a_runtime_until_it_is_renewed(world: World) -> None:
    await world.run(delivery(1))
    world.leased.clear()
    world.executor.accept(delivery(2, start="warm"))
    await wait_until(lambda: not any(world.pool.idle_tokens().values()), "it has taken its environment")
    await asyncio.sleep(0)
    assert len(world.operations.completed) == 1

    world.leased.set()

    await wait_until(lambda: len(world.operations.completed) == 2, "it runs")


async def refuse(_: SandboxSpec) -> None:
    raise SandboxStartFailedError("engine away")


async def test_a_cold_and_then_a_warm_invocation_share_an_environment(world: World) -> None:
    await world.run(delivery(1))
    reply = await world.run(delivery(2, start="warm"))

    assert reply == ReplyHeader(executed_version="$LATEST")
    assert [done["payload"] for done in world.operations.completed] == [b'"answer"', b'"answer"']
    assert len(list(world.pool)) == 1
    assert world.starts == [True]
    assert world.executor.held() == {}


async def test_a_delivery_that_comes_twice_runs_once(world: World) -> None:
    await world.run(delivery(1), delivery(1))
    assert len(world.operations.completed) == 1


async def test_the_tail_is_sent_only_to_who_wants_it(world: World) -> None:
    assert (await world.run(delivery(1))).log_result is None
    assert (await world.run(delivery(2, start="warm", wants_tail=True))).log_result


async def test_a_function_that_failed_is_a_result_and_an_event_that_is_done(world: World) -> None:
    world.stage.parts = deque(["error"])
    reply = await world.run(delivery(event="e1"))

    assert (reply.function_error, reply.platform_error) == ("Unhandled", None)
    assert world.operations.completed[0]["acknowledge"] is True


@pytest.mark.parametrize("completion", [Completion.DESTROY, Completion.IGNORED])
async def test_an_environment_whose_token_does_not_come_back_is_destroyed(world: World, completion: Completion) -> None:
    world.operations.completion = completion
    await world.run(delivery())

    assert world.operations.released == ["i1"]
    assert list(world.pool) == []
    assert world.fenced == 0


@pytest.mark.parametrize("completion", [Completion.FENCED, RedisUnavailableError("away")])
async def test_a_completion_that_redis_does_not_take_ends_this_life(world: World, completion: Any) -> None:
    world.operations.completion = completion
    await world.run(delivery())
    assert world.fenced == 1


async def test_a_start_that_fails_hands_the_invocation_back_and_frees_its_memory(world: World) -> None:
    world.stage.driver.before_start = refuse
    world.executor.accept(delivery())
    await world.executor.wait_idle()

    assert world.operations.handed_back == ["i1"]
    assert world.operations.completed == []
    assert world.operations.released == ["i1"]
    assert world.starts == [False]
    assert world.executor.held_count == 0


async def test_an_image_that_can_not_be_started_does_not_speak_against_this_worker(world: World) -> None:
    async def refuse_image(_: SandboxSpec) -> None:
        raise ImageStartFailedError("the image's /tmp is a file")

    world.stage.driver.before_start = refuse_image
    world.executor.accept(delivery())
    await world.executor.wait_idle()

    assert world.operations.handed_back == ["i1"]
    assert world.operations.released == ["i1"]
    # One function with such an image would otherwise make all workers unplaceable, for everybody.
    assert world.starts == []


async def test_a_start_that_no_other_worker_can_try_is_a_platform_failure_and_its_event_comes_again(
    world: World,
) -> None:
    world.stage.driver.before_start = refuse
    world.operations.handback_answer = "exhausted"
    reply = await world.run(delivery(event="e1"))

    assert reply.platform_error is not None
    assert "engine away" in reply.platform_error
    assert reply.function_error is None
    told = world.operations.completed[0]
    assert (told["acknowledge"], told["is_reusable"], told["retry_ms"]) == (False, False, 2000)


async def test_a_start_that_fails_on_a_fenced_worker_ends_this_life(world: World) -> None:
    world.stage.driver.before_start = refuse
    world.operations.handback_answer = "fenced"
    world.executor.accept(delivery())
    await world.executor.wait_idle()
    assert world.fenced == 1


async def test_a_launch_that_can_t_be_read_fails_its_invocation_and_nothing_else(world: World) -> None:
    bad = delivery()
    object.__setattr__(bad, "launch", b'{"unknown": 1}')
    world.operations.handback_answer = "exhausted"
    reply = await world.run(bad)

    assert "not a launch specification" in str(reply.platform_error)
    assert world.fenced == 0


async def test_a_warm_invocation_without_an_environment_is_a_platform_failure(world: World) -> None:
    reply = await world.run(delivery(start="warm"))

    assert "no environment of uid:" in str(reply.platform_error)
    assert world.operations.handed_back == []
    assert world.fenced == 0


async def test_a_payload_that_can_t_be_fetched_is_a_platform_failure_that_keeps_the_environment(world: World) -> None:
    reply = await world.run(delivery(payload_url="http://gone"))

    assert "nothing at http://gone" in str(reply.platform_error)
    assert world.operations.completed[0]["is_reusable"] is True
    assert world.operations.completed[0]["acknowledge"] is False
    assert world.stage.events == []


async def test_large_payloads_come_by_address_and_large_events_from_the_blob_store(world: World) -> None:
    world.transfer.bodies = {"http://payload": b'"one"', "abc": b'"two"'}
    await world.run(delivery(1, payload_url="http://payload"))
    await world.run(delivery(2, start="warm", payload_blob="abc"))
    assert world.stage.events == [b'"one"', b'"two"']


async def test_a_large_answer_goes_to_its_address_and_an_event_s_goes_nowhere(world: World) -> None:
    world.stage.answer = b'"%s"' % (b"x" * INLINE_LIMIT_BYTES)
    reply = await world.run(delivery(1, answer_url="http://answer"))
    assert reply.is_transferred
    assert world.transfer.bodies == {"http://answer": world.stage.answer}
    assert world.operations.completed[0]["payload"] == b""

    await world.run(delivery(2, start="warm", event="e1"))
    assert world.operations.completed[1]["payload"] == b""
    assert len(world.transfer.bodies) == 1


async def test_an_environment_that_died_idle_and_can_t_be_replaced_frees_slot_and_memory(world: World) -> None:
    world.stage.parts = deque(["exit"])
    starts = iter([None])

    async def start_once(spec: SandboxSpec) -> None:
        for _ in starts:
            return
        await refuse(spec)

    world.stage.driver.before_start = start_once
    await world.run(delivery(1))
    reply = await world.run(delivery(2, start="warm"))

    assert "engine away" in str(reply.platform_error)
    assert world.operations.completed[-1]["is_reusable"] is False
    assert world.operations.released == ["i1"]
    assert world.pool.reservations() == {}


async def test_evictions_are_done_before_the_start_that_they_make_room_for(world: World) -> None:
    await world.run(delivery(1))
    await world.run(delivery(2, evict=("uid:$LATEST:1",)))
    assert world.operations.released == ["i1"]
    assert world.pool.reservations() == {"i2": 128}


async def test_what_is_held_is_told_in_the_words_of_reconcile(world: World) -> None:
    world.stage.parts = deque(["hang"])
    world.executor.accept(delivery(event="e1"))
    await wait_until(lambda: bool(world.stage.events), "it runs")

    assert world.executor.held() == {
        "i1": {
            "uid": "uid",
            "pool": "account",
            "controller": "c",
            "version": "uid:$LATEST:1",
            "generation": 1,
            "memory": 128,
            "event": "e1",
            "start": "cold",
        }
    }


async def test_abandoned_invocations_tell_nobody_and_hold_nothing(world: World) -> None:
    world.stage.parts = deque(["hang"])
    world.executor.accept(delivery())
    await wait_until(lambda: bool(world.stage.events), "it runs")
    await world.executor.abandon()

    assert world.operations.completed == []
    assert world.executor.held_count == 0
    assert world.fenced == 0


async def test_a_bug_of_ours_ends_this_life_rather_than_leaving_an_environment_in_doubt(world: World) -> None:
    world.operations.completion = ZeroDivisionError("bug")  # type: ignore[assignment]
    await world.run(delivery())
    assert world.fenced == 1
