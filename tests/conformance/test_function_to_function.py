"""A function calls the Lambda API with the SDK that it has, in its own account whatever it signs with."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.conformance.calls import call, deploy, publish, unique, wait_for_log
from tests.conformance.image_functions import create, pushed_lookalike
from tests.platform_under_test import ROLE, RUNTIME, Platform, package

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

OTHER_ACCOUNT = "111111111111"

#: Makes the calls that its event lists with boto3, as anybody would write it, and tells what each came to.
CALLER = """
import base64, boto3, time
from botocore.config import Config
from botocore.exceptions import ClientError

ONCE = Config(retries={"total_max_attempts": 1})

def handler(event, context):
    client = boto3.client("lambda", config=ONCE, **event.get("client", {}))
    return [attempt(client, *each) for each in event["calls"]]

def attempt(client, operation, arguments):
    arguments = dict(arguments)
    if "ZipFile" in arguments.get("Code", {}):
        arguments["Code"] = {"ZipFile": base64.b64decode(arguments["Code"]["ZipFile"])}
    try:
        answer = getattr(client, operation)(**arguments)
    except ClientError as error:
        answer = error.response
        return {"status": answer["ResponseMetadata"]["HTTPStatusCode"], "error": answer["Error"]["Code"],
                "message": answer["Error"]["Message"]}
    if "Payload" in answer:
        answer["Payload"] = answer["Payload"].read().decode()
    if "LogResult" in answer:
        answer["LogResult"] = base64.b64decode(answer["LogResult"]).decode()
    answer["status"] = answer.pop("ResponseMetadata")["HTTPStatusCode"]
    return answer
"""
CALLEE = """
def handler(event, context):
    print("called with", event)
    if event.get("fail"):
        raise ValueError(event["fail"])
    return {"event": event, "arn": context.invoked_function_arn, "account": context.invoked_function_arn.split(":")[4]}
"""
#: Invokes itself, `depth` times.
RECURSIVE = """
import boto3, json
from botocore.config import Config
client = boto3.client("lambda", config=Config(retries={"total_max_attempts": 1}))
def handler(event, context):
    if event["depth"] == 0:
        return "bottom"
    try:
        answer = client.invoke(FunctionName=context.function_name, Payload=json.dumps({"depth": event["depth"] - 1}))
    except client.exceptions.TooManyRequestsException as error:
        return f"refused at {event['depth']}: {error.response['Reason']}"
    return json.load(answer["Payload"])
"""


@pytest.fixture(scope="module")
def caller(platform: Platform) -> str:
    return deploy(platform, CALLER, Timeout=30)


@pytest.fixture(scope="module")
def callee(platform: Platform) -> str:
    return deploy(platform, CALLEE)


def calls(platform: Platform, caller: str, *each: tuple[str, dict[str, Any]], **event: Any) -> list[Any]:
    """Let the caller make calls; return what each came to."""
    outcome = call(platform, caller, {"calls": each, **event}, client=event.pop("via", None))
    assert outcome.error is None, outcome.payload
    return list(outcome.payload)


def test_a_function_invokes_another_and_gets_all_that_invoke_tells(
    platform: Platform, caller: str, callee: str
) -> None:
    arguments = {"FunctionName": callee, "Payload": json.dumps({"a": "ä"}), "LogType": "Tail"}

    (answer,) = calls(platform, caller, ("invoke", arguments))

    assert (answer["status"], answer["StatusCode"], answer["ExecutedVersion"]) == (200, 200, "$LATEST")
    assert json.loads(answer["Payload"])["event"] == {"a": "ä"}
    assert "called with {'a': 'ä'}" in answer["LogResult"]
    assert "FunctionError" not in answer


def test_the_other_s_failure_is_told_as_such(platform: Platform, caller: str, callee: str) -> None:
    (answer,) = calls(platform, caller, ("invoke", {"FunctionName": callee, "Payload": '{"fail": "broken"}'}))

    assert (answer["status"], answer["FunctionError"]) == (200, "Unhandled")
    failure = json.loads(answer["Payload"])
    assert (failure["errorType"], failure["errorMessage"]) == ("ValueError", "broken")


def test_refusals_are_aws_s(platform: Platform, caller: str) -> None:
    missing, bad = calls(
        platform,
        caller,
        ("invoke", {"FunctionName": "no-such-function"}),
        ("invoke", {"FunctionName": "no-such-function", "Payload": "no JSON"}),
    )

    assert (missing["status"], missing["error"]) == (404, "ResourceNotFoundException")
    assert "function:no-such-function" in missing["message"]
    assert bad["error"] == "InvalidRequestContentException"


def test_an_event_is_accepted_and_runs(platform: Platform, caller: str, callee: str) -> None:
    mark = unique()

    (answer,) = calls(
        platform,
        caller,
        ("invoke", {"FunctionName": callee, "InvocationType": "Event", "Payload": json.dumps({"mark": mark})}),
    )

    assert answer["status"] == 202
    wait_for_log(platform, callee, mark)


def test_5_mb_pass_both_ways(platform: Platform, callee: str) -> None:
    code = """
