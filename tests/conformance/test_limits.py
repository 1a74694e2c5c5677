"""What Invoke refuses, with AWS's codes and texts; and answers that are too large."""

from __future__ import annotations

import base64
import json

import httpx
import pytest

from tests.conformance.calls import FAST, Refusal, arn, call, deploy, nobody_prepares, publish, refusal, unique
from tests.platform_under_test import Platform

SYNC_LIMIT, EVENT_LIMIT, ANSWER_LIMIT = 6_291_456, 1_048_576, 6_291_556


def refused(platform: Platform, name: str, **parameters: object) -> Refusal:
    return refusal(platform.client().invoke, FunctionName=name, **parameters)


def json_of(size: int) -> bytes:
    """Return a JSON string of exactly that many bytes."""
    return b'"' + b"x" * (size - 2) + b'"'


def test_a_payload_over_6_mb_is_refused_and_one_of_6_mb_is_not(platform: Platform) -> None:
    name = deploy(platform, "def handler(event, context):\n    return len(event)\n")

    answer = refused(platform, name, Payload=json_of(SYNC_LIMIT + 1))

    assert (answer.status, answer.code) == (413, "RequestTooLargeException")
    assert answer.message == (
        "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"
    )
    assert call(platform, name, json_of(SYNC_LIMIT)).payload == SYNC_LIMIT - 2


def test_an_event_over_1_mb_is_refused_and_one_of_1_mb_is_not(platform: Platform, echo: str) -> None:
    answer = refused(platform, echo, InvocationType="Event", Payload=json_of(EVENT_LIMIT + 1))

    assert (answer.status, answer.code) == (413, "RequestTooLargeException")
    assert answer.message == "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    accepted = platform.client().invoke(FunctionName=echo, InvocationType="Event", Payload=json_of(EVENT_LIMIT))
    assert accepted["StatusCode"] == 202


def test_an_answer_over_6_mb_is_a_failure_of_the_function_and_the_next_one_works(platform: Platform) -> None:
    name = deploy(platform, "def handler(event, context):\n    return 'x' * event\n")

    largest = call(platform, name, ANSWER_LIMIT - 2)
    outcome = call(platform, name, ANSWER_LIMIT - 1)
    later = call(platform, name, 1)

    assert (largest.error, len(largest.raw)) == (None, ANSWER_LIMIT)
    assert outcome.error == "Unhandled"
    assert outcome.payload == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert outcome.report["Status"] == "error"
    assert outcome.report["Error Type"] == "Function.ResponseSizeTooLarge"
    assert later.payload == "x"
    assert "Init Duration" not in later.report


@pytest.mark.parametrize("payload", [b"{", b"{'a': 1}", b"nope", b"\xff", b" ", b'{"a":1} x'])
@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_a_payload_that_is_not_json_is_refused(platform: Platform, echo: str, payload: bytes, kind: str) -> None:
    answer = refused(platform, echo, Payload=payload, InvocationType=kind)

    assert (answer.status, answer.code) == (400, "InvalidRequestContentException")
    assert answer.message.startswith("Could not parse request body into json: ")


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
def test_an_unknown_function_is_not_found(platform: Platform, kind: str) -> None:
    name = f"none-{unique()[:8]}"

    answer = refused(platform, name, InvocationType=kind)

    assert (answer.status, answer.code) == (404, "ResourceNotFoundException")
    assert answer.message == f"Function not found: {arn(name)}"
    assert answer.body["Type"] == "User"


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
def test_what_was_deleted_is_not_found_although_it_has_just_run(platform: Platform, kind: str) -> None:
    name, client = deploy(platform, "def handler(event, context):\n    return event\n"), platform.client()
    version = publish(platform, name)
    for qualifier in ("$LATEST", version):
        call(platform, name, Qualifier=qualifier)
    call(platform, name)

    client.delete_function(FunctionName=name, Qualifier=version)
    gone = refused(platform, name, Qualifier=version, InvocationType=kind)
    client.delete_function(FunctionName=name)
    all_gone = refused(platform, name, InvocationType=kind)

    assert (gone.status, gone.message) == (404, f"Function not found: {arn(name, version)}")
    assert (all_gone.status, all_gone.message) == (404, f"Function not found: {arn(name)}")


