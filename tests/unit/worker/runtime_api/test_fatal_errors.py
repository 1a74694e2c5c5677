from __future__ import annotations

import pytest

from worker.runtime_api import fatal_errors


def test_time_out_has_the_recorded_bytes() -> None:
    assert fatal_errors.timeout_error("r-1", 3) == (
        b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r-1 Error: Task timed out after 3.00 seconds"}'
    )


def test_response_too_large_has_the_recorded_bytes() -> None:
    assert fatal_errors.response_too_large_error() == (
        b'{"errorType":"Function.ResponseSizeTooLarge","errorMessage":'
        b'"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}'
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "Runtime exited without providing a reason"),
        (1, "Runtime exited with error: exit status 1"),
        (101, "Runtime exited with error: exit status 101"),
        (128, "Runtime exited with error: exit status 128"),
        (134, "Runtime exited with error: signal: aborted"),
        (137, "Runtime exited with error: signal: killed"),
        (139, "Runtime exited with error: signal: segmentation fault"),
        (143, "Runtime exited with error: signal: terminated"),
        (162, "Runtime exited with error: signal: signal 34"),
        (255, "Runtime exited with error: exit status 255"),
    ],
)
def test_exit_is_told_in_the_platforms_words(code: int, reason: str) -> None:
    assert fatal_errors.exit_reason(code) == reason
    expected = f'{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: {reason}"}}'
    assert fatal_errors.exit_error("r", code) == expected.encode()


def test_out_of_memory_keeps_the_older_text_under_the_newer_type() -> None:
    assert fatal_errors.out_of_memory_error("r") == (
        b'{"errorType":"Runtime.OutOfMemory","errorMessage":'
        b'"RequestId: r Error: Runtime exited with error: signal: killed"}'
    )
