"""What controllers and workers say to each other: the headers of messages and replies, as JSON beside raw payloads.

Payloads are never encoded again: an event's bytes travel as the client sent them. A reader ignores what it does not
know, and a field added later has a default, so that neighbouring releases understand each other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

import orjson

#: Larger bodies travel over the transfer channel (or, for events, as blobs), so that Redis carries envelopes only.
INLINE_LIMIT_BYTES: Final = 128 * 1024

#: Names of the fields of an inbox entry.
TYPE, ID, START, POOL, HEADER, PAYLOAD, LAUNCH, EVICT, VERSION = b"t", b"i", b"s", b"o", b"h", b"p", b"l", b"e", b"v"


class _Message:
    """JSON in both directions for a flat dataclass."""

    __slots__ = ()

    def to_json(self) -> bytes:
        """Encode for the wire."""
        return orjson.dumps(asdict(self))  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Decode what this or a neighbouring release encoded. Raises ValueError for anything else."""
        data: dict[str, Any] = orjson.loads(raw)
        known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
        try:
            return cls(**{key: value for key, value in data.items() if key in known})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a {cls.__name__}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class InvokeHeader(_Message):
    """Everything of an invocation but its payload."""

    #: AWS's request id: what the caller, the function and the logs see. An event keeps it through all its attempts.
    request_id: str
    version_key: str
    function_uid: str
    generation: int
    memory_mb: int
    controller: str
    invoked_function_arn: str
    #: Set when nobody waits for the reply: the event's id.
    event: str = ""
    client_context: str | None = None
    trace_id: str | None = None
    #: The caller wants the last 4 KB of the log.
    wants_tail: bool = False
    #: Where to fetch a payload too large for Redis: `http://…/{token}` of the controller, once.
    payload_url: str = ""
    #: Or its digest in the blob store.
    payload_blob: str = ""
    #: Where to put an answer too large for Redis (`PUT`, once).
    answer_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyHeader(_Message):
    """How an invocation ended. Exactly one of the two kinds: a result of the function, or a failure of the platform."""

    #: `Unhandled` when the function failed; the payload then is the error document.
    function_error: str | None = None
    #: Why the platform could not run it; None when it ran.
    platform_error: str | None = None
    executed_version: str = ""
    #: Base64 of the log's tail, when asked for.
    log_result: str | None = None
    #: The payload was put to `answer_url`.
    is_transferred: bool = False
    content_type: str = "application/json"


#: What callers of a worker that is no more are told.
LOST: Final = ReplyHeader(platform_error="the worker that ran this invocation was lost; whether it finished is unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRequest(_Message):
    """Asks a worker to make ready what environments of a version need: image, unpacked code."""

    token: str
    controller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareReply(_Message):
    """Whether a worker can launch the version now."""

    token: str
    is_ready: bool
    #: AWS's StateReasonCode and StateReason when it can't.
    reason_code: str = ""
    reason: str = ""
    #: For container images: the image as pinned, `name@sha256:digest`, and its size in bytes.
    image_uri: str = ""
    image_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsRequest(_Message):
    """Asks a worker for what it has kept of a function's log."""

    token: str
    controller: str
    function_uid: str
    #: The worker's own cursor of an earlier answer; empty for the oldest kept.
    cursor: str = ""
    limit: int = 1000
    since_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsReply(_Message):
    """A page of log events, oldest first; the payload beside it is their JSON array."""

    token: str
    cursor: str = ""