@pytest.mark.parametrize("qualifier", ["7", "prod", "0", "01", "99999999999"])
def test_an_unknown_qualifier_is_not_found(platform: Platform, echo: str, qualifier: str) -> None:
    for parameters in ({"FunctionName": f"{echo}:{qualifier}"}, {"FunctionName": echo, "Qualifier": qualifier}):
        answer = refusal(platform.client().invoke, **parameters)

        assert (answer.status, answer.code) == (404, "ResourceNotFoundException")
        assert answer.message == f"Function not found: {arn(echo, qualifier)}"


def test_two_different_qualifiers_are_refused(platform: Platform, echo: str) -> None:
    answer = refused(platform, f"{echo}:1", Qualifier="2")

    assert (answer.status, answer.code) == (400, "InvalidParameterValueException")
    assert answer.message == "The derived qualifier from the function name does not match the specified qualifier."


@pytest.mark.parametrize("name", ["a b", "x:y:z:1", "arn:aws:s3:::bucket", "f" * 257, "名"])
def test_what_is_no_name_is_a_validation_error(platform: Platform, name: str) -> None:
    answer = refusal(platform.client(parameter_validation=False).invoke, FunctionName=name)

    assert (answer.status, answer.code) == (400, "ValidationException")
    assert "validation error" in answer.message
    assert "at 'functionName' failed to satisfy constraint" in answer.message


def test_a_function_that_is_pending_can_not_be_invoked(platform: Platform) -> None:
    with nobody_prepares(platform):
        name = platform.create("def handler(event, context):\n    return 1\n", wait=False)
        answers = [refused(platform, name, InvocationType=kind) for kind in ("RequestResponse", "Event", "DryRun")]

    for answer in answers:
        assert (answer.status, answer.code) == (409, "ResourceConflictException")
        assert answer.message == (
            "The operation cannot be performed at this time. The function is currently in the following state: Pending"
        )
    platform.client().get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert call(platform, name).payload == 1


@pytest.mark.parametrize(
    ("header", "value", "member", "choices"),
    [
        ("X-Amz-Invocation-Type", "Later", "invocationType", "[Event, RequestResponse, DryRun]"),
        ("X-Amz-Log-Type", "Head", "logType", "[None, Tail]"),
    ],
)
def test_an_unknown_invocation_or_log_type_is_refused(
    platform: Platform, echo: str, header: str, value: str, member: str, choices: str
) -> None:
    answer = httpx.post(f"{platform.endpoint}/2015-03-31/functions/{echo}/invocations", headers={header: value})

    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert answer.json()["message"] == (
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must satisfy"
        f" enum value set: {choices}"
    )


@pytest.mark.parametrize(
    "context",
    [
        base64.b64encode(json.dumps({"custom": {"k": "v" * 2700}}).encode()).decode(),
        "no base64!",
        base64.b64encode(b"no json").decode(),
        base64.b64encode(b"\xff\xfe").decode(),
    ],
    ids=["too long", "no base64", "no json", "no text"],
)
def test_a_client_context_that_is_too_long_or_unreadable_is_refused(
    platform: Platform, echo: str, context: str
) -> None:
    answer = refused(platform, echo, ClientContext=context)

    assert (answer.status, answer.code) == (400, "InvalidRequestContentException")
    assert "lient context" in answer.message


def test_invoke_with_another_method_is_refused(platform: Platform, echo: str) -> None:
    answer = httpx.get(f"{platform.endpoint}/2015-03-31/functions/{echo}/invocations")

    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (405, "MethodNotAllowedException")
