"""Invoke, with boto3 and with plain HTTP, on the running platform: what goes in, and what comes out."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conformance.calls import ACCOUNT, REGION, arn, call, deploy, publish, unique, update_code, wait_for_log
from tests.platform_under_test import Platform

BIG = 5_900_000


@pytest.mark.parametrize(
    "event",
    [{"a": {"b": [1, 2.5, None, True]}}, [1, "two"], "text", None, 7, {"schön": "日本 🐑 \x00 \u2028"}, "", {}],
    ids=lambda event: json.dumps(event)[:20],
)
def test_a_function_gets_and_returns_any_json(platform: Platform, echo: str, event: Any) -> None:
    outcome = call(platform, echo, event)

    assert outcome.payload == event
    assert (outcome.error, outcome.version) == (None, "$LATEST")


def test_an_empty_payload_is_an_empty_object(platform: Platform, echo: str) -> None:
    assert call(platform, echo, b"").payload == {}


@pytest.mark.parametrize("size", [127 * 1024, 130 * 1024, BIG])
def test_payloads_of_every_size_come_in_and_out_whole(platform: Platform, echo: str, size: int) -> None:
    event = {"text": "".join(f"{number:08x}" for number in range(size // 8))}

    assert call(platform, echo, event).payload == event


def test_large_payloads_of_concurrent_calls_do_not_mix(platform: Platform, echo: str) -> None:
    events = [{"id": number, "text": f"{number}" * 200_000} for number in range(8)]
    client = platform.client()

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda event: call(platform, echo, event, client=client).payload, events))

    assert answers == events


def test_a_dry_run_answers_204_and_runs_nothing(platform: Platform) -> None:
    name = deploy(platform, "def handler(event, context):\n    print('I ran')\n")

    answer = platform.client().invoke(FunctionName=name, InvocationType="DryRun")

    assert answer["StatusCode"] == 204
    assert answer["Payload"].read() == b""
    call(platform, name)
    assert sum("START RequestId" in line for line in wait_for_log(platform, name, "REPORT")) == 1


def test_an_event_is_accepted_with_202_and_runs_later(platform: Platform) -> None:
    name = deploy(platform, "def handler(event, context):\n    print('event', event, context.aws_request_id)\n")
    token, client = unique(), platform.client()

    answer = client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"token": token}))

    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    assert "FunctionError" not in answer
    assert "ExecutedVersion" not in answer
    request_id = answer["ResponseMetadata"]["RequestId"]
    wait_for_log(platform, name, f"event {{'token': '{token}'}} {request_id}")


def test_a_large_event_arrives_whole(platform: Platform) -> None:
    name = deploy(platform, "def handler(event, context):\n    print('got', len(event['text']), set(event['text']))\n")

    platform.client().invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"text": "x" * 900_000}))

    wait_for_log(platform, name, "got 900000 {'x'}")


def test_an_event_of_a_version_runs_that_version(platform: Platform) -> None:
    name = deploy(platform, "def handler(event, context):\n    print('version', context.function_version)\n")
    publish(platform, name)

    platform.client().invoke(FunctionName=name, Qualifier="1", InvocationType="Event")

    wait_for_log(platform, name, "version 1")


def test_plain_http_without_a_signature_means_the_default_account(platform: Platform, tell: str) -> None:
    answer = httpx.post(f"{platform.endpoint}/2015-03-31/functions/{tell}/invocations", content=b'{"a": 1}')

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amz-executed-version"] == "$LATEST"
    assert "x-amz-function-error" not in answer.headers
    assert "x-amz-log-result" not in answer.headers
    told = answer.json()
    assert told["event"] == {"a": 1}
    assert told["context"]["aws_request_id"] == answer.headers["x-amzn-requestid"]
    assert told["context"]["invoked_function_arn"] == arn(tell)


# --- qualifiers and versions ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def versioned(platform: Platform) -> str:
    """Version 1 says one, version 2 two, $LATEST three; each tells its ARN."""
    code = "def handler(event, context):\n    return [{0!r}, context.function_version, context.invoked_function_arn]\n"
    name = deploy(platform, code.format("one"))
    assert publish(platform, name) == "1"
    update_code(platform, name, code.format("two"))
    assert publish(platform, name) == "2"
    update_code(platform, name, code.format("three"))
    return name


@pytest.mark.parametrize(
    ("pattern", "qualifier", "says", "version", "suffix"),
    [
        ("{name}", "", "three", "$LATEST", ""),
        ("{name}", "$LATEST", "three", "$LATEST", ":$LATEST"),
        ("{name}", "1", "one", "1", ":1"),
        ("{name}:1", "", "one", "1", ":1"),
        ("{name}:2", "2", "two", "2", ":2"),
        (f"{ACCOUNT}:function:{{name}}", "", "three", "$LATEST", ""),
        (f"{ACCOUNT}:function:{{name}}:2", "", "two", "2", ":2"),
        (f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{name}}", "1", "one", "1", ":1"),
        (f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{name}}:1", "", "one", "1", ":1"),
    ],
)
def test_each_form_of_a_name_runs_the_version_that_it_means(
    platform: Platform, versioned: str, pattern: str, qualifier: str, says: str, version: str, suffix: str
) -> None:
    parameters = {"Qualifier": qualifier} if qualifier else {}

    outcome = call(platform, pattern.format(name=versioned), **parameters)

    assert outcome.payload == [says, version, arn(versioned) + suffix]
    assert outcome.version == version
    assert f"START RequestId: {outcome.request_id} Version: {version}\n" in outcome.tail


# --- context ----------------------------------------------------------------------------------------------------


def test_the_context_is_that_of_this_function_and_invocation(platform: Platform, tell: str) -> None:
    outcome = call(platform, tell)

    context = outcome.payload["context"]
    assert context["function_name"] == tell
    assert context["function_version"] == "$LATEST"
    assert context["memory_limit_in_mb"] == "256"
    assert context["aws_request_id"] == outcome.request_id
    assert context["log_group_name"] == f"/aws/lambda/{tell}"
    assert "/[$LATEST]" in context["log_stream_name"]
    assert 6_000 < context["remaining_ms"] <= 7_000
    assert context["client"] is None


def test_the_client_context_reaches_the_function(platform: Platform, tell: str) -> None:
    given = {"client": {"app_title": "Bücher"}, "custom": {"k": "v"}, "env": {"locale": "de"}}
    encoded = base64.b64encode(json.dumps(given).encode()).decode()

    context = call(platform, tell, ClientContext=encoded).payload["context"]

    assert context["client"] == {"custom": {"k": "v"}, "env": {"locale": "de"}, "title": "Bücher"}


def test_a_trace_is_passed_on_and_one_is_made_where_none_is_given(platform: Platform, tell: str) -> None:
    given = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    url = f"{platform.endpoint}/2015-03-31/functions/{tell}/invocations"

    passed = httpx.post(url, headers={"X-Amzn-Trace-Id": given}).json()["environment"]["_X_AMZN_TRACE_ID"]
    made = [httpx.post(url).json()["environment"]["_X_AMZN_TRACE_ID"] for _ in range(2)]

    assert passed == given
    assert all(trace.startswith("Root=1-") and trace.endswith(";Sampled=0") for trace in made)
    assert made[0] != made[1]


# --- isolation of accounts and regions --------------------------------------------------------------------------


def test_functions_of_one_name_in_two_accounts_and_regions_are_different_functions(platform: Platform) -> None:
    name = f"f-{unique()[:12]}"
    places = [(ACCOUNT, REGION), ("111111111111", REGION), (ACCOUNT, "eu-west-1")]
    code = (
        "import os\ndef handler(event, context):\n    return [context.invoked_function_arn, os.environ['AWS_REGION']]\n"
    )
    deploy(platform, code, name=name)

    for account, region in places[1:]:
        client = platform.client(account=account, region=region)
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.invoke(FunctionName=name)
        deploy(platform, code, name=name, client=client)

    for account, region in places:
        outcome = call(platform, name, client=platform.client(account=account, region=region))
        assert outcome.payload == [arn(name, account=account, region=region), region]
