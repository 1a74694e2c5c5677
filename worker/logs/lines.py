"""The platform's own lines in a function's log, in AWS's exact form. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class ReportStatus(StrEnum):
    """How an invocation or initialisation failed, as REPORT and INIT_REPORT say it."""

    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of an invocation at its end."""

    request_id: str
    #: For a time-out: exactly the time-out.
    duration_ms: float
    memory_size_mb: int
    max_memory_used_mb: int
    #: Only when the environment was initialised for this invocation, and not within it.
    init_duration_ms: float | None = None
    status: ReportStatus | None = None
    #: Only with `ReportStatus.ERROR`.
    error_type: str = ""

    @property
    def billed_duration_ms(self) -> int:
        """Whole milliseconds, initialisation included; after a time-out no more than that."""
        init_ms = 0.0 if self.status is ReportStatus.TIMEOUT else self.init_duration_ms or 0.0
        # Rounded first, so that what is billed follows from what the line shows.
        return math.ceil(round(self.duration_ms + init_ms, 2))


def init_start_line(runtime_version: str, runtime_version_arn: str) -> str:
    """Return the line that begins an environment's log; `runtime_version` is like `python:3.13.v1`."""
    return f"INIT_START Runtime Version: {runtime_version}\tRuntime Version ARN: {runtime_version_arn}\n"


def start_line(request_id: str, version: str) -> str:
    """Return the line that begins an invocation."""
    return f"START RequestId: {request_id} Version: {version}\n"


def time_out_line(request_id: str, at: datetime, timeout_s: float) -> str:
    """Return the line that says why an invocation ended at its time-out; `at` is in UTC."""
    stamp = at.isoformat(timespec="milliseconds").removesuffix("+00:00")
    return f"{stamp}Z {request_id} Task timed out after {timeout_s:.2f} seconds\n"


def exit_lines(request_id: str, reason: str, error_type: str) -> str:
    """Return the lines that say how a runtime ended in the middle of an invocation."""
    return f"RequestId: {request_id} Error: {reason}\n{error_type}\n"


def image_line(reason: str, entry_point: Sequence[str], command: Sequence[str], working_directory: str) -> str:
    """Return the line that says why a container image could not be launched, and what was to be."""
    return (
        f"IMAGE\tLaunch error: {reason}\tEntrypoint: [{' '.join(entry_point)}]\tCmd: [{' '.join(command)}]\t"
        f"WorkingDir: [{working_directory}]\n"
    )


def end_line(request_id: str) -> str:
    """Return the line that ends an invocation."""
    return f"END RequestId: {request_id}\n"


def report_line(report: Report) -> str:
    """Return the line that follows END; it ends in a tab unless the invocation failed."""
    line = (
        f"REPORT RequestId: {report.request_id}\t"
        f"Duration: {report.duration_ms:.2f} ms\t"
        f"Billed Duration: {report.billed_duration_ms} ms\t"
        f"Memory Size: {report.memory_size_mb} MB\t"
        f"Max Memory Used: {report.max_memory_used_mb} MB\t"
    )
    if report.init_duration_ms is not None:
        line += f"Init Duration: {report.init_duration_ms:.2f} ms\t"
    return line + _status(report.status, report.error_type) + "\n"


def init_report_line(init_duration_ms: float, status: ReportStatus, error_type: str = "", phase: str = "init") -> str:
    """Return the line for an initialisation that failed; `phase` is `invoke` when it was repeated in an invocation."""
    return f"INIT_REPORT Init Duration: {init_duration_ms:.2f} ms\tPhase: {phase}\t{_status(status, error_type)}\n"


def log_stream_name(day: date, version: str, unique: str) -> str:
    """Return the name of one environment's stream: day of its start in UTC, version, 32 hex digits."""
    return f"{day:%Y/%m/%d}/[{version}]{unique}"


def _status(status: ReportStatus | None, error_type: str) -> str:
    if status is None:
        return ""
    if status is ReportStatus.ERROR and error_type:
        return f"Status: {status}\tError Type: {error_type}"
    return f"Status: {status}"
