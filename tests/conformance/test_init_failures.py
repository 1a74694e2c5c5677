"""What a function can do wrong before its handler is called."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conformance.calls import Outcome, call, deploy, log_messages, update_code
from tests.platform_under_test import Platform

GOOD = "def handler(event, context):\n    return 'fine'\n"


def assert_init_report(platform: Platform, name: str, status: str, phase: str = "init") -> None:
    reports = [line for line in log_messages(platform, name) if line.startswith("INIT_REPORT ")]
    assert reports, "no INIT_REPORT in the log"
    assert f"\tPhase: {phase}\t{status}" in reports[0]


def assert_failed(outcome: Outcome, kind: str) -> None:
    assert outcome.error == "Unhandled"
    assert outcome.payload["errorType"] == kind
    assert (outcome.report["Status"], outcome.report["Error Type"]) == ("error", kind)
    assert "Init Duration" not in outcome.report


@pytest.mark.parametrize(
    ("code", "handler", "kind", "message"),
    [
        ("def handler(:\n", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "),
        (
            GOOD,
            "other.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'other': No module named 'other'",
        ),
        ("import nothing_like_it\n", "app.handler", "Runtime.ImportModuleError", "No module named 'nothing_like_it'"),
        (GOOD, "app.nope", "Runtime.HandlerNotFound", "Handler 'nope' missing on module 'app'"),
        (GOOD, "handler", "Runtime.MalformedHandlerName", "Bad handler 'handler': "),
        ("raise ValueError('in the module')\n", "app.handler", "ValueError", "in the module"),
    ],
    ids=["syntax", "module", "import", "handler", "name", "exception"],
)
def test_what_the_runtime_reports_of_a_bad_function_is_the_answer(
    platform: Platform, code: str, handler: str, kind: str, message: str
) -> None:
    name = deploy(platform, code, Handler=handler)

    outcome = call(platform, name)

    assert_failed(outcome, kind)
    assert message in outcome.payload["errorMessage"]
    assert outcome.payload["requestId"] == ""
    # The traceback is what the caller needs to see.
    assert f"[ERROR] {kind}" in outcome.tail
    assert_init_report(platform, name, f"Status: error\tError Type: {kind}")


@pytest.mark.parametrize(
    ("code", "text"),
    [("import os\nos._exit(3)\n", "exit status 3"), ("import sys\nsys.exit(4)\n", "exit status 4")],
    ids=["os._exit", "sys.exit"],
)
def test_a_runtime_that_ends_before_its_first_event_fails_each_invocation(
    platform: Platform, code: str, text: str
) -> None:
    name = deploy(platform, f"print('importing', flush=True)\n{code}")

    for _ in range(2):
        outcome = call(platform, name)

        assert_failed(outcome, "Runtime.ExitError")
        message = f"RequestId: {outcome.request_id} Error: Runtime exited with error: {text}"
        assert outcome.payload["errorMessage"] == message
        assert "importing\n" in outcome.tail
    assert_init_report(platform, name, "Status: error\tError Type: Runtime.ExitError")


def test_an_init_that_eats_its_memory_is_an_out_of_memory_failure(platform: Platform) -> None:
    name = deploy(platform, "x = b'x' * (400 << 20)\n" + GOOD, MemorySize=128)

    outcome = call(platform, name)

    assert_failed(outcome, "Runtime.OutOfMemory")
    assert outcome.report["Max Memory Used"] == "128 MB"


def test_a_function_that_is_repaired_works(platform: Platform) -> None:
    name = deploy(platform, "import nothing_like_it\n")
    call(platform, name)

    update_code(platform, name, GOOD)

    assert call(platform, name).payload == "fine"


#: The first import is slower than the Init phase may be, later ones (which find the file) are as slow as told.
SLOW = """
import os, time
if os.path.exists("/tmp/again"):
    time.sleep({again})
else:
    open("/tmp/again", "w").close()
    time.sleep(60)
def handler(event, context):
    return context.get_remaining_time_in_millis()
"""


@pytest.mark.timeout(60)
def test_an_init_over_10_seconds_is_begun_again_within_the_invocation(platform: Platform) -> None:
    quick = deploy(platform, SLOW.format(again=0.5), Timeout=3)
    slow = deploy(platform, SLOW.format(again=60), Timeout=1)

    with ThreadPoolExecutor(2) as threads:
        repaired, failed = threads.map(lambda name: call(platform, name), [quick, slow])

    assert repaired.error is None
    assert repaired.payload < 2_600, "its time-out began before the initialisation"
    assert "Init Duration" not in repaired.report
    assert float(repaired.report["Duration"].removesuffix(" ms")) > 500
    assert_init_report(platform, quick, "Status: timeout")
    assert (
        failed.raw
        == json.dumps(
            {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"RequestId: {failed.request_id} Error: Task timed out after 1.00 seconds",
            },
            separators=(",", ":"),
        ).encode()
    )
    assert failed.report["Duration"] == "1000.00 ms"
    reports = [line for line in log_messages(platform, slow) if line.startswith("INIT_REPORT ")]
    assert [_phase(report) for report in reports] == [("init", "timeout"), ("invoke", "timeout")]


def _phase(report: str) -> tuple[Any, Any]:
    fields = dict(field.split(": ", 1) for field in report.removeprefix("INIT_REPORT ").split("\t") if field)
    return fields["Phase"], fields["Status"]
