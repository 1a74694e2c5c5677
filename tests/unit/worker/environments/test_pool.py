from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.launch import LaunchSpec
from tests.fakes.played_runtime import CATALOG, Stage, launch_spec
from tests.fakes.recording_operations import RecordingOperations
from tests.waiting import wait_until
from worker.code.layers import merged_key
from worker.environments import pool as pool_module
from worker.environments.environment import Environment, Invocation
from worker.environments.pool import EnvironmentPool
from worker.environments.provisions import Provisions
from worker.environments.state import State
from worker.sandbox.driver import SandboxSpec, SandboxStartFailedError

KEY = "uid:$LATEST:1"


class Launcher:
    async def provide(self, launch: LaunchSpec) -> Provisions:
        return Provisions(image=f"image:{launch.runtime}", code_dir=Path("/code") / launch.code_sha256)


@dataclass
class World:
    stage: Stage
    operations: RecordingOperations
    pool: EnvironmentPool

    async def cold(self, reservation: str, **changes: Any) -> Environment:
        launch = launch_spec(**changes)
        return await self.pool.acquire(launch.version_key, launch, reservation)

    async def idle(self, *reservations: str) -> list[Environment]:
        """Environments that are idle, with their tokens in Redis, the first one settled first."""
        environments = [await self.cold(reservation) for reservation in reservations]
        for environment in environments:
            self.settle(environment)
        return environments

    def settle(self, environment: Environment) -> None:
        self.operations.tokens[environment.launch.version_key] += 1
        self.pool.settle(environment)

    async def warm(self) -> Environment:
        self.operations.tokens[KEY] -= 1
        async with asyncio.timeout(5):
            return await self.pool.acquire(KEY, None, "warm")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    # Runtimes that end at once are the quickest to make; most of these tests invoke none.
    stage = Stage(tmp_path, parts=deque(["init_exit"]))
    operations = RecordingOperations()
    pool = EnvironmentPool(
        stage.environment_parts,
        operations,  # type: ignore[arg-type]
        Launcher(),
        CATALOG,
        idle_timeout_s=600,
    )
    yield World(stage, operations, pool)
    assert await pool.clear()
    await stage.close()
    assert not stage.driver.live, "a sandbox is left"


async def test_a_warm_start_takes_the_most_recently_used_environment(world: World) -> None:
    _, recent = await world.idle("a", "b")
    assert await world.warm() is recent


async def test_a_token_without_an_environment_here_is_an_error_of_the_start(world: World) -> None:
    with pytest.raises(LookupError, match="no environment of uid:"):
        await world.warm()


async def test_an_invocation_whose_environment_has_not_settled_waits_for_it(world: World) -> None:
    environment = await world.cold("a")
    waiting = asyncio.create_task(world.warm())
    await asyncio.sleep(0)
    assert not waiting.done()
    world.settle(environment)

    assert await waiting is environment
    assert world.pool.idle_tokens() == {}


async def test_who_waits_comes_before_an_eviction_and_a_retirement_that_came_later(world: World) -> None:
    first, second = await world.cold("a"), await world.cold("b")
    waiting = asyncio.create_task(world.warm())
    await asyncio.sleep(0)
    await world.pool.evict([KEY])
    world.pool.retire(KEY)
    world.settle(first)
    assert await waiting is first

    world.settle(second)
    await wait_until(lambda: world.operations.released == ["b"], "the eviction is paid")


async def test_an_eviction_destroys_the_least_recently_used_and_its_memory_comes_back(world: World) -> None:
    old, recent = await world.idle("a", "b")
    await world.pool.evict([KEY])

    assert (old.state, recent.state) == (State.DEAD, State.IDLE)
    assert world.operations.released == ["a"]
    assert world.pool.reservations() == {"b": 128}


async def test_an_eviction_of_an_environment_that_is_on_its_way_back_is_owed(world: World) -> None:
    environment = await world.cold("a")
    await world.pool.evict([KEY])
    assert not world.operations.released
    world.settle(environment)

    await wait_until(lambda: world.operations.released == ["a"], "it is destroyed when it settles")
    assert world.pool.idle_tokens() == {}


