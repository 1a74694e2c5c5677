"""What a function can do wrong in a handler: what the caller gets, what is logged, what becomes of the environment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.calls import Outcome, call, deploy
from tests.platform_under_test import Platform

#: Counts calls in a global and in a file of `/tmp`: the one dies with the process, the other with the environment.
FAILING = """
import ctypes, os, sys, threading, time
COUNT = 0

class Sorry(Exception):
    pass

def handler(event, context):
    global COUNT
    COUNT += 1
    with open("/tmp/calls", "a") as calls:
        calls.write("x")
    do = event.get("do", "")
    if do == "raise":
        raise Sorry("not today")
    if do == "unserialisable":
        return {1, 2}
    if do == "sys.exit":
        sys.exit(event["code"])
    if do == "os._exit":
        print("going")
        os._exit(event["code"])
    if do == "segfault":
        ctypes.string_at(0)
    if do == "eat":
        return len(b"x" * (300 << 20))
    if do == "sleep":
        print("falling asleep")
        time.sleep(event["seconds"])
    if do == "exit later":
        threading.Timer(0.05, os._exit, [9]).start()
    return {"count": COUNT, "calls": os.path.getsize("/tmp/calls"), "stream": context.log_stream_name}
"""


@pytest.fixture(scope="module")
def failing(platform: Platform) -> str:
    return deploy(platform, FAILING, Timeout=1, MemorySize=512)


def _body(kind: str, message: str) -> bytes:
    """Return an error's body, byte for byte as the platform words it."""
    return json.dumps({"errorType": kind, "errorMessage": message}, separators=(",", ":")).encode()


def assert_restarted(platform: Platform, name: str, before: Outcome) -> None:
    """The next invocation runs in the same environment, with its `/tmp`, in a new process that it started itself."""
    after = call(platform, name, {})
    assert after.error is None
    assert after.payload["stream"] == before.payload["stream"]
    assert after.payload["count"] == 1
    assert after.payload["calls"] == before.payload["calls"] + 2
    assert "Init Duration" not in after.report
    assert "Status" not in after.report


def test_an_exception_is_described_and_the_environment_kept(platform: Platform, failing: str) -> None:
    before = call(platform, failing, {})

    outcome = call(platform, failing, {"do": "raise"})

    assert outcome.error == "Unhandled"
    body = outcome.payload
    assert (body["errorMessage"], body["errorType"], body["requestId"]) == ("not today", "Sorry", outcome.request_id)
    assert len(body["stackTrace"]) == 1
    assert 'File "/var/task/app.py", line 15, in handler' in body["stackTrace"][0]
    assert "[ERROR] Sorry: not today" in outcome.tail
    assert f"END RequestId: {outcome.request_id}\n" in outcome.tail
    # REPORT knows the platform's own types; the function's are the caller's business.
    assert (outcome.report["Status"], outcome.report["Error Type"]) == ("error", "Function.Unknown")
    after = call(platform, failing, {})
    assert after.payload["count"] == before.payload["count"] + 2
    assert after.payload["stream"] == before.payload["stream"]


def test_an_answer_that_is_not_json_is_a_marshal_error(platform: Platform, failing: str) -> None:
    outcome = call(platform, failing, {"do": "unserialisable"})

    assert outcome.error == "Unhandled"
    assert outcome.payload["errorType"] == "Runtime.MarshalError"
    assert "Unable to marshal response" in outcome.payload["errorMessage"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"do": "os._exit", "code": 0}, "Runtime exited without providing a reason"),
        ({"do": "os._exit", "code": 101}, "Runtime exited with error: exit status 101"),
        ({"do": "sys.exit", "code": 7}, "Runtime exited with error: exit status 7"),
        ({"do": "sys.exit", "code": 0}, "Runtime exited without providing a reason"),
        ({"do": "segfault"}, "Runtime exited with error: signal: segmentation fault"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_runtime_that_ends_fails_its_invocation_and_is_started_again(
    platform: Platform, failing: str, event: dict[str, Any], text: str
) -> None:
    before = call(platform, failing, {})

    outcome = call(platform, failing, event)

    assert outcome.error == "Unhandled"
    assert outcome.raw == _body("Runtime.ExitError", f"RequestId: {outcome.request_id} Error: {text}")
    assert (outcome.report["Status"], outcome.report["Error Type"]) == ("error", "Runtime.ExitError")
    assert_restarted(platform, failing, before)


def test_a_function_that_needs_too_much_memory_is_killed_and_started_again(platform: Platform) -> None:
    name = deploy(platform, FAILING, Timeout=30, MemorySize=128)
    before = call(platform, name, {})

    outcome = call(platform, name, {"do": "eat"})

    assert outcome.error == "Unhandled"
    message = f"RequestId: {outcome.request_id} Error: Runtime exited with error: signal: killed"
    assert outcome.raw == _body("Runtime.OutOfMemory", message)
    assert (outcome.report["Status"], outcome.report["Error Type"]) == ("error", "Runtime.OutOfMemory")
    assert_restarted(platform, name, before)


def test_what_was_printed_before_an_exit_is_in_the_tail(platform: Platform, failing: str) -> None:
    outcome = call(platform, failing, {"do": "os._exit", "code": 1})

    *lines, report = outcome.tail.splitlines()
    assert lines == [
        f"START RequestId: {outcome.request_id} Version: $LATEST",
        "going",
        f"RequestId: {outcome.request_id} Error: Runtime exited with error: exit status 1",
        "Runtime.ExitError",
        f"END RequestId: {outcome.request_id}",
    ]
    assert report.startswith(f"REPORT RequestId: {outcome.request_id}\tDuration: ")
    assert report.endswith("\tStatus: error\tError Type: Runtime.ExitError")


def test_a_time_out_ends_the_invocation_and_the_environment_is_started_again(platform: Platform, failing: str) -> None:
    before = call(platform, failing, {})

    outcome = call(platform, failing, {"do": "sleep", "seconds": 60})

    assert outcome.error == "Unhandled"
    message = f"RequestId: {outcome.request_id} Error: Task timed out after 1.00 seconds"
    assert outcome.raw == _body("Sandbox.Timedout", message)
    assert "\nfalling asleep\n" in outcome.tail
    assert f"Z {outcome.request_id} Task timed out after 1.00 seconds\nEND RequestId: " in outcome.tail
    assert (outcome.report["Duration"], outcome.report["Billed Duration"]) == ("1000.00 ms", "1000 ms")
    assert outcome.tail.endswith("\tStatus: timeout\n")
    assert_restarted(platform, failing, before)


def test_a_runtime_that_ends_after_its_answer_is_started_again(platform: Platform, failing: str) -> None:
    before = call(platform, failing, {})

    outcome = call(platform, failing, {"do": "exit later"})

    assert outcome.error is None
    after = outcome
    for _ in range(500):
        after = call(platform, failing, {})
        # One that runs at that very moment ends with it.
        assert after.error is None or after.payload["errorType"] == "Runtime.ExitError"
        if after.error is None and after.payload["count"] == 1:
            break
    assert after.payload["count"] == 1
    assert after.payload["stream"] == before.payload["stream"]
    assert "Init Duration" not in after.report
