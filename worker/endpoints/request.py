"""What a function's request to the Lambda API may be, and what of it is passed on. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson

from contract.side_door import OWN_HEADERS, api_target

Header = tuple[bytes, bytes]

#: What Lambda's operations use.
_METHODS: Final = frozenset((b"GET", b"POST", b"PUT", b"DELETE", b"PATCH"))
#: Passed on, beside all that begins with `x-amz`. All else is between the function and its worker: `Host`, `Origin`,
#: what concerns the connection, and whatever could be taken for the platform's own.
_PASSED: Final = frozenset((b"accept", b"authorization", b"content-length", b"content-type", b"user-agent"))
_PASSED_PREFIX: Final = b"x-amz"
#: Of a path and query, respelled: up to three times as long as it came. Lambda's own longest, fifty keys of tags,
#: have 20 KB; clients of HTTP give up at 64.
MAX_TARGET_BYTES: Final = 32_768
#: Concern one connection only; an answer's framing is made anew.
_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A request as it is passed on."""

    method: str
    #: Path and query.
    target: str
    headers: tuple[Header, ...]
    #: Whether a body follows, of whatever length.
    has_body: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error as AWS's clients read it."""

    status: int
    code: str
    message: str
    fault: str = "User"


TOO_LARGE: Final = Refusal(
    status=413, code="RequestTooLargeException", message="Request must be smaller than 73400320 bytes"
)
#: Nothing of the request has been done, or nobody knows how far it came: SDKs try again.
UNAVAILABLE: Final = Refusal(
    status=503,
    code="ServiceException",
    message="The Lambda API can't be reached from this function at the moment; try again.",
    fault="Service",
)


def judge(method: bytes, target: bytes, headers: Iterable[Header]) -> Forward | Refusal:
    """Decide about a request. Names of headers are in lower case."""
    given = list(headers)
    shown = target.decode("latin-1")[:256]
    passed_target = api_target(target)
    if passed_target is None:
        return Refusal(
            status=404,
            code="UnknownOperationException",
            message=f"{shown!r} is no path of the Lambda API, which is all that functions reach here.",
        )
    if len(passed_target) > MAX_TARGET_BYTES:
        text = f"Path and query have {len(passed_target)} bytes; at most {MAX_TARGET_BYTES} are passed on."
        return Refusal(status=414, code="RequestUriTooLongException", message=text)
    if method not in _METHODS:
        text = f"{shown!r} does not support the method {method.decode('latin-1')}."
        return Refusal(status=405, code="MethodNotAllowedException", message=text)
    authorizations = [value for name, value in given if name == b"authorization"]
    is_signed = any(value.startswith(b"AWS4-") and b"Credential=" in value for value in authorizations)
    is_presigned = "X-Amz-Credential=" in passed_target
    if not (is_signed or is_presigned):
        return Refusal(status=403, code="MissingAuthenticationTokenException", message="Missing Authentication Token")
    if len(authorizations) > 1:
        text = "The request has several Authorization headers; send one."
        return Refusal(status=400, code="IncompleteSignatureException", message=text)
    return Forward(
        method=method.decode("ascii"),
        target=passed_target,
        headers=tuple(header for header in given if _is_passed(header[0])),
        has_body=any(name in (b"content-length", b"transfer-encoding") for name, _ in given),
    )


def answer_headers(headers: Iterable[Header]) -> list[Header]:
    """Return what a function is told of an answer's headers, its framing left out."""
    return [
        (name, value)
        for name, value in headers
        if (lower := name.lower()) not in _HOP_BY_HOP
        and lower != b"content-length"
        and not lower.startswith(OWN_HEADERS)
    ]


def answer_head(status: int, headers: Iterable[Header]) -> bytes:
    """Return the head of an answer."""
    lines = [b"HTTP/1.1 %d %s" % (status, _phrase(status)), *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def refusal_answer(refusal: Refusal, *, keep_alive: bool) -> bytes:
    """Return a whole answer."""
    body = orjson.dumps({"Type": refusal.fault, "message": refusal.message})
    headers = [
        (b"content-type", b"application/json"),
        (b"x-amzn-errortype", refusal.code.encode()),
        (b"x-amzn-requestid", str(uuid.uuid4()).encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if not keep_alive:
        headers.append((b"connection", b"close"))
    return answer_head(refusal.status, headers) + body


def _is_passed(name: bytes) -> bool:
    return name in _PASSED or name.startswith(_PASSED_PREFIX)


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