async def test_an_eviction_of_something_unknown_is_nothing(world: World) -> None:
    await world.pool.evict(["other:$LATEST:1"])


async def test_a_retired_head_loses_its_idle_environments_now_and_its_busy_ones_when_they_settle(world: World) -> None:
    idle, busy = await world.cold("a"), await world.cold("b")
    world.settle(idle)
    world.pool.retire(KEY)
    await wait_until(lambda: world.operations.released == ["a"], "the idle one is gone")
    world.settle(busy)
    await wait_until(lambda: world.operations.released == ["a", "b"], "the busy one is gone")


async def test_a_retirement_leaves_later_heads_and_numbered_versions(world: World) -> None:
    later = await world.cold("a", version_key="uid:$LATEST:2", generation=2)
    numbered = await world.cold("b", version_key="uid:1", version="1")
    world.pool.retire(KEY)
    world.settle(later)
    world.settle(numbered)

    assert set(world.pool.idle_tokens()) == {"uid:$LATEST:2", "uid:1"}


async def test_a_deleted_version_goes_alone(world: World) -> None:
    kept, gone = await world.cold("a"), await world.cold("b", version_key="uid:1", version="1")
    world.settle(kept)
    world.pool.retire("uid:1")
    world.settle(gone)

    await wait_until(lambda: world.operations.released == ["b"], "the deleted version is gone")
    assert set(world.pool.idle_tokens()) == {KEY}


async def test_a_forgotten_function_stays_forgotten_whatever_is_retired_after_it(world: World) -> None:
    idle, busy = await world.cold("a"), await world.cold("b", version_key="uid:1", version="1")
    world.settle(idle)
    world.pool.forget("uid")
    world.pool.retire(KEY)
    world.settle(busy)

    await wait_until(lambda: sorted(world.operations.released) == ["a", "b"], "all of it is gone")


async def test_a_retirement_that_is_no_version_of_ours_changes_nothing(world: World) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        world.pool.retire("uid:$LATEST:x")
    assert world.pool.idle_tokens() == {}


async def test_an_idle_environment_that_died_is_replaced_within_its_memory(world: World) -> None:
    dead = await die_idle(world)
    replacement = await world.warm()

    assert replacement is not dead
    assert replacement.reservation == "a"
    assert list(world.pool) == [replacement]
    assert world.operations.released == []


async def test_memory_of_an_idle_environment_that_can_t_be_replaced_comes_back(world: World) -> None:
    await die_idle(world)
    world.stage.driver.before_start = refuse
    with pytest.raises(SandboxStartFailedError):
        await world.warm()

    assert world.operations.released == ["a"]
    assert world.pool.reservations() == {}
    assert list(world.pool) == []


async def test_a_start_that_fails_keeps_its_memory_until_it_is_abandoned(world: World) -> None:
    world.stage.driver.before_start = refuse
    with pytest.raises(SandboxStartFailedError):
        await world.cold("a")
    assert world.pool.reservations() == {"a": 128}
    await world.pool.abandon("a")

    assert world.pool.reservations() == {}
    assert world.operations.released == ["a"]


async def test_a_start_that_is_cut_off_leaves_no_sandbox(world: World) -> None:
    world.stage.parts = deque(["init_hang"])
    start = asyncio.create_task(world.cold("a"))
    await wait_until(lambda: bool(world.stage.driver.live), "its sandbox is there")
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)

    assert not world.stage.driver.live
    assert list(world.pool) == []


async def test_a_waiting_invocation_that_gives_up_leaves_its_environment_to_be_destroyed(world: World) -> None:
    environment = await world.cold("a")
    waiting = asyncio.create_task(world.warm())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    world.settle(environment)

    await wait_until(lambda: world.operations.released == ["a"], "no idle environment without a token")


