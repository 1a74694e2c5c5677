"""The table of contents: which request of a runtime is for which endpoint."""

from __future__ import annotations

from enum import StrEnum


class Endpoint(StrEnum):
    """What a runtime can ask for, and the two ways of asking for something else."""

    NEXT = "next"
    RESPONSE = "response"
    ERROR = "error"
    INIT_ERROR = "init error"
    UNKNOWN_PATH = "unknown path"
    WRONG_METHOD = "wrong method"


PREFIX = b"/2018-06-01/runtime/"
_NEXT = b"invocation/next"
_INIT_ERROR = b"init/error"
_INVOCATION = b"invocation/"
#: Longest first: none is the end of another.
_OF_ONE_INVOCATION = ((b"/response", Endpoint.RESPONSE), (b"/error", Endpoint.ERROR))


def resolve(method: bytes, target: bytes) -> tuple[Endpoint, str]:
    """Return the endpoint of a request line, and the request id that it names, or ''."""
    path = target.partition(b"?")[0]
    if not path.startswith(PREFIX):
        return Endpoint.UNKNOWN_PATH, ""
    rest = path[len(PREFIX) :]
    if rest == _NEXT:
        return (Endpoint.NEXT if method == b"GET" else Endpoint.WRONG_METHOD), ""
    if rest == _INIT_ERROR:
        return (Endpoint.INIT_ERROR if method == b"POST" else Endpoint.WRONG_METHOD), ""
    if rest.startswith(_INVOCATION):
        for ending, endpoint in _OF_ONE_INVOCATION:
            if rest.endswith(ending):
                request_id = rest[len(_INVOCATION) : -len(ending)]
                if not request_id or b"/" in request_id:
                    break
                return (endpoint if method == b"POST" else Endpoint.WRONG_METHOD), request_id.decode("latin-1")
    return Endpoint.UNKNOWN_PATH, ""
