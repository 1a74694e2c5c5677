"""The only place that writes HTTP answers to a runtime."""

from __future__ import annotations

import orjson

from worker.runtime_api.fatal_errors import MAX_RESPONSE_BYTES
from worker.runtime_api.state import IllegalStepError
from worker.runtime_api.types import RuntimeEvent

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request Entity Too Large",
    503: "Service Unavailable",
}
#: Header values come from callers too: none may begin another header.
_NO_CONTROLS = {code: " " for code in (*range(32), 127)}


def answer(status: int, body: bytes) -> bytes:
    """Return a whole HTTP answer with a JSON body."""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _error(status: int, error_type: str, message: str) -> bytes:
    return answer(status, orjson.dumps({"errorMessage": message, "errorType": error_type}) + b"\n")


ACCEPTED = answer(202, b'{"status":"OK"}\n')
NOT_FOUND = answer(404, b"404 page not found\n")
WRONG_METHOD = answer(405, b"")
INVALID_REQUEST_ID = _error(400, "InvalidRequestID", "Invalid request ID")
BAD_REQUEST = _error(400, "InvalidRequest", "Not an HTTP/1.1 request that this server understands")
TOO_LARGE = _error(413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes).")
TOO_MUCH_AT_ONCE = _error(503, "ServiceUnavailable", "Too many responses are being sent at the same time")
SUPERSEDED = _error(403, "InvalidStateTransition", "Another request for the next event has replaced this one")


def illegal_step(error: IllegalStepError) -> bytes:
    """Return the answer to a request that the runtime's state does not allow."""
    return _error(403, "InvalidStateTransition", str(error))


def event_head(event: RuntimeEvent) -> bytes:
    """Return all but the payload of the answer that carries an event."""
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Lambda-Runtime-Aws-Request-Id: {event.request_id}\r\n"
        f"Lambda-Runtime-Deadline-Ms: {event.deadline_at_ms}\r\n"
        f"Lambda-Runtime-Invoked-Function-Arn: {event.invoked_function_arn}\r\n"
    )
    for name, value in (
        ("Trace-Id", event.trace_id),
        ("Client-Context", event.client_context),
        ("Cognito-Identity", event.cognito_identity),
        ("Aws-Tenant-Id", event.tenant_id),
    ):
        if value:
            head += f"Lambda-Runtime-{name}: {value.translate(_NO_CONTROLS)}\r\n"
    return f"{head}Content-Length: {len(event.payload)}\r\n\r\n".encode()