async def test_a_waiting_invocation_that_gives_up_just_as_it_is_served_destroys_what_it_got(world: World) -> None:
    environment = await world.cold("a")
    waiting = asyncio.create_task(world.warm())
    await asyncio.sleep(0)
    world.settle(environment)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    await wait_until(lambda: world.operations.released == ["a"], "it is not lost")


async def test_reaping_takes_what_was_idle_for_too_long_and_no_more(world: World) -> None:
    old, young = await world.idle("a", "b")
    old.idle_since -= 601
    await world.pool.reap()
    await wait_until(lambda: world.operations.released == ["a"], "the old one is gone")

    assert young.state is State.IDLE
    assert world.operations.tokens[KEY] == 1


async def test_reaping_leaves_an_environment_that_was_given_away_at_that_moment(world: World) -> None:
    (environment,) = await world.idle("a")
    environment.idle_since -= 601
    world.operations.tokens[KEY] = 0
    await world.pool.reap()

    assert environment.state is State.IDLE
    assert await world.pool.acquire(KEY, None, "warm") is environment


async def test_reaping_owes_when_its_environment_is_taken_while_redis_answers(world: World) -> None:
    old, other = await world.cold("a"), await world.cold("b")
    world.settle(old)
    world.operations.tokens[KEY] += 1
    old.idle_since -= 601
    reaping = asyncio.create_task(world.pool.reap())
    await asyncio.sleep(0)
    taken = await world.warm()
    await reaping
    world.pool.settle(other)

    assert taken is old
    await wait_until(lambda: world.operations.released == ["b"], "the next one to settle pays")


async def test_a_version_without_environments_is_forgotten(world: World) -> None:
    given_up, (reaped,) = await world.cold("a"), await world.idle("b")
    await world.pool.give_up(given_up)
    reaped.idle_since -= 601
    await world.pool.reap()
    world.operations.tokens[KEY] += 1
    with pytest.raises(LookupError):
        await world.warm()


async def test_memory_comes_back_however_long_redis_refuses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_RELEASE_PAUSE_S", 0)
    world.operations.failures = [RedisReplyError("MISCONF"), RedisUnavailableError("away")]
    environment = await world.cold("a")
    await world.pool.give_up(environment)

    assert world.operations.released == ["a"]
    assert world.pool.reservations() == {}


async def test_clearing_destroys_whatever_it_is_doing_and_waits_for_what_is_being_destroyed(world: World) -> None:
    idle, _ = await world.cold("a"), await world.cold("b")
    world.settle(idle)
    world.pool.retire(KEY)
    assert await world.pool.clear()

    assert not world.stage.driver.live
    assert world.pool.counts() == {}


async def test_clearing_says_when_something_is_not_known_to_be_gone(world: World) -> None:
    environment = await world.cold("a")
    # What the driver removes is not there any more: it raises.
    (world.stage.folder / environment.id / "log").unlink()
    assert not await world.pool.clear()


async def test_the_code_of_environments_that_live_is_in_use(world: World) -> None:
    environment = await world.cold("a", code_sha256="abc")
    assert world.pool.code_in_use() == {"abc"}
    assert world.pool.counts() == {"idle": 1}
    await world.pool.give_up(environment)
    assert world.pool.code_in_use() == set()


async def test_the_layers_of_environments_that_live_are_in_use_alone_and_merged(world: World) -> None:
    environment = await world.cold("a", code_sha256="abc", layers=["d", "e"])
    assert world.pool.code_in_use() == {"abc", "d", "e", merged_key(["d", "e"])}
    await world.pool.give_up(environment)


async def refuse(_: SandboxSpec) -> None:
    raise SandboxStartFailedError("engine away")


async def die_idle(world: World) -> Environment:
    """Return an idle environment that could not be started again after its invocation."""
    environment = await world.cold("a")
    world.stage.driver.before_start = refuse
    await environment.invoke(Invocation(request_id="r", invoked_function_arn="arn", payload=b"{}"))
    world.settle(environment)
    assert not await environment.is_alive()
    world.stage.driver.before_start = None
    return environment