import boto3, hashlib, json
def handler(event, context):
    sent = json.dumps({"text": "x" * (5 * 2**20)})
    answer = boto3.client("lambda").invoke(FunctionName=event["callee"], Payload=sent)
    got = json.load(answer["Payload"])
    return {"error": answer.get("FunctionError"), "same": got["event"]["text"] == "x" * (5 * 2**20)}
"""
    outcome = call(platform, deploy(platform, code, Timeout=30), {"callee": callee})

    assert (outcome.error, outcome.payload) == (None, {"error": None, "same": True})


def test_a_function_calls_others_while_it_initialises(platform: Platform, callee: str) -> None:
    code = f"""
import boto3, json
ANSWER = json.load(boto3.client("lambda").invoke(FunctionName="{callee}", Payload=b'{{"when": "init"}}')["Payload"])
def handler(event, context):
    return ANSWER["event"]
"""
    assert call(platform, deploy(platform, code, Timeout=30)).payload == {"when": "init"}


def test_recursion_ends_where_the_concurrency_does_and_nothing_waits_for_itself(platform: Platform) -> None:
    name = deploy(platform, RECURSIVE, MemorySize=128, Timeout=30)
    platform.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)

    assert call(platform, name, {"depth": 1}).payload == "bottom"
    throttled = call(platform, name, {"depth": 5}).payload

    assert throttled == "refused at 4: ReservedFunctionConcurrentInvocationLimitExceeded"
    assert call(platform, name, {"depth": 0}).payload == "bottom"


def test_nodejs_s_sdk_calls_as_python_s_does(platform: Platform, callee: str) -> None:
    code = """
const { LambdaClient, InvokeCommand, ListFunctionsCommand } = require("@aws-sdk/client-lambda");
const client = new LambdaClient({ maxAttempts: 1 });
exports.handler = async (event) => {
  const answer = await client.send(new InvokeCommand({
    FunctionName: event.callee, Payload: JSON.stringify({ a: "ä" }), LogType: "Tail" }));
  const queued = await client.send(new InvokeCommand({ FunctionName: event.callee, InvocationType: "Event" }));
  const listed = await client.send(new ListFunctionsCommand({ MaxItems: 1000 }));
  const missing = await client.send(new InvokeCommand({ FunctionName: "no-such-function" })).catch((e) => e.name);
  return {
    answer: JSON.parse(Buffer.from(answer.Payload).toString()).event,
    tail: Buffer.from(answer.LogResult, "base64").toString().includes("called with"),
    queued: queued.StatusCode,
    listed: listed.Functions.some((each) => each.FunctionName === event.callee),
    missing,
  };
};
"""
    name = deploy(platform, {"index.js": code}, Runtime="nodejs22.x", Handler="index.handler", Timeout=30)

    outcome = call(platform, name, {"callee": callee})

    assert outcome.payload == {
        "answer": {"a": "ä"},
        "tail": True,
        "queued": 202,
        "listed": True,
        "missing": "ResourceNotFoundException",
    }


def test_a_container_image_calls_as_any_function_does(platform: Platform, callee: str) -> None:
    with pushed_lookalike(platform, {"app.py": CALLER}) as uri:
        name = create(platform, uri, Timeout=30)

        invoked, missing = calls(
            platform,
            name,
            ("invoke", {"FunctionName": callee, "Payload": '{"a": 1}'}),
            ("invoke", {"FunctionName": "no-such-function"}),
        )

        assert json.loads(invoked["Payload"])["event"] == {"a": 1}
        assert missing["error"] == "ResourceNotFoundException"
        platform.client().delete_function(FunctionName=name)


def names_of(client: Any) -> set[str]:
    """All functions of the client's account; other tests have some, too."""
    pages = client.get_paginator("list_functions").paginate()
    return {function["FunctionName"] for page in pages for function in page["Functions"]}


