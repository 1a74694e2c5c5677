"""One invocation from the terminal: payload in, result, error and log out."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import output
from cli.client import aws_errors, lambda_client
from cli.errors import UsageError

#: The longest function, and time for it to start.
INVOKE_TIMEOUT_S = 960


@dataclass(frozen=True, slots=True, kw_only=True)
class InvokeRequest:
    """What to invoke, and how. `payload` is as written by the user: JSON, `@FILE` or `-`."""

    name: str
    payload: str
    is_event: bool = False
    has_tail: bool = True
    qualifier: str | None = None


def invoke_function(request: InvokeRequest, *, endpoint: str, region: str | None, is_json: bool) -> bool:
    """Invoke once and print; return whether the function succeeded.

    Raises: `UsageError` for a payload that is not JSON; `CliError` when the platform refuses.
    """
    payload = read_payload(request.payload)
    client = lambda_client(endpoint, region=region, read_timeout_s=INVOKE_TIMEOUT_S)
    with aws_errors(endpoint):
        answer = client.invoke(
            FunctionName=request.name,
            InvocationType="Event" if request.is_event else "RequestResponse",
            LogType="Tail" if request.has_tail and not request.is_event else "None",
            Payload=payload,
            **({"Qualifier": request.qualifier} if request.qualifier else {}),
        )
        body: bytes = answer["Payload"].read()
    log = base64.b64decode(answer.get("LogResult") or "").decode("utf-8", "backslashreplace").splitlines()
    function_error: str | None = answer.get("FunctionError")
    if is_json:
        output.machine(_machine_form(answer, body, log))
    elif request.is_event:
        output.say(f"Queued as request {answer['ResponseMetadata'].get('RequestId', 'unknown')}.")
    else:
        _print_result(body, log, function_error)
    return function_error is None


def read_payload(written: str) -> bytes:
    """Return the bytes of a payload as written on the command line. Raises: `UsageError` when it is not JSON."""
    if written == "-":
        source, body = "standard input", sys.stdin.buffer.read()
    elif written.startswith("@"):
        source = written[1:]
        try:
            body = Path(source).read_bytes()
        except OSError as error:
            raise UsageError(f"the payload file {source!r} cannot be read: {error.strerror}") from None
    else:
        source, body = "--payload", written.encode()
    try:
        json.loads(body)
    except ValueError as error:
        raise UsageError(f"the payload from {source} is not JSON: {error}") from None
    return body


def _print_result(body: bytes, log: list[str], function_error: str | None) -> None:
    for line in log:
        if line.strip() and not line.startswith(("START RequestId", "END RequestId")):
            output.note(line, "dim")
    if function_error is None:
        output.say(output.pretty_json(body))
        return
    for line in error_lines(body, function_error):
        output.say(line, "red")


def error_lines(body: bytes, function_error: str) -> list[str]:
    """Return a function's error as a person reads it: type, message, stack trace."""
    try:
        error = json.loads(body)
    except ValueError:
        error = None
    if not isinstance(error, dict):
        return [f"{function_error}: {output.pretty_json(body)}"]
    heading = f"{error.get('errorType') or function_error}: {error.get('errorMessage', '')}"
    trace = error.get("stackTrace") or error.get("trace") or []
    return [heading, *(str(line).rstrip("\n") for line in trace if isinstance(trace, list))]


def _machine_form(answer: dict[str, Any], body: bytes, log: list[str]) -> dict[str, Any]:
    try:
        payload = json.loads(body) if body else None
    except ValueError:
        payload = body.decode("utf-8", "backslashreplace")
    return {
        "status_code": answer.get("StatusCode"),
        "request_id": answer["ResponseMetadata"].get("RequestId"),
        "executed_version": answer.get("ExecutedVersion"),
        "function_error": answer.get("FunctionError"),
        "payload": payload,
        "log": log,
    }
