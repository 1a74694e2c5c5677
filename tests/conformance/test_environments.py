"""What a function finds where it runs, and how long it keeps it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.conformance.calls import FAST, Outcome, call, deploy, refusal, unique, update_code
from tests.platform_under_test import ROLE, RUNTIME, Platform, package


def test_an_environment_is_used_again(platform: Platform, tell: str) -> None:
    first, second = call(platform, tell).payload, call(platform, tell).payload

    assert second["stream"] == first["stream"]
    assert second["count"] == first["count"] + 1


def test_versions_do_not_share_environments(platform: Platform) -> None:
    name = deploy(platform, "def handler(event, context):\n    return context.log_stream_name\n")
    client = platform.client()
    client.publish_version(FunctionName=name)
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1", WaiterConfig=FAST)

    latest, version = call(platform, name).payload, call(platform, name, Qualifier="1").payload

    assert "[$LATEST]" in latest
    assert "[1]" in version


def test_the_environment_holds_the_functions_variables_and_lambdas(platform: Platform, tell: str) -> None:
    told = call(platform, tell).payload
    environment = told["environment"]

    assert environment["GREETING"] == "hällo"
    assert {
        "_HANDLER": "app.handler",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_LAMBDA_FUNCTION_NAME": tell,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{tell}",
        "AWS_LAMBDA_LOG_STREAM_NAME": told["stream"],
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "TZ": ":UTC",
    }.items() <= environment.items()
    assert {"AWS_LAMBDA_RUNTIME_API", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} <= set(
        environment
    )
    assert not [key for key in environment if key.startswith("LAMBDOCK")]


def test_reserved_variables_are_refused(platform: Platform) -> None:
    answer = refusal(
        platform.client().create_function,
        FunctionName=f"f-{unique()[:12]}",
        Role=ROLE,
        Runtime=RUNTIME,
        Handler="app.handler",
        Code={"ZipFile": package("")},
        Environment={"Variables": {"AWS_REGION": "x", "_HANDLER": "y", "FINE": "z"}},
    )

    assert (answer.status, answer.code) == (400, "InvalidParameterValueException")
    assert "contains reserved keys that are currently not supported for modification" in answer.message
    assert answer.message.endswith("Reserved keys used in this request: AWS_REGION, _HANDLER")


def test_a_change_of_variables_reaches_the_next_invocation(platform: Platform) -> None:
    name = deploy(platform, "import os\ndef handler(event, context):\n    return os.environ.get('COLOUR')\n")
    client = platform.client()
    assert call(platform, name).payload is None

    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"COLOUR": "blue"}})
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)

    assert call(platform, name).payload == "blue"


# --- modules and files ------------------------------------------------------------------------------------------


def test_modules_are_searched_in_lambdas_order(platform: Platform, tell: str) -> None:
    path = call(platform, tell).payload["path"]

    assert path[:4] == ["/var/task", "/opt/python/lib/python3.11/site-packages", "/opt/python", "/var/runtime"]
    assert path[4].endswith("/python311.zip")
    assert not [entry for entry in path[4:] if entry.startswith(("/var/task", "/opt", "/var/runtime"))]


def test_boto3_is_there_and_a_package_may_bring_its_own(platform: Platform) -> None:
    code = "import boto3\ndef handler(event, context):\n    return [boto3.__file__, boto3.__version__]\n"
    plain = deploy(platform, code)
    own = deploy(platform, {"app.py": code, "boto3/__init__.py": "__version__ = 'mine'\n"})

    file, version = call(platform, plain).payload
    assert file.startswith("/var/runtime/")
    assert int(version.split(".")[0]) >= 1
    assert call(platform, own).payload == ["/var/task/boto3/__init__.py", "mine"]


def test_the_code_and_the_system_are_read_only_and_tmp_is_not(platform: Platform) -> None:
    code = """
import os
def handler(event, context):
    found = {}
    for path in ("/var/task/x", "/var/task/app.py", "/x", "/var/runtime/x", "/opt/x", "/tmp/x"):
        try:
            with open(path, "w") as file:
                file.write("x")
            found[path] = "written"
        except OSError as error:
            found[path] = error.strerror
    return [found, os.getcwd(), os.getuid()]
"""
    found, directory, user = call(platform, deploy(platform, code)).payload

    assert found.pop("/tmp/x") == "written"
    assert set(found.values()) <= {"Read-only file system", "Permission denied", "No such file or directory"}
    assert found["/var/task/x"] == found["/var/task/app.py"] == "Read-only file system"
    assert directory == "/var/task"
    assert user != 0


# --- sizes ------------------------------------------------------------------------------------------------------

SIZES = """
import os
def handler(event, context):
    if event["do"] == "fill":
        block, written = b"x" * (1 << 20), 0
        try:
            with open("/tmp/big", "wb", buffering=0) as file:
                for _ in range(event["mb"]):
                    written += file.write(block)
        except OSError as error:
            return [written >> 20, error.strerror]
        finally:
            os.unlink("/tmp/big")
        return [written >> 20, None]
    return [len(b"x" * (event["mb"] << 20)) >> 20, None]
