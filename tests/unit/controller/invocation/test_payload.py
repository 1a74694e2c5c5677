from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from controller.domain.errors import InvalidRequestContentError, RequestTooLargeError, ValidationFailedError
from controller.invocation.payload import (
    CLIENT_CONTEXT_LIMIT_BYTES,
    EVENT_LIMIT_BYTES,
    SYNC_LIMIT_BYTES,
    InvocationType,
    check_payload,
    read_parameters,
)


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_without_headers_it_is_a_synchronous_invocation_without_a_tail() -> None:
    parameters = read_parameters(Headers({}))

    assert parameters.type is InvocationType.REQUEST_RESPONSE
    assert not parameters.wants_tail
    assert parameters.client_context is None
    assert parameters.trace_id is None


def test_both_unknown_types_are_told_in_one_answer() -> None:
    headers = Headers({"X-Amz-Invocation-Type": "Later", "X-Amz-Log-Type": "Head"})

    with pytest.raises(ValidationFailedError, match=r"^2 validation errors detected: Value 'Later'.*; Value 'Head'"):
        read_parameters(headers)


def test_a_client_context_comes_out_as_one_line_of_json() -> None:
    raw = base64.b64encode(b'{\r\n  "custom": {"a": "b"}\n}').decode()

    assert read_parameters(Headers({"X-Amz-Client-Context": raw})).client_context == '{"custom":{"a":"b"}}'


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_no_client_context_can_begin_another_header(custom: dict[str, str]) -> None:
    raw = encoded({"custom": custom})
    if len(raw) > CLIENT_CONTEXT_LIMIT_BYTES:
        return

    context = read_parameters(Headers({"X-Amz-Client-Context": raw})).client_context

    assert context is not None
    assert not {"\r", "\n", "\0"} & set(context)
    assert json.loads(context) == {"custom": custom}


@pytest.mark.parametrize("raw", ["!", encoded({"k": "v" * 2700}), base64.b64encode(b"{").decode(), "/w=="])
def test_a_bad_client_context_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequestContentError, match="lient context"):
        read_parameters(Headers({"X-Amz-Client-Context": raw}))


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(InvocationType.REQUEST_RESPONSE, SYNC_LIMIT_BYTES), (InvocationType.EVENT, EVENT_LIMIT_BYTES)],
)
def test_a_payload_may_be_as_large_as_the_limit_and_no_larger(kind: InvocationType, limit: int) -> None:
    largest = b'"' + b"x" * (limit - 2) + b'"'

    assert check_payload(kind, largest) is largest
    with pytest.raises(RequestTooLargeError) as caught:
        check_payload(kind, largest + b" ")
    assert str(caught.value) == (
        f"{limit + 1} byte payload is too large for the {kind} invocation type (limit {limit} bytes)"
    )


def test_an_empty_payload_becomes_an_empty_object() -> None:
    assert check_payload(InvocationType.REQUEST_RESPONSE, b"") == b"{}"


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
def test_json_passes_byte_for_byte(value: object) -> None:
    payload = json.dumps(value, indent=1).encode()

    assert check_payload(InvocationType.REQUEST_RESPONSE, payload) is payload


@pytest.mark.parametrize("payload", [b"{", b"nope", b" ", b"\xff", b"{} {}"])
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidRequestContentError, match=r"^Could not parse request body into json: "):
        check_payload(InvocationType.EVENT, payload)
