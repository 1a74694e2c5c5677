"""What an environment makes of a runtime's behaviour, on a sandbox in memory whose runtime the test plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from contract.launch import LaunchSpec
from runtimes.catalog import load_catalog
from tests.fakes.memory_driver import MemoryDriver, MemorySandbox
from tests.unit.worker.runtime_api.client import NEXT, Runtime, post
from tests.waiting import wait_until
from worker.environments.environment import Environment, EnvironmentParts, Invocation, InvocationResult
from worker.environments.provisions import Provisions
from worker.environments.state import State
from worker.logs.store import LogStore

LAUNCH = LaunchSpec(
    version_key="uid:$LATEST:1",
    function_uid="uid",
    generation=1,
    account="000000000000",
    region="us-east-1",
    function_name="f",
    version="$LATEST",
    runtime="python3.13",
    handler="app.handler",
    code_sha256="0" * 64,
    architecture="x86_64",
    memory_mb=128,
    timeout_s=3,
    ephemeral_storage_mb=512,
    log_group="/aws/lambda/f",
)


class Stage:
    """An environment, and the runtime inside it."""

    def __init__(self, environment: Environment, driver: MemoryDriver) -> None:
        self.environment = environment
        self.driver = driver
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def inside(self) -> MemorySandbox:
        return self.driver.live[self.environment.id]

    async def released(self, start_count: int = 1) -> None:
        """Wait until the gate of that start (1 is the first) is open."""

        def is_released() -> bool:
            inside = self.driver.live.get(self.environment.id)
            return inside is not None and inside.start_count >= start_count and inside.process is not None

        await wait_until(is_released, "the gate is open")

    async def runtime(self, start_count: int = 1) -> Runtime:
        """Connect as the runtime of that start, once its gate is open."""
        await self.released(start_count)
        port = self.inside.sandbox.runtime_api_listener.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.append(writer)
        return Runtime(reader, writer)

    async def hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
            await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])

    def invoke(self, request_id: str = "r1") -> asyncio.Task[InvocationResult]:
        return asyncio.create_task(
            self.environment.invoke(Invocation(request_id=request_id, invoked_function_arn="arn", payload=b"{}"))
        )

    def exit(self, code: int, *, oom_killed: bool = False) -> None:
        self.driver.exit(self.inside.sandbox, code, oom_killed=oom_killed)

    def log(self, text: str) -> None:
        with (self.inside.sandbox.run_dir / "log").open("wb", buffering=0) as log:
            log.write(text.encode())


@asynccontextmanager
async def stage(tmp_path: Path, launch: LaunchSpec = LAUNCH) -> AsyncIterator[Stage]:
    driver = MemoryDriver(tmp_path / "run")
    store = LogStore(tmp_path / "logs", 1 << 20)
    await store.start()
    environment = Environment(
        EnvironmentParts(driver=driver, log_store=store, starts=asyncio.Semaphore(1)),
        launch,
        load_catalog()[launch.runtime],
        "reservation",
    )
    staged = Stage(environment, driver)
    try:
        yield staged
    finally:
        await staged.hang_up()
        await environment.stop()
        await store.close()


async def ready(stage: Stage) -> Runtime:
    """Start the environment with a runtime that asks for its first event."""
    starting = asyncio.create_task(stage.environment.start(Provisions(image="image:tag", code_dir=Path("/code"))))
    runtime = await stage.runtime()
    await runtime.send(NEXT)
    await starting
    return runtime


async def test_an_answer_leaves_the_environment_idle_and_its_init_is_told_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        runtime = await ready(it)
        results = []
        for request_id in ("r1", "r2"):
            running = it.invoke(request_id)
            assert (await runtime.answer()).headers["lambda-runtime-aws-request-id"] == request_id
            it.log(f"line of {request_id}\n")
            await runtime.ask(post(f"invocation/{request_id}/response", b'"fine"'))
            results.append(await running)
            await runtime.send(NEXT)

        assert [(result.payload, result.error_type) for result in results] == [(b'"fine"', None)] * 2
        assert [b"Init Duration" in result.tail for result in results] == [True, False]
        assert all(f"line of r{n}\nEND RequestId: r{n}" in results[n - 1].tail.decode() for n in (1, 2))
        assert it.environment.state is State.IDLE
        assert it.inside.is_cpu_limited


async def test_a_runtime_that_ends_after_its_answer_does_not_fail_the_next_invocation(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        runtime = await ready(it)
        first = it.invoke("r1")
        await runtime.answer()
        await runtime.ask(post("invocation/r1/response"))
        await first

        second = it.invoke("r2")
        await wait_until(lambda: it.environment.state is State.INVOKING, "the second invocation has begun")
        it.exit(1)
        runtime = await it.runtime(start_count=2)
        assert (await runtime.ask(NEXT)).headers["lambda-runtime-aws-request-id"] == "r2"
        await runtime.ask(post("invocation/r2/response", b"2"))
        result = await second

        assert (result.payload, result.error_type) == (b"2", None)
        assert b"START RequestId: r2" in result.tail
        assert b"Init Duration" not in result.tail


async def test_a_runtime_that_ends_with_the_event_fails_the_invocation(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        runtime = await ready(it)
        running = it.invoke("r1")
        await runtime.answer()
        it.exit(101)

        result = await running

        assert json.loads(result.payload) == {
            "errorType": "Runtime.ExitError",
            "errorMessage": "RequestId: r1 Error: Runtime exited with error: exit status 101",
        }
        assert await it.environment.is_alive()
        assert it.environment.state is State.GATED


@pytest.mark.parametrize(
    ("code", "oom_killed", "kind", "text"),
    [
        (3, False, "Runtime.ExitError", "Runtime exited with error: exit status 3"),
        (137, True, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"),
    ],
)
async def test_an_end_before_the_first_event_is_told_with_the_id_of_the_invocation(
    tmp_path: Path, code: int, oom_killed: bool, kind: str, text: str
) -> None:
    async with stage(tmp_path) as it:
        starting = asyncio.create_task(it.environment.start(Provisions(image="image:tag", code_dir=Path("/code"))))
        await it.released()
        it.log("Traceback\n")
        it.exit(code, oom_killed=oom_killed)
        await starting

        result = await it.invoke("r1")

        assert json.loads(result.payload) == {"errorType": kind, "errorMessage": f"RequestId: r1 Error: {text}"}
        lines = result.tail.decode().splitlines()
        assert lines[1] == "Traceback"
        assert lines[2].endswith(f"Phase: init\tStatus: error\tError Type: {kind}")
        assert lines[3] == "START RequestId: r1 Version: $LATEST"
        used_mb = LAUNCH.memory_mb if oom_killed else it.driver.peak_mb
        assert f"\tMax Memory Used: {used_mb} MB\t" in lines[-1]
        assert await it.environment.is_alive()
        assert it.inside.start_count == 2


async def test_a_reported_init_error_is_the_first_answer_and_the_next_invocation_initialises_again(
    tmp_path: Path,
) -> None:
    async with stage(tmp_path) as it:
        starting = asyncio.create_task(it.environment.start(Provisions(image="image:tag", code_dir=Path("/code"))))
        runtime = await it.runtime()
        await runtime.ask(post("init/error", b'{"errorType": "Own"}', Lambda_Runtime_Function_Error_Type="Own"))
        await starting
        assert it.inside.sandbox.exited.done(), "the runtime that failed still runs"
        first = await it.invoke("r1")
        assert (first.payload, first.error_type) == (b'{"errorType": "Own"}', "Own")

        second = it.invoke("r2")
        runtime = await it.runtime(start_count=2)
        await runtime.ask(NEXT)
        await runtime.ask(post("invocation/r2/response", b"2"))

        assert (await second).payload == b"2"


async def test_an_init_that_ends_within_an_invocation_is_reported_as_its_phase(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        runtime = await ready(it)
        first = it.invoke("r1")
        await runtime.answer()
        it.exit(1)
        await first
        second = it.invoke("r2")
        await it.released(start_count=2)
        it.exit(5)

        result = await second

        assert b"exit status 5" in result.payload
        assert (
            b"\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError\nRequestId: r2 Error: Runtime"
            in result.tail
        )


async def test_a_time_out_is_reported_as_exactly_that_and_nothing_runs_on(tmp_path: Path) -> None:
    async with stage(tmp_path, replace(LAUNCH, timeout_s=0)) as it:
        runtime = await ready(it)
        before = it.inside.sandbox
        running = it.invoke("r1")
        await runtime.answer()

        result = await running

        assert before.exited.done()
        assert json.loads(result.payload) == {
            "errorType": "Sandbox.Timedout",
            "errorMessage": "RequestId: r1 Error: Task timed out after 0.00 seconds",
        }
        assert b"\tDuration: 0.00 ms\tBilled Duration: 0 ms\t" in result.tail
        assert result.tail.endswith(b"\tStatus: timeout\n")
