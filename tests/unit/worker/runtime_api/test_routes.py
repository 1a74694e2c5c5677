from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.runtime_api.routes import Endpoint, resolve

P = b"/2018-06-01/runtime/"


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", P + b"invocation/next", (Endpoint.NEXT, "")),
        (b"GET", P + b"invocation/next?x=1", (Endpoint.NEXT, "")),
        (b"POST", P + b"invocation/next", (Endpoint.WRONG_METHOD, "")),
        (b"POST", P + b"invocation/i-1/response", (Endpoint.RESPONSE, "i-1")),
        (b"GET", P + b"invocation/i-1/response", (Endpoint.WRONG_METHOD, "")),
        (b"POST", P + b"invocation/i-1/error", (Endpoint.ERROR, "i-1")),
        (b"POST", P + b"init/error", (Endpoint.INIT_ERROR, "")),
        (b"GET", P + b"init/error", (Endpoint.WRONG_METHOD, "")),
        (b"POST", P + b"invocation//response", (Endpoint.UNKNOWN_PATH, "")),
        (b"POST", P + b"invocation/a/b/response", (Endpoint.UNKNOWN_PATH, "")),
        (b"GET", P + b"restore/next", (Endpoint.UNKNOWN_PATH, "")),
        (b"POST", P + b"restore/error", (Endpoint.UNKNOWN_PATH, "")),
        (b"GET", b"/2020-01-01/extension/event/next", (Endpoint.UNKNOWN_PATH, "")),
        (b"GET", b"/", (Endpoint.UNKNOWN_PATH, "")),
        (b"GET", b"", (Endpoint.UNKNOWN_PATH, "")),
    ],
)
def test_a_request_line_has_one_endpoint(method: bytes, target: bytes, expected: tuple[Endpoint, str]) -> None:
    if expected[0] is Endpoint.WRONG_METHOD:
        assert resolve(method, target)[0] is Endpoint.WRONG_METHOD
    else:
        assert resolve(method, target) == expected


@given(st.binary(max_size=20), st.binary(max_size=200))
def test_no_request_line_is_an_error(method: bytes, target: bytes) -> None:
    endpoint, request_id = resolve(method, P + target)
    assert endpoint in Endpoint
    assert "/" not in request_id
