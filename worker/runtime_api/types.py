"""What goes to a runtime, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEvent:
    """One event, as the runtime gets it from `GET …/invocation/next`."""

    request_id: str
    #: Milliseconds since 1970, by this machine's clock.
    deadline_at_ms: int
    invoked_function_arn: str
    payload: bytes
    #: The next four become headers when they aren't empty; line breaks in them become spaces.
    trace_id: str = ""
    #: JSON, already decoded from base64.
    client_context: str = ""
    cognito_identity: str = ""
    tenant_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeResponse:
    """The function has answered."""

    body: bytes
    content_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedError:
    """The runtime has reported that the function, or its initialisation, failed."""

    #: What it posted, byte for byte; meant to be JSON, but nobody has checked.
    body: bytes
    #: Of the header `Lambda-Runtime-Function-Error-Type`; empty when it wasn't sent.
    error_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseTooLarge:
    """The function answered with more than Lambda allows; the runtime was told so by a 413, and mostly exits then."""

    #: How many bytes were received; not all of them, when the runtime gave up.
    size_bytes: int


RuntimeOutcome = RuntimeResponse | ReportedError | ResponseTooLarge
