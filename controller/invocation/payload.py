"""What an Invoke request may carry. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson
from starlette.datastructures import Headers

from controller.domain.arn import violation_text
from controller.domain.errors import InvalidRequestContentError, RequestTooLargeError, ValidationFailedError

SYNC_LIMIT_BYTES: Final = 6_291_456
EVENT_LIMIT_BYTES: Final = 1_048_576
CLIENT_CONTEXT_LIMIT_BYTES: Final = 3583


class InvocationType(StrEnum):
    """Lambda's three ways to invoke."""

    REQUEST_RESPONSE = "RequestResponse"
    EVENT = "Event"
    DRY_RUN = "DryRun"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvokeParameters:
    """The headers of an Invoke request."""

    type: InvocationType
    wants_tail: bool
    #: JSON, decoded from base64.
    client_context: str | None
    trace_id: str | None


def read_parameters(headers: Headers) -> InvokeParameters:
    """Read the headers of an Invoke request. Raises ValidationFailedError or InvalidRequestContentError."""
    kind = headers.get("x-amz-invocation-type", InvocationType.REQUEST_RESPONSE)
    log_type = headers.get("x-amz-log-type", "None")
    violations = []
    if kind not in {str(item) for item in InvocationType}:
        violations.append(_not_in("invocationType", kind, "[Event, RequestResponse, DryRun]"))
    if log_type not in {"None", "Tail"}:
        violations.append(_not_in("logType", log_type, "[None, Tail]"))
    if violations:
        raise ValidationFailedError(violation_text(violations))
    return InvokeParameters(
        type=InvocationType(kind),
        wants_tail=log_type == "Tail",
        client_context=_client_context(headers.get("x-amz-client-context")),
        trace_id=headers.get("x-amzn-trace-id"),
    )


def check_payload(kind: InvocationType, payload: bytes) -> bytes:
    """Return the event to hand to the function, `{}` for an empty payload.

    Raises RequestTooLargeError over 6 MB (1 MB for events), InvalidRequestContentError for what is not JSON.
    """
    limit = EVENT_LIMIT_BYTES if kind is InvocationType.EVENT else SYNC_LIMIT_BYTES
    if len(payload) > limit:
        raise RequestTooLargeError(
            f"{len(payload)} byte payload is too large for the {kind} invocation type (limit {limit} bytes)"
        )
    if not payload:
        return b"{}"
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestContentError(f"Could not parse request body into json: {error}") from error
    return payload


def _client_context(raw: str | None) -> str | None:
    if not raw:
        return None
    if len(raw) > CLIENT_CONTEXT_LIMIT_BYTES:
        raise InvalidRequestContentError(
            f"Client context is {len(raw)} bytes of base64; at most {CLIENT_CONTEXT_LIMIT_BYTES} are allowed."
        )
    try:
        decoded = base64.b64decode(raw, validate=True).decode()
        orjson.loads(decoded)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestContentError(f"Client context must be base64-encoded JSON: {error}") from error
    # A header of the Runtime API carries it, on one line.
    return orjson.dumps(orjson.loads(decoded)).decode()


def _not_in(name: str, value: str, members: str) -> str:
    return f"Value '{value}' at '{name}' failed to satisfy constraint: Member must satisfy enum value set: {members}"