"""


@pytest.fixture(scope="module")
def sizes(platform: Platform) -> str:
    return deploy(platform, SIZES, MemorySize=128, Timeout=60)


def test_a_function_of_128_mb_writes_400_mb_to_tmp(platform: Platform, sizes: str) -> None:
    assert call(platform, sizes, {"do": "fill", "mb": 400}).payload == [400, None]


def test_tmp_ends_at_its_size(platform: Platform, sizes: str) -> None:
    written, error = call(platform, sizes, {"do": "fill", "mb": 600}).payload

    assert error == "No space left on device"
    assert 512 <= written < 540


def test_a_heap_ends_at_the_memory_size_with_tmp_empty(platform: Platform, sizes: str) -> None:
    assert call(platform, sizes, {"do": "heap", "mb": 60}).payload == [60, None]

    outcome = call(platform, sizes, {"do": "heap", "mb": 200})

    assert outcome.payload["errorType"] == "Runtime.OutOfMemory"
    assert outcome.report["Max Memory Used"] == "128 MB"


@pytest.mark.parametrize(("memory_mb", "cpus"), [(512, 0.289), (1769, 1.0), (128, 0.072)])
def test_cpu_is_in_proportion_to_memory(platform: Platform, memory_mb: int, cpus: float) -> None:
    name = deploy(platform, "def handler(event, context):\n    return 1\n", MemorySize=memory_mb)
    call(platform, name)

    (container,) = [found for found in platform.containers() if found["Labels"].get("lambdock.function") == name]
    quota, period = _cpu_limit(container["Id"])

    assert quota / period == pytest.approx(cpus, rel=0.02)


def _cpu_limit(container_id: str) -> tuple[int, int]:
    """Return quota and period as the kernel has them now, not as the engine was told."""
    client = docker.from_env()
    try:
        pid = client.api.inspect_container(container_id)["State"]["Pid"]
    finally:
        client.close()
    memberships = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if "" in memberships and Path("/sys/fs/cgroup/cgroup.controllers").exists():
        quota, period = (Path("/sys/fs/cgroup") / memberships[""].lstrip("/") / "cpu.max").read_text().split()
        return int(quota), int(period)
    (path,) = [path for controllers, path in memberships.items() if "cpu" in controllers.split(",")]
    directory = Path("/sys/fs/cgroup/cpu") / path.lstrip("/")
    return int((directory / "cpu.cfs_quota_us").read_text()), int((directory / "cpu.cfs_period_us").read_text())


# --- update and idle time-out -----------------------------------------------------------------------------------


def test_an_update_ends_the_old_code_and_running_invocations_finish_on_it(platform: Platform) -> None:
    code = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return {0}\n"
    name = deploy(platform, code.format(1), Timeout=20)
    stop, failed, stale = threading.Event(), [], []
    successful_at: list[float] = []
    slow: list[Outcome] = []

    def stream() -> None:
        client = platform.client()
        while not stop.is_set():
            began = time.monotonic()
            outcome = call(platform, name, 0, client=client)
            if outcome.error is not None:
                failed.append(outcome)
            elif successful_at and began > successful_at[0] and outcome.payload != 2:
                stale.append(outcome)

    threads = [threading.Thread(target=stream) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: slow.append(call(platform, name, 3))))
    for thread in threads:
        thread.start()
    try:
        platform.wait_until(
            lambda: len([c for c in platform.containers() if c["Labels"].get("lambdock.function") == name]) >= 2,
            "invocations run",
        )
        update_code(platform, name, code.format(2))
        successful_at.append(time.monotonic())
        after = [call(platform, name, 0).payload for _ in range(20)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)

    assert (failed, stale) == ([], [])
    assert after == [2] * 20
    assert [outcome.payload for outcome in slow] == [1]


def test_an_idle_environment_goes_after_its_time_out(tmp_path: Path) -> None:
    platform = Platform(tmp_path, LAMBDOCK_IDLE_TIMEOUT_S="1")
    platform.start()
    try:
        name = deploy(platform, "def handler(event, context):\n    return context.log_stream_name\n")
        first: Any = call(platform, name).payload
        assert len(platform.containers()) == 1

        platform.wait_until(lambda: not platform.containers(), "the idle environment is gone", timeout_s=15)

        second = call(platform, name)
        assert second.payload != first
        assert "Init Duration" in second.report
        assert json.loads(second.raw) != first
    finally:
        platform.stop()
