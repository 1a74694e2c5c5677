"""How an environment starts, breaks, starts again and ends; its answers and log lines are in test_environment.py."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fakes.memory_driver import MemoryDriver
from tests.fakes.played_runtime import Stage, launch_spec
from tests.waiting import wait_until
from worker.environments.environment import Environment, Invocation, InvocationResult
from worker.environments.provisions import Provisions
from worker.environments.state import State
from worker.sandbox.driver import Sandbox, SandboxSpec, SandboxStartFailedError

SHORT_S: Any = 0.03


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    await stage.close()
    assert not stage.driver.live, "a sandbox is left"


async def started(stage: Stage, *parts: str, **changes: Any) -> Environment:
    stage.parts = deque(parts or ["answer"])
    environment = stage.environment(**changes)
    await environment.start(Provisions(image="image:1", code_dir=Path("/code")))
    return environment


async def invoke(environment: Environment, request_id: str = "r1") -> InvocationResult:
    invocation = Invocation(request_id=request_id, invoked_function_arn="arn", payload=b'{"a":1}')
    async with asyncio.timeout(5):
        return await environment.invoke(invocation)


def text(result: InvocationResult) -> str:
    return str(orjson.loads(result.payload)["errorMessage"])


def starts(stage: Stage, environment: Environment) -> int:
    return stage.driver.live[environment.id].start_count


async def refuse(_: SandboxSpec) -> None:
    raise SandboxStartFailedError("engine away")


@pytest.mark.parametrize(("part", "error_type"), [("answer", None), ("error", "ValueError")])
async def test_a_runtime_that_has_answered_gets_the_next_event_too(
    stage: Stage, part: str, error_type: str | None
) -> None:
    environment = await started(stage, part)
    results = [await invoke(environment, "r1"), await invoke(environment, "r2")]

    assert [result.error_type for result in results] == [error_type, error_type]
    assert stage.events == [b'{"a":1}', b'{"a":1}']
    assert environment.state is State.IDLE
    assert starts(stage, environment) == 1
    assert stage.driver.live[environment.id].is_cpu_limited
    await environment.stop()


async def test_a_timed_out_runtime_is_dead_before_the_caller_hears_of_it_and_starts_again_in_its_sandbox(
    stage: Stage,
) -> None:
    environment = await started(stage, "hang", "answer", timeout_s=SHORT_S)
    sandbox = stage.driver.live[environment.id].sandbox
    result = await invoke(environment)
    assert sandbox.exited.done()
    assert text(result) == "RequestId: r1 Error: Task timed out after 0.03 seconds"

    assert await environment.is_alive()
    assert environment.state is State.GATED
    environment.launch = launch_spec(timeout_s=60)
    assert (await invoke(environment, "r2")).payload == b'"answer"'
    assert list(stage.driver.live) == [environment.id]
    assert starts(stage, environment) == 2
    await environment.stop()


@pytest.mark.parametrize(
    ("part", "error_type", "words"),
    [
        ("exit", "Runtime.ExitError", "RequestId: r1 Error: Runtime exited with error: exit status 3"),
        ("oom", "Runtime.OutOfMemory", "RequestId: r1 Error: Runtime exited with error: signal: killed"),
        ("too_large", "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size"),
        ("init_exit", "Runtime.ExitError", "RequestId: r1 Error: Runtime exited with error: exit status 1"),
        ("init_error", "Runtime.ImportModuleError", "m"),
    ],
)
async def test_a_runtime_that_fails_is_the_functions_failure_and_the_next_invocation_gets_a_new_one(
    stage: Stage, part: str, error_type: str, words: str
) -> None:
    environment = await started(stage, part, "answer")
    result = await invoke(environment)

    assert result.error_type == error_type
    assert words in text(result)
    assert (await invoke(environment, "r2")).payload == b'"answer"'
    assert starts(stage, environment) == 2
    await environment.stop()


async def test_an_initialisation_that_takes_too_long_begins_again_within_the_invocation(stage: Stage) -> None:
    stage.limit_init(SHORT_S)
    environment = await started(stage, "init_hang", "answer")
    assert environment.state is State.GATED

    assert (await invoke(environment)).payload == b'"answer"'
    await environment.stop()


async def test_an_initialisation_within_an_invocation_counts_against_its_time_out(stage: Stage) -> None:
    stage.limit_init(SHORT_S)
    environment = await started(stage, "init_hang", timeout_s=SHORT_S)

    assert text(await invoke(environment)).endswith("Task timed out after 0.03 seconds")
    await environment.stop()


async def test_a_runtime_that_exits_while_idle_waits_at_its_gate_before_anybody_asks(stage: Stage) -> None:
    environment = await started(stage, "idle_exit", "answer")
    await wait_until(lambda: environment.state is State.GATED, "it is at its gate")

    assert (await invoke(environment)).payload == b'"answer"'
    await environment.stop()


async def test_an_environment_whose_restart_fails_is_dead_and_says_so_as_a_platform_failure(stage: Stage) -> None:
    environment = await started(stage, "exit")
    stage.driver.before_start = refuse
    await invoke(environment)

    assert not await environment.is_alive()
    with pytest.raises(SandboxStartFailedError):
        await invoke(environment, "r2")
    await environment.stop()


async def test_a_restart_without_its_log_pipe_is_a_failed_restart_whose_sandbox_goes_with_stop(stage: Stage) -> None:
    async def lose_pipe(spec: SandboxSpec) -> None:
        (stage.folder / spec.environment_id / "log").unlink()

    environment = await started(stage, "exit")
    stage.driver.before_start = lose_pipe
    await invoke(environment)
    assert not await environment.is_alive()

    (stage.folder / environment.id / "log").touch()
    await environment.stop()


async def test_a_start_that_fails_leaves_nothing_and_stop_is_still_allowed(stage: Stage) -> None:
    stage.driver.before_start = refuse
    environment = stage.environment()
    with pytest.raises(SandboxStartFailedError, match="engine away"):
        await environment.start(Provisions(image="image:1", code_dir=Path("/code")))
    await environment.stop()
    assert environment.state is State.DEAD


async def test_a_start_that_is_cancelled_during_initialisation_leaves_nothing_after_stop(stage: Stage) -> None:
    stage.parts = deque(["init_hang"])
    environment = stage.environment()
    start = asyncio.create_task(environment.start(Provisions(image="image:1", code_dir=Path("/code"))))
    await wait_until(lambda: bool(stage.driver.live), "its sandbox is there")
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await environment.stop()


class LateDriver(MemoryDriver):
    """Its sandboxes have been killed for a while before it hears of their ends."""

    async def kill(self, sandbox: Sandbox) -> None:
        pass


async def test_stop_ends_a_restart_without_cancelling_what_the_driver_resolves(stage: Stage) -> None:
    driver = LateDriver(stage.folder, on_release=stage.driver.on_release)
    stage.driver = driver
    stage.environment_parts = replace(stage.environment_parts, driver=driver)
    environment = await started(stage, "hang", timeout_s=SHORT_S)
    sandbox = driver.live[environment.id].sandbox
    await invoke(environment)
    assert environment.state is State.RESTARTING
    await asyncio.sleep(0)
    await environment.stop()

    assert sandbox.exited.done()
    assert not sandbox.exited.cancelled()


async def test_stop_during_an_invocation_kills_it(stage: Stage) -> None:
    environment = await started(stage, "hang", timeout_s=60)
    running = asyncio.create_task(invoke(environment))
    await wait_until(lambda: bool(stage.events), "the event is with the runtime")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await environment.stop()

    assert stage.driver.destroyed == [environment.id]


async def test_two_stops_wait_for_one_end_which_survives_the_cancellation_of_either(stage: Stage) -> None:
    environment = await started(stage)
    first, second = asyncio.create_task(environment.stop()), asyncio.create_task(environment.stop())
    await asyncio.sleep(0)
    first.cancel()
    await second

    assert stage.driver.destroyed == [environment.id]
    await environment.stop()


async def test_a_slow_initialisation_holds_up_nobody_elses_start(stage: Stage) -> None:
    stage.parts = deque(["init_hang", "init_hang", "init_hang", "answer"])
    slow = [stage.environment() for _ in range(3)]
    starting = [asyncio.create_task(each.start(Provisions(image="image:1", code_dir=Path("/code")))) for each in slow]
    await wait_until(lambda: len(stage.parts) == 1, "three initialise")
    quick = stage.environment()
    async with asyncio.timeout(5):
        await quick.start(Provisions(image="image:1", code_dir=Path("/code")))

    assert quick.state is State.IDLE
    for task in starting:
        task.cancel()
    await asyncio.gather(*starting, return_exceptions=True)
    for each in (*slow, quick):
        await each.stop()
