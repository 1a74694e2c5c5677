"""What is different about environments of container images: no gate, no runtime of ours, output through the engine."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest

from tests.fakes.memory_driver import MemoryDriver, MemorySandbox
from tests.fakes.played_runtime import Stage, function_image, launch_spec
from worker.environments.environment import Environment, Invocation, InvocationResult
from worker.environments.provisions import Provisions
from worker.environments.state import State
from worker.sandbox.driver import (
    ExitStatus,
    ProcessSpec,
    Sandbox,
    SandboxStartFailedError,
    WorkingDirectoryError,
)

IMAGE = function_image(
    image_id="sha256:i", entry_point=("/entry",), command=("app.handler",), working_directory="/srv", volumes=("/data",)
)
PROVISIONS = Provisions(image="sha256:i", holder_image="holder:1", function_image=IMAGE)


def environment(stage: Stage, **changes: object) -> Environment:
    launch = launch_spec(runtime="", code_sha256="", image_uri="app@sha256:i", **changes)
    return Environment(stage.environment_parts, launch, None, "reservation")


async def invoke(made: Environment, request_id: str = "r1") -> InvocationResult:
    return await made.invoke(Invocation(request_id=request_id, invoked_function_arn="arn", payload=b"{}"))


async def test_an_image_is_started_with_its_own_process_and_answers(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    made = environment(stage)
    await made.start(PROVISIONS)
    inside = stage.driver.live[made.id]

    result = await invoke(made)

    assert (inside.spec.image, inside.spec.holder_image, inside.spec.gate) == ("sha256:i", "holder:1", False)
    assert (inside.spec.code_dir, inside.spec.layers_dir, inside.spec.volumes) == (None, None, ("/data",))
    assert inside.process is not None
    assert (inside.process.argv, inside.process.cwd) == (("/entry", "app.handler"), "/srv")
    assert result.payload == stage.answer
    assert not [line for line in stage.logs.lines if line.startswith("INIT_START")]
    await made.stop()
    await stage.close()


async def test_output_that_comes_late_is_in_the_log_before_the_invocation_s_last_lines(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    late = iter(["printed at the start", "printed by r1", "printed by r2"])

    def come(flushed: MemorySandbox) -> None:
        with (flushed.sandbox.run_dir / "log").open("wb", buffering=0) as log:
            log.write(f"{next(late)}\n".encode())

    stage.driver.on_flush = come
    made = environment(stage)
    await made.start(PROVISIONS)

    results = [await invoke(made, "r1"), await invoke(made, "r2")]

    kinds = [line.split(" RequestId")[0] for line in stage.logs.lines]
    assert kinds == [
        "printed at the start",
        *("START", "printed by r1", "END", "REPORT"),
        *("START", "printed by r2", "END", "REPORT"),
    ]
    assert [b"printed by r1" in result.tail for result in results] == [True, False]
    await made.stop()
    await stage.close()


@pytest.mark.parametrize("when", ["working directory", "entry point"])
async def test_what_can_t_be_launched_is_the_function_s_failure(tmp_path: Path, when: str) -> None:
    stage = Stage(tmp_path)

    def refuse(released: MemorySandbox) -> None:
        if when == "working directory":
            raise WorkingDirectoryError("the working directory doesn't exist: /srv")
        released.sandbox.exited.set_result(
            ExitStatus(code=127, not_executed="fork/exec /entry: no such file or directory")
        )

    stage.driver.on_release = refuse
    made = environment(stage)
    await made.start(PROVISIONS)

    results = [await invoke(made, "r1"), await invoke(made, "r2")]

    error_type, reason = {
        "working directory": ("Runtime.InvalidWorkingDir", "the working directory doesn't exist: /srv"),
        "entry point": ("Runtime.InvalidEntrypoint", "fork/exec /entry: no such file or directory"),
    }[when]
    for request_id, result in zip(("r1", "r2"), results, strict=True):
        assert result.error_type == error_type
        assert orjson.loads(result.payload) == {
            "errorType": error_type,
            "errorMessage": f"RequestId: {request_id} Error: {reason}",
        }
        tail = result.tail.decode()
        assert f"RequestId: {request_id} Error: {reason}\n{error_type}\n" in tail
        assert f"IMAGE\tLaunch error: {reason}\tEntrypoint: [/entry]\tCmd: [app.handler]\tWorkingDir: [/srv]\n" in tail
    await made.stop()
    await stage.close()


@dataclass(slots=True)
class SlowToRelease(MemoryDriver):
    """Takes as long to release as an engine takes to start a container."""

    async def release(self, sandbox: Sandbox, process: ProcessSpec) -> None:
        await asyncio.sleep(0.6)
        await MemoryDriver.release(self, sandbox, process)


async def test_what_a_container_takes_to_be_made_is_no_time_of_the_function_s(tmp_path: Path) -> None:
    stage = Stage(tmp_path, parts=deque(["exit", "answer"]))
    stage.driver = SlowToRelease(tmp_path / "slow", on_release=stage.driver.on_release)
    stage.environment_parts = replace(stage.environment_parts, driver=stage.driver)
    made = environment(stage, timeout_s=0.5)
    await made.start(PROVISIONS)

    first = await invoke(made, "r1")
    second = await invoke(made, "r2")

    assert first.error_type == "Runtime.ExitError"
    assert second.payload == stage.answer, "its initialisation began with its process"
    report = next(line for line in stage.logs.lines if line.startswith("REPORT RequestId: r2"))
    assert float(report.split("Duration: ")[1].split()[0]) < 500
    init = next(line for line in stage.logs.lines if line.startswith("REPORT RequestId: r1"))
    assert float(init.split("Init Duration: ")[1].split()[0]) < 500
    await made.stop()
    await stage.close()


async def test_an_image_whose_container_can_t_be_started_is_no_failure_of_the_function(tmp_path: Path) -> None:
    stage = Stage(tmp_path, parts=deque(["answer"]))

    def refuse(_: MemorySandbox) -> None:
        raise SandboxStartFailedError("engine away")

    stage.driver.on_release = refuse
    made = environment(stage)

    with pytest.raises(SandboxStartFailedError, match="engine away"):
        await made.start(PROVISIONS)

    assert made.state is State.DEAD
    await made.stop()
    assert not stage.driver.live
    await stage.close()
