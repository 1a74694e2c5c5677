"""Functions that are container images: how they are started, what they are given, how they fail, what they log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.calls import call, log_messages
from tests.conformance.image_functions import create, pushed_lookalike, pushed_static
from tests.platform_under_test import Platform

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

APP = """
import json, os, sys, time
import helper
COUNT = 0
def handler(event, context):
    global COUNT
    COUNT += 1
    return {"event": event, "count": COUNT, "env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(),
            "name": context.function_name, "id": context.aws_request_id}
def where(event, context):
    return os.getcwd()
def misbehave(event, context):
    if event == "raise":
        raise ValueError("as told")
    if event == "exit":
        os._exit(3)
    if event == "sleep":
        open("/tmp/kept", "w").write("kept")
        time.sleep(60)
    if event == "memory":
        held = bytearray(b"x") * (600 << 20)
    return open("/tmp/kept").read() if os.path.exists("/tmp/kept") else None
def chatter(event, context):
    for number in range(200):
        print(f"{event} out {number}")
        print(f"{event} err {number}", file=sys.stderr)
    print(f"{event} last")
    return event
"""
FILES = {"app.py": APP, "helper.py": "", "sub/note": "note"}


@pytest.fixture(scope="module")
def uri(platform: Platform) -> Iterator[str]:
    with pushed_lookalike(platform, FILES) as made:
        yield made


@pytest.fixture(scope="module")
def told(platform: Platform, uri: str) -> str:
    return create(platform, uri, Environment={"Variables": {"MINE": "1", "LANG": "C.UTF-8"}})


def test_an_image_like_aws_s_own_runs_unmodified(platform: Platform, uri: str) -> None:
    told = create(platform, uri)
    first, second = call(platform, told, {"ä": 1}), call(platform, told)

    assert first.error is None, first.raw
    seen = first.payload
    assert (seen["event"], seen["count"], seen["cwd"], seen["uid"]) == ({"ä": 1}, 1, "/var/task", 993)
    assert (seen["name"], seen["id"]) == (told, first.request_id)
    assert second.payload["count"] == 2
    assert "Init Duration" in first.report
    assert "Init Duration" not in second.report


def test_the_environment_is_the_image_s_then_the_function_s_then_lambda_s(platform: Platform, told: str) -> None:
    env = call(platform, told).payload["env"]

    assert (env["FROM_IMAGE"], env["MINE"], env["LANG"]) == ("yes", "1", "C.UTF-8")
    assert env["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert (env["_HANDLER"], env["LAMBDA_TASK_ROOT"]) == ("app.handler", "/var/task")
    assert (env["AWS_LAMBDA_FUNCTION_NAME"], env["AWS_LAMBDA_FUNCTION_VERSION"]) == (told, "$LATEST")
    assert env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert env["AWS_EXECUTION_ENV"] == "AWS_Lambda_python_lookalike", "of images, that is the image's own affair"
    assert "HOSTNAME" not in env


def test_the_image_config_replaces_each_part_by_itself(platform: Platform, uri: str) -> None:
    config = {"Command": ["app.where"], "WorkingDirectory": "/var/task/sub"}
    name = create(platform, uri, ImageConfig=config, Environment={"Variables": {"PYTHONPATH": "/var/task"}})
    assert call(platform, name).payload == "/var/task/sub"

    direct = ["/bin/sh", "-c", 'exec /lambda-entrypoint.sh "$1"', "sh"]
    name = create(platform, uri, ImageConfig={"EntryPoint": direct})
    assert call(platform, name, "x").payload["event"] == "x"


@pytest.mark.parametrize(
    ("config", "error_type", "reason"),
    [
        ({"EntryPoint": ["/nope"]}, "Runtime.InvalidEntrypoint", "fork/exec /nope: no such file or directory"),
        (
            {"EntryPoint": ["/etc/passwd"]},
            "Runtime.InvalidEntrypoint",
            "fork/exec /etc/passwd: permission denied",
        ),
        ({"WorkingDirectory": "/nope"}, "Runtime.InvalidWorkingDir", "the working directory doesn't exist: /nope"),
    ],
)
def test_an_image_that_can_t_be_launched_says_why_each_time(
    platform: Platform, uri: str, config: dict[str, object], error_type: str, reason: str
) -> None:
    name = create(platform, uri, ImageConfig=config)

    for _ in range(2):
        outcome = call(platform, name)
        assert outcome.error == "Unhandled"
        assert outcome.payload == {
            "errorType": error_type,
            "errorMessage": f"RequestId: {outcome.request_id} Error: {reason}",
        }
        assert f"IMAGE\tLaunch error: {reason}\tEntrypoint: [" in outcome.tail
        assert outcome.report["Error Type"] == error_type


def test_volumes_of_an_image_keep_its_contents_and_can_t_be_written(platform: Platform, uri: str) -> None:
    script = "touch /declared/new /open/new /tmp/new; ls /declared /open /tmp/new; exit 9"
    name = create(platform, uri, ImageConfig={"EntryPoint": ["/bin/sh", "-c", script], "Command": ["x"]})

    outcome = call(platform, name)

    lines = outcome.tail.splitlines()
    assert "kept" in lines
    assert "/tmp/new" in lines
    assert "new" not in lines
    assert sum("Read-only file system" in line for line in lines) == 2


def test_failures_are_those_of_any_function(platform: Platform, uri: str) -> None:
    name = create(platform, uri, ImageConfig={"Command": ["app.misbehave"]}, Timeout=2)

    raised = call(platform, name, "raise")
    assert (raised.error, raised.payload["errorType"]) == ("Unhandled", "ValueError")
    left = call(platform, name, "exit")
    assert left.payload["errorType"] == "Runtime.ExitError"
    assert left.payload["errorMessage"].endswith("Runtime exited with error: exit status 3")
    slept = call(platform, name, "sleep")
    assert slept.payload["errorType"] == "Sandbox.Timedout"
    assert slept.report["Status"] == "timeout"
    after = call(platform, name)
    assert after.payload == "kept", "/tmp outlives the restart of its environment"
    assert "Init Duration" not in after.report


def test_memory_is_the_function_s_own(platform: Platform, uri: str) -> None:
    name = create(platform, uri, ImageConfig={"Command": ["app.misbehave"]}, MemorySize=256)

    outcome = call(platform, name, "memory")

    assert outcome.payload["errorType"] == "Runtime.OutOfMemory"
    assert outcome.report["Max Memory Used"] == "256 MB"
    assert int(call(platform, name).report["Max Memory Used"].split()[0]) in range(5, 200)


def test_what_is_printed_last_is_in_the_tail_of_its_own_invocation(platform: Platform, uri: str) -> None:
    """The engine hands output on in its own time: the answer must not overtake it."""
    name = create(platform, uri, ImageConfig={"Command": ["app.chatter"]})
    marks = [f"m{number}" for number in range(48)]

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda mark: call(platform, name, mark), marks))

    for mark, outcome in zip(marks, outcomes, strict=True):
        lines = outcome.tail.splitlines()
        assert f"{mark} last" in lines, outcome.tail
        assert f"{mark} err 199" in lines
        assert lines[-2].startswith("END RequestId")
        # The first one may be cut: a tail is 4 KB.
        assert not [line for line in lines[1:] if " out " in line and not line.startswith(f"{mark} ")]
    kept = log_messages(platform, name)
    for mark in marks:
        for stream in ("out", "err"):
            printed = [line for line in kept if line.startswith(f"{mark} {stream} ")]
            assert printed == [f"{mark} {stream} {number}" for number in range(200)]


def test_an_image_of_one_static_program_runs(platform: Platform) -> None:
    with pushed_static(platform) as uri:
        name = create(platform, uri)

    for number in range(3):
        outcome = call(platform, name, {"n": number})
        assert outcome.payload == {"n": number}
        assert f'static has {{"n": {number}}} as 993' in outcome.tail.splitlines()


def test_cold_starts_of_images_and_archives(platform: Platform, uri: str, echo: str) -> None:
    """Prints how long each takes: an image's makes one container more."""
    took_ms: dict[str, float] = {}
    names = {"image": create(platform, uri, ImageConfig={"Command": ["app.where"]}), "archive": echo}
    for kind, name in names.items():
        # Another version of the configuration has no environment yet.
        for number in range(3):
            platform.client().update_function_configuration(FunctionName=name, Description=f"cold {number}")
            platform.client().get_waiter("function_updated_v2").wait(FunctionName=name)
            began = time.perf_counter()
            outcome = call(platform, name)
            took_ms[kind] = min(took_ms.get(kind, 1e9), (time.perf_counter() - began) * 1000)
            assert "Init Duration" in outcome.report
    print(f"cold start: image {took_ms['image']:.0f} ms, archive {took_ms['archive']:.0f} ms")
    assert took_ms["image"] < 10_000