def test_a_function_manages_functions_of_its_account(platform: Platform, caller: str) -> None:
    name = f"made-{unique()[:12]}"
    code = base64.b64encode(package(CALLEE)).decode()
    creation = {"FunctionName": name, "Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE}
    created, read = calls(
        platform,
        caller,
        ("create_function", creation | {"Code": {"ZipFile": code}}),
        ("get_function_configuration", {"FunctionName": name}),
    )
    platform.client().get_waiter("function_active_v2").wait(FunctionName=name)
    version = publish(platform, name)
    names_before_deletion = names_of(platform.client())

    invoked, gone, after = calls(
        platform,
        caller,
        ("invoke", {"FunctionName": created["FunctionArn"], "Qualifier": version, "Payload": "{}"}),
        ("delete_function", {"FunctionName": name}),
        ("get_function", {"FunctionName": name}),
    )

    assert created["status"] == 201
    assert read["FunctionArn"] == created["FunctionArn"]
    assert name in names_before_deletion
    assert invoked["ExecutedVersion"] == version
    assert "error" not in gone
    assert after["error"] == "ResourceNotFoundException"


def test_whatever_a_function_signs_with_its_account_is_its_own(platform: Platform, callee: str) -> None:
    other = platform.client(account=OTHER_ACCOUNT)
    caller = deploy(platform, CALLER, client=other, Timeout=30)
    theirs = deploy(platform, CALLEE, client=other)
    foreign = f"arn:aws:lambda:us-east-1:000000000000:function:{callee}"
    assert {caller, theirs} <= names_of(other)
    assert callee not in names_of(other)
    each: list[tuple[str, dict[str, Any]]] = [
        ("list_functions", {}),
        ("invoke", {"FunctionName": callee, "Payload": "{}"}),
        ("invoke", {"FunctionName": foreign, "Payload": "{}"}),
        ("delete_function", {"FunctionName": callee}),
        ("get_function", {"FunctionName": foreign}),
        ("invoke", {"FunctionName": theirs, "Payload": "{}"}),
    ]
    for key in ("000000000000", "222222222222", "AKIAIOSFODNN7EXAMPLE", None):
        keys = {"aws_access_key_id": key, "aws_secret_access_key": "x"} if key else {}
        outcome = call(platform, caller, {"calls": each, "client": keys}, client=other)
        listed, by_name, by_arn, deleted, read, own = outcome.payload

        assert {each["FunctionName"] for each in listed["Functions"]} <= names_of(other)
        assert by_name["error"] == deleted["error"] == "ResourceNotFoundException"
        assert by_arn["error"] == read["error"] == "AccessDeniedException"
        assert json.loads(own["Payload"])["account"] == OTHER_ACCOUNT
    assert call(platform, callee, {}).error is None


def test_the_region_is_that_of_the_signature(platform: Platform, caller: str, callee: str) -> None:
    listed, missing = calls(
        platform,
        caller,
        ("list_functions", {}),
        ("invoke", {"FunctionName": callee}),
        client={"region_name": "eu-west-1"},
    )

    assert callee not in {function["FunctionName"] for function in listed["Functions"]}
    assert missing["error"] == "ResourceNotFoundException"


def test_an_unsigned_request_is_refused(platform: Platform) -> None:
    code = """
import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
def handler(event, context):
    try:
        boto3.client("lambda", config=Config(signature_version=UNSIGNED)).list_functions()
    except ClientError as error:
        return [error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]]
"""
    assert call(platform, deploy(platform, code)).payload == [
        403,
        {"Code": "MissingAuthenticationTokenException", "Message": "Missing Authentication Token"},
    ]


@pytest.mark.parametrize(
    ("own", "seen"),
    [
        ({}, {"AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9002"}),
        ({"AWS_ENDPOINT_URL_LAMBDA": "http://x"}, {"AWS_ENDPOINT_URL_LAMBDA": "http://x"}),
        ({"AWS_ENDPOINT_URL": "http://x"}, {"AWS_ENDPOINT_URL": "http://x"}),
    ],
)
def test_a_function_s_own_endpoints_stay(platform: Platform, own: dict[str, str], seen: dict[str, str]) -> None:
    code = "import os\ndef handler(e, c):\n    return {k: v for k, v in os.environ.items() if 'ENDPOINT_URL' in k}"

    assert call(platform, deploy(platform, code, Environment={"Variables": own})).payload == seen


def test_a_time_out_ends_what_a_function_waits_for_and_it_calls_again_afterwards(
    platform: Platform, callee: str
) -> None:
    slow = deploy(platform, "import time\ndef handler(e, c):\n    time.sleep(e['s'])", Timeout=20)
    code = """
import boto3, json
def handler(event, context):
    return boto3.client("lambda").invoke(FunctionName=event["name"], Payload=json.dumps(event))["StatusCode"]
"""
    name = deploy(platform, code, Timeout=3)

    failed = call(platform, name, {"name": slow, "s": 10})
    again = call(platform, name, {"name": callee})

    assert failed.error == "Unhandled"
    assert failed.payload["errorType"] == "Sandbox.Timedout"
    assert (again.error, again.payload) == (None, 200)
