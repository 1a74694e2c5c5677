from __future__ import annotations

import pytest

from contract.launch import LaunchSpec
from contract.messages import (
    InvokeHeader,
    LogsReply,
    LogsRequest,
    PrepareReply,
    PrepareRequest,
    ReplyHeader,
)

# As the first release wrote them: never to be changed, however the classes grow.
RECORDED_INVOKE = (
    b'{"request_id":"r","version_key":"u:$LATEST:3","function_uid":"u","generation":3,"memory_mb":128,'
    b'"controller":"c","invoked_function_arn":"arn:aws:lambda:us-east-1:000000000000:function:f","event":"",'
    b'"client_context":null,"trace_id":null,"wants_tail":true,"payload_url":"","payload_blob":"","answer_url":"http://c/t"}'
)
RECORDED_REPLY = (
    b'{"function_error":"Unhandled","platform_error":null,"executed_version":"7","log_result":"YQ==",'
    b'"is_transferred":false,"content_type":"application/json"}'
)
RECORDED_LAUNCH = (
    b'{"version_key":"u:7","function_uid":"u","generation":3,"account":"000000000000","region":"us-east-1",'
    b'"function_name":"f","version":"7","runtime":"python3.12","handler":"app.handler","code_sha256":"ab",'
    b'"architecture":"x86_64","memory_mb":128,"timeout_s":3,"ephemeral_storage_mb":512,"environment":{"A":"1"},'
    b'"log_group":"/aws/lambda/f"}'
)
# What the first release needed; all that came later must have a default.
SHORTEST = {
    InvokeHeader: b'{"request_id":"r","version_key":"v","function_uid":"u","generation":1,"memory_mb":128,'
    b'"controller":"c","invoked_function_arn":"a"}',
    ReplyHeader: b"{}",
    PrepareRequest: b'{"token":"t","controller":"c"}',
    PrepareReply: b'{"token":"t","is_ready":true}',
    LogsRequest: b'{"token":"t","controller":"c","function_uid":"u"}',
    LogsReply: b'{"token":"t"}',
    LaunchSpec: RECORDED_LAUNCH.replace(b',"environment":{"A":"1"},"log_group":"/aws/lambda/f"', b""),
}
CLASSES = list(SHORTEST)


def test_a_recorded_invocation_is_understood() -> None:
    header = InvokeHeader.from_json(RECORDED_INVOKE)
    assert (header.request_id, header.generation, header.wants_tail) == ("r", 3, True)
    assert (header.client_context, header.answer_url) == (None, "http://c/t")


def test_a_recorded_reply_is_understood() -> None:
    reply = ReplyHeader.from_json(RECORDED_REPLY)
    assert (reply.function_error, reply.platform_error) == ("Unhandled", None)
    assert (reply.executed_version, reply.log_result) == ("7", "YQ==")


def test_a_recorded_launch_is_understood() -> None:
    launch = LaunchSpec.from_json(RECORDED_LAUNCH)
    assert (launch.version_key, launch.timeout_s, launch.environment) == ("u:7", 3, {"A": "1"})


@pytest.mark.parametrize("kind", CLASSES)
def test_a_message_of_an_older_release_gets_defaults_for_what_it_lacks(kind: type[InvokeHeader]) -> None:
    assert kind.from_json(SHORTEST[kind])


@pytest.mark.parametrize("kind", CLASSES)
def test_a_message_of_a_newer_release_is_read_without_what_this_one_does_not_know(kind: type[InvokeHeader]) -> None:
    newer = SHORTEST[kind].rstrip(b"}") + (b"" if SHORTEST[kind] == b"{}" else b",") + b'"from_the_future":[1]}'
    assert kind.from_json(newer) == kind.from_json(SHORTEST[kind])


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_encoded_comes_back_equal(kind: type[InvokeHeader]) -> None:
    message = kind.from_json(SHORTEST[kind])
    assert kind.from_json(message.to_json()) == message


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff"])
@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_no_message_is_a_value_error(kind: type[InvokeHeader], raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        kind.from_json(raw)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if SHORTEST[kind] != b"{}"])
def test_a_message_without_what_it_must_have_is_refused_by_name(kind: type[InvokeHeader]) -> None:
    with pytest.raises(ValueError, match=r"not a .*missing"):
        kind.from_json(b"{}")
