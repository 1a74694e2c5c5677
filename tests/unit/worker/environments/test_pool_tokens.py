"""Whatever happens in whatever order: tokens, environments and reservations agree, and nothing is lost."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contract.launch import LaunchSpec
from tests.fakes.played_runtime import CATALOG, Stage, launch_spec
from tests.fakes.recording_operations import RecordingOperations
from tests.unit.worker.environments.test_pool import Launcher
from worker.environments.environment import Environment
from worker.environments.pool import EnvironmentPool

NUMBERED = "uid:1"


def launch_of(key: str) -> LaunchSpec:
    _, version, *generation = key.split(":")
    return launch_spec(version_key=key, version=version, generation=int(generation[0]) if generation else 1)


class PoolMachine(RuleBasedStateMachine):
    """Plays Redis: spends and returns tokens as the scripts do, and delivers what follows from it later."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.operations = RecordingOperations()
        self.tokens = self.operations.tokens
        self.count = 0
        #: Invocations that run, or wait for their environment: version key, whether cold, which environment.
        self.held: list[tuple[str, bool, asyncio.Task[Environment]]] = []
        #: Completed in Redis, and not settled here.
        self.returning: list[Environment] = []
        self.generation = 1
        self.keys = {NUMBERED, self.latest}
        self.run(self._open())

    async def _open(self) -> None:
        self.stage = Stage(Path(self.folder.name), parts=deque(["init_exit"]))
        self.pool = EnvironmentPool(
            self.stage.environment_parts,
            self.operations,  # type: ignore[arg-type]
            Launcher(),
            CATALOG,
            idle_timeout_s=-1,
        )

    @property
    def latest(self) -> str:
        return f"uid:$LATEST:{self.generation}"

    def is_current(self, key: str) -> bool:
        return key in {NUMBERED, self.latest}

    def key(self, is_latest: bool) -> str:
        return self.latest if is_latest else NUMBERED

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def acquire(self, key: str, *, is_cold: bool) -> None:
        self.count += 1
        work = self.pool.acquire(key, launch_of(key) if is_cold else None, f"i{self.count}")
        self.held.append((key, is_cold, self.loop.create_task(work)))
        self.settle_down()

    def settle_down(self) -> None:
        """Let run what can: only who waits for an environment on its way back may stay."""

        async def calm() -> None:
            deadline = time.monotonic() + 5
            while self._is_busy():
                assert time.monotonic() < deadline, "something hangs"
                await asyncio.sleep(0)

        self.run(calm())

    def _is_busy(self) -> bool:
        if self.pool._tasks:
            return True
        for key in self.keys:
            pending = [is_cold for of, is_cold, task in self.held if of == key and not task.done()]
            on_the_way = sum(environment.launch.version_key == key for environment in self.returning)
            if any(pending) or len(pending) > on_the_way:
                return True
        return False

    # --- what can happen ----------------------------------------------------------------------------------------

    @rule(is_latest=st.booleans())
    def cold_start(self, is_latest: bool) -> None:
        self.acquire(self.key(is_latest), is_cold=True)

    @rule(is_latest=st.booleans())
    def warm_start(self, is_latest: bool) -> None:
        key = self.key(is_latest)
        if self.tokens[key]:
            self.tokens[key] -= 1
            self.acquire(key, is_cold=False)

    @precondition(lambda self: any(task.done() for _, _, task in self.held))
    @rule(is_reusable=st.sampled_from([True, True, True, False]), data=st.data())
    def complete(self, is_reusable: bool, data: st.DataObject) -> None:
        ended = data.draw(st.sampled_from([held for held in self.held if held[2].done()]))
        self.held.remove(ended)
        key, _, task = ended
        if is_reusable and self.is_current(key):
            self.tokens[key] += 1
            self.returning.append(task.result())
        else:
            self.run(self.pool.give_up(task.result()))

    @precondition(lambda self: self.returning)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        environment = data.draw(st.sampled_from(self.returning))
        self.returning.remove(environment)
        self.run(self._call(self.pool.settle, environment))
        self.settle_down()

    @precondition(lambda self: self.tokens.total())
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.tokens.keys())).filter(lambda key: self.tokens[key]))
        if self.tokens[key]:
            self.tokens[key] -= 1
            self.run(self.pool.evict([key]))

    @rule()
    def update_the_function(self) -> None:
        old = self.latest
        self.tokens[old] = 0
        self.generation += 1
        self.keys.add(self.latest)
        self.run(self._call(self.pool.retire, old))
        self.settle_down()

    @rule()
    def reap(self) -> None:
        self.run(self.pool.reap())
        self.settle_down()

    # --- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def tokens_agree(self) -> None:
        told = self.pool.idle_tokens()
        for key in self.keys:
            on_the_way = sum(environment.launch.version_key == key for environment in self.returning)
            expected = max(0, self.tokens[key] - on_the_way)
            if self.is_current(key):
                assert told.get(key, {}).get("count", 0) == expected, key

    @invariant()
    def everything_that_lives_is_known_and_reserved(self) -> None:
        assert set(self.stage.driver.live) == {environment.id for environment in self.pool}
        reservations = Counter(environment.reservation for environment in self.pool)
        assert reservations == Counter(self.pool.reservations().keys())

    @invariant()
    def no_environment_serves_two(self) -> None:
        in_use = [task.result().id for _, _, task in self.held if task.done()]
        in_use += [environment.id for environment in self.returning]
        assert len(in_use) == len(set(in_use))

    def teardown(self) -> None:
        while self.returning:
            environment = self.returning.pop()
            self.run(self._call(self.pool.settle, environment))
            self.settle_down()
        while self.held:
            _, _, task = self.held.pop()
            self.run(self.pool.give_up(self.run(task)))
        self.run(self.pool.reap())
        self.settle_down()
        assert self.pool.idle_tokens() == {}
        assert self.pool.reservations() == {}
        assert self.run(self.pool.clear())
        assert not self.stage.driver.live
        self.run(self.stage.close())
        self.loop.close()
        self.folder.cleanup()

    @staticmethod
    async def _call(work: Any, *arguments: Any) -> None:
        work(*arguments)


TestPoolTokens = PoolMachine.TestCase
TestPoolTokens.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
