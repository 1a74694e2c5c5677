from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from worker.logs import lines
from worker.logs.lines import Report, ReportStatus


def report(**changes: object) -> Report:
    facts: dict[str, object] = {
        "request_id": "r",
        "duration_ms": 3.01,
        "memory_size_mb": 128,
        "max_memory_used_mb": 36,
    }
    return Report(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {},
            "REPORT RequestId: r\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 36 MB\t\n",
        ),
        (
            {"init_duration_ms": 110.1},
            "REPORT RequestId: r\tDuration: 3.01 ms\tBilled Duration: 114 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 36 MB\tInit Duration: 110.10 ms\t\n",
        ),
        (
            {"duration_ms": 3000, "max_memory_used_mb": 1201, "status": ReportStatus.TIMEOUT},
            "REPORT RequestId: r\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 1201 MB\tStatus: timeout\n",
        ),
        (
            {"init_duration_ms": 5.0, "status": ReportStatus.ERROR, "error_type": "Runtime.ExitError"},
            "REPORT RequestId: r\tDuration: 3.01 ms\tBilled Duration: 9 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 36 MB\tInit Duration: 5.00 ms\tStatus: error\tError Type: Runtime.ExitError\n",
        ),
    ],
)
def test_report_has_the_recorded_form(facts: dict[str, object], expected: str) -> None:
    assert lines.report_line(report(**facts)) == expected


@pytest.mark.parametrize(("duration_ms", "billed_ms"), [(0.0, 0), (0.001, 0), (0.01, 1), (4.0, 4), (4.0001, 4)])
def test_billed_duration_follows_from_what_is_shown(duration_ms: float, billed_ms: int) -> None:
    assert report(duration_ms=duration_ms).billed_duration_ms == billed_ms


def test_the_other_lines_have_the_recorded_form() -> None:
    assert lines.init_start_line("python:3.13.v1", "arn:x") == (
        "INIT_START Runtime Version: python:3.13.v1\tRuntime Version ARN: arn:x\n"
    )
    assert lines.start_line("r", "$LATEST") == "START RequestId: r Version: $LATEST\n"
    assert lines.end_line("r") == "END RequestId: r\n"
    assert lines.init_report_line(12.3, ReportStatus.ERROR, "Runtime.Unknown") == (
        "INIT_REPORT Init Duration: 12.30 ms\tPhase: init\tStatus: error\tError Type: Runtime.Unknown\n"
    )
    assert lines.init_report_line(10000, ReportStatus.TIMEOUT) == (
        "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\n"
    )
    assert lines.log_stream_name(date(2026, 1, 2), "$LATEST", "ab" * 16) == "2026/01/02/[$LATEST]" + "ab" * 16


def test_a_time_out_is_told_with_its_instant() -> None:
    at = datetime(2026, 11, 21, 3, 4, 5, 6_789, tzinfo=UTC)

    assert lines.time_out_line("r", at, 3) == "2026-11-21T03:04:05.006Z r Task timed out after 3.00 seconds\n"


def test_the_end_of_a_runtime_is_told_with_its_reason_and_type() -> None:
    told = lines.exit_lines("r", "Runtime exited with error: exit status 1", "Runtime.ExitError")

    assert told == "RequestId: r Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n"
