"""The closed list of error types that the platform itself reports, and the exact bodies that callers get for them."""

from __future__ import annotations

from enum import StrEnum

import orjson

#: The largest response: 6 MiB, and 100 bytes for what wraps it.
MAX_RESPONSE_BYTES = 6_291_556

#: Signals as the platform on AWS prints them (names of Go's `syscall` package on Linux).
_SIGNAL_NAMES = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    10: "user defined signal 1",
    11: "segmentation fault",
    12: "user defined signal 2",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
}
_LAST_SIGNAL = 64


class FatalErrorType(StrEnum):
    """AWS's strings; clients compare them."""

    RUNTIME_EXIT = "Runtime.ExitError"
    RUNTIME_OUT_OF_MEMORY = "Runtime.OutOfMemory"
    RUNTIME_INVALID_ENTRYPOINT = "Runtime.InvalidEntrypoint"
    RUNTIME_INVALID_WORKING_DIR = "Runtime.InvalidWorkingDir"
    RUNTIME_IMPORT_MODULE = "Runtime.ImportModuleError"
    RUNTIME_HANDLER_NOT_FOUND = "Runtime.HandlerNotFound"
    RUNTIME_MALFORMED_HANDLER_NAME = "Runtime.MalformedHandlerName"
    RUNTIME_USER_CODE_SYNTAX = "Runtime.UserCodeSyntaxError"
    RUNTIME_TRUNCATED_RESPONSE = "Runtime.TruncatedResponse"
    RUNTIME_UNKNOWN = "Runtime.Unknown"
    FUNCTION_RESPONSE_TOO_LARGE = "Function.ResponseSizeTooLarge"
    FUNCTION_UNKNOWN = "Function.Unknown"
    SANDBOX_TIMED_OUT = "Sandbox.Timedout"
    SANDBOX_FAILURE = "Sandbox.Failure"
    EXTENSION_CRASH = "Extension.Crash"


def error_body(error_type: str, message: str) -> bytes:
    """Return the body of a failed invocation, in AWS's order of keys."""
    return orjson.dumps({"errorType": error_type, "errorMessage": message})


def timeout_error(request_id: str, timeout_s: float) -> bytes:
    """Return the body for an invocation that ran into its function's time-out."""
    message = f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds"
    return error_body(FatalErrorType.SANDBOX_TIMED_OUT, message)


def exit_error(request_id: str, code: int) -> bytes:
    """Return the body for a runtime that ended during the invocation; `code` is a shell's (128 + n for signal n)."""
    message = f"RequestId: {request_id} Error: {exit_reason(code)}"
    return error_body(FatalErrorType.RUNTIME_EXIT, message)


def launch_error(error_type: str, request_id: str, reason: str) -> bytes:
    """Return the body for a runtime that could not be started; `reason` is its launcher's."""
    return error_body(error_type, f"RequestId: {request_id} Error: {reason}")


def out_of_memory_error(request_id: str) -> bytes:
    """Return the body for a runtime that the kernel killed for its memory."""
    message = f"RequestId: {request_id} Error: {exit_reason(128 + 9)}"
    return error_body(FatalErrorType.RUNTIME_OUT_OF_MEMORY, message)


def response_too_large_error() -> bytes:
    """Return the body for a function that answered with more than `MAX_RESPONSE_BYTES`."""
    message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
    return error_body(FatalErrorType.FUNCTION_RESPONSE_TOO_LARGE, message)


def exit_reason(code: int) -> str:
    """Say how a runtime ended, in AWS's words."""
    if code == 0:
        return "Runtime exited without providing a reason"
    number = code - 128
    if 1 <= number <= _LAST_SIGNAL:
        return f"Runtime exited with error: signal: {_SIGNAL_NAMES.get(number, f'signal {number}')}"
    return f"Runtime exited with error: exit status {code}"
