"""What of a function's request is passed on."""

from __future__ import annotations

import json

import pytest

from worker.endpoints.request import (
    MAX_TARGET_BYTES,
    Forward,
    Header,
    Refusal,
    answer_headers,
    judge,
    refusal_answer,
)

SIGNED: Header = (
    b"authorization",
    b"AWS4-HMAC-SHA256 Credential=123456789012/20260101/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=x",
)
FUNCTIONS = b"/2015-03-31/functions"


def forwarded(*headers: Header, method: bytes = b"GET", target: bytes = FUNCTIONS) -> Forward:
    decision = judge(method, target, [SIGNED, *headers])
    assert isinstance(decision, Forward)
    return decision


def refused(method: bytes, target: bytes, *headers: Header) -> Refusal:
    decision = judge(method, target, headers)
    assert isinstance(decision, Refusal)
    return decision


def test_what_lambda_s_clients_say_is_passed_on() -> None:
    said: list[Header] = [
        (b"x-amz-invocation-type", b"Event"),
        (b"x-amz-log-type", b"Tail"),
        (b"x-amz-client-context", b"e30="),
        (b"x-amz-date", b"20260101T000000Z"),
        (b"x-amzn-trace-id", b"Root=1"),
        (b"content-type", b"application/json"),
        (b"content-length", b"2"),
        (b"user-agent", b"Boto3"),
    ]

    made = forwarded(*said, method=b"POST", target=b"/2015-03-31/functions/f/invocations?Qualifier=1")

    assert made.headers == (SIGNED, *said)
    assert (made.method, made.target) == ("POST", "/2015-03-31/functions/f/invocations?Qualifier=1")
    assert made.has_body


@pytest.mark.parametrize(
    "name",
    [
        b"host",
        b"origin",
        b"cookie",
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authorization",
        b"proxy-connection",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-lambdock-token",
        b"x-lambdock-function",
        b"x-lambdock-anything",
        b"accept-encoding",
        b"expect",
    ],
)
def test_nothing_that_a_controller_could_misunderstand_is(name: bytes) -> None:
    assert forwarded((name, b"x")).headers == (SIGNED,)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer x")],
        [(b"authorization", b"Basic eDp5")],
        [(b"authorization", b"AWS4-HMAC-SHA256 SignedHeaders=host")],
        [(b"x-amz-credential", b"123456789012/20260101/eu-west-1/lambda/aws4_request")],
    ],
)
def test_an_unsigned_request_is_refused_as_aws_does(headers: list[Header]) -> None:
    refusal = refused(b"GET", FUNCTIONS, *headers)

    assert (refusal.status, refusal.code) == (403, "MissingAuthenticationTokenException")
    assert refusal.message == "Missing Authentication Token"


def test_a_presigned_request_is_signed() -> None:
    target = FUNCTIONS + b"?X-Amz-Credential=1%2F20260101%2Feu-west-1%2Flambda%2Faws4_request&X-Amz-Signature=x"

    assert isinstance(judge(b"GET", target, []), Forward)


def test_two_signatures_are_none() -> None:
    assert refused(b"GET", FUNCTIONS, SIGNED, SIGNED).status == 400


def test_other_paths_and_methods_are_refused_signed_or_not() -> None:
    assert refused(b"GET", b"/_lambdock/openapi.json", SIGNED).code == "UnknownOperationException"
    assert refused(b"GET", b"/health").status == 404
    assert refused(b"HEAD", FUNCTIONS, SIGNED).status == 405
    assert refused(b"OPTIONS", FUNCTIONS, SIGNED).code == "MethodNotAllowedException"


@pytest.mark.parametrize("target", [FUNCTIONS + b"?x=" + b"a" * 40_000, FUNCTIONS + b"/" + b"(" * 12_000])
def test_a_target_that_is_too_long_when_it_is_respelled_is_refused(target: bytes) -> None:
    refusal = refused(b"GET", target, SIGNED)

    assert (refusal.status, refusal.code) == (414, "RequestUriTooLongException")
    longest = "/" + "2015-03-31/functions?x=" + "a" * (MAX_TARGET_BYTES - 24)
    assert len(forwarded(target=longest.encode()).target) == MAX_TARGET_BYTES


def test_a_request_without_length_or_encoding_has_no_body() -> None:
    assert not forwarded().has_body
    assert forwarded((b"transfer-encoding", b"chunked"), method=b"POST").has_body


def test_an_answer_says_nothing_of_the_way_between_worker_and_controller() -> None:
    told = [
        (b"Content-Type", b"application/json"),
        (b"X-Amz-Function-Error", b"Unhandled"),
        (b"Connection", b"keep-alive"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"5"),
        (b"X-Lambdock-Token", b"secret"),
    ]

    assert answer_headers(told) == told[:2]


def test_a_refusal_reads_like_one_of_aws() -> None:
    head, _, body = refusal_answer(refused(b"GET", FUNCTIONS), keep_alive=False).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"x-amzn-errortype: MissingAuthenticationTokenException" in head
    assert b"content-length: %d" % len(body) in head
    assert b"connection: close" in head
    assert json.loads(body) == {"Type": "User", "message": "Missing Authentication Token"}
