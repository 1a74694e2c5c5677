"""How an invocation can fail, and what the caller and the log are told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.logs.lines import exit_lines, time_out_line
from worker.runtime_api import fatal_errors
from worker.runtime_api.fatal_errors import FatalErrorType
from worker.sandbox.driver import ExitStatus, WorkingDirectoryError

_KILLED: Final = 137


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure of the function, in an invocation or in its initialisation."""

    error_type: str
    #: What the runtime reported; None where the platform says it, in words that name the invocation.
    body: bytes | None = None
    #: Why there was nothing that could run, when that is the failure.
    reason: str = ""
    #: How the runtime ended, when that is the failure.
    exit: ExitStatus | None = None
    is_timeout: bool = False
    #: The runtime can't take another event.
    is_fatal: bool = True


TIMED_OUT: Final = Failure(error_type=FatalErrorType.SANDBOX_TIMED_OUT, is_timeout=True)


def exited(status: ExitStatus) -> Failure:
    """Return the failure of a runtime that ended."""
    if status.not_executed:
        return Failure(error_type=FatalErrorType.RUNTIME_INVALID_ENTRYPOINT, reason=status.not_executed)
    is_oom = status.oom_killed
    error_type = FatalErrorType.RUNTIME_OUT_OF_MEMORY if is_oom else FatalErrorType.RUNTIME_EXIT
    return Failure(error_type=error_type, exit=status)


def no_working_directory(error: WorkingDirectoryError) -> Failure:
    """Return the failure of a container image whose process would have nowhere to begin."""
    return Failure(error_type=FatalErrorType.RUNTIME_INVALID_WORKING_DIR, reason=str(error))


def body_of(failure: Failure, request_id: str, timeout_s: int) -> bytes:
    """Return what the caller gets."""
    if failure.body is not None:
        return failure.body
    if failure.reason:
        return fatal_errors.launch_error(failure.error_type, request_id, failure.reason)
    if failure.exit is None:
        return fatal_errors.timeout_error(request_id, timeout_s)
    if failure.exit.oom_killed:
        return fatal_errors.out_of_memory_error(request_id)
    return fatal_errors.exit_error(request_id, failure.exit.code)


def log_lines(failure: Failure, request_id: str, timeout_s: int, at: datetime) -> str:
    """Return what the log says before END: why the platform ended the invocation; what a runtime reported, it logged.

    `at` is now, in UTC.
    """
    if failure.is_timeout:
        return time_out_line(request_id, at, timeout_s)
    if failure.reason:
        return exit_lines(request_id, failure.reason, failure.error_type)
    if failure.exit is None:
        return ""
    reason = fatal_errors.exit_reason(_KILLED if failure.exit.oom_killed else failure.exit.code)
    return exit_lines(request_id, reason, failure.error_type)
