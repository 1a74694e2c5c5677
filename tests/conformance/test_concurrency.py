"""Limits of concurrency: at no instant do more invocations run than the limit allows, and events wait for room."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.conformance.calls import (
    ACCOUNT,
    FAST,
    REGION,
    arn,
    call,
    deploy,
    log_messages,
    refusal,
    unique,
    wait_for_log,
)
from tests.platform_under_test import Platform

#: All containers of a machine share this clock.
RECORDS = """
import time
def handler(event, context):
    began = time.monotonic()
    time.sleep(event["seconds"])
    record = [began, time.monotonic()]
    print("RECORD", *record, event.get("id"))
    return record
"""


@pytest.fixture(scope="module")
def records(platform: Platform) -> str:
    """A function of two environments at most, which both are warm."""
    name = deploy(platform, RECORDS, MemorySize=256, Timeout=30)
    platform.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    return name


def most_at_once(intervals: list[tuple[float, float]]) -> int:
    """Return how many of the intervals overlap at the worst instant."""
    changes = sorted([(end, -1) for _, end in intervals] + [(begin, 1) for begin, _ in intervals])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def test_no_more_than_the_reserved_concurrency_runs_and_the_rest_is_throttled(platform: Platform, records: str) -> None:
    client = platform.client()
    call(platform, records, {"seconds": 0})

    def one(_: int) -> Any:
        try:
            return json.loads(client.invoke(FunctionName=records, Payload=b'{"seconds": 1.5}')["Payload"].read())
        except ClientError as error:
            return error.response

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(one, range(20)))

    intervals = [(answer[0], answer[1]) for answer in answers if isinstance(answer, list)]
    throttled = [answer for answer in answers if isinstance(answer, dict)]
    assert len(intervals) == 2
    assert most_at_once(intervals) == 2
    assert len(throttled) == 18
    for answer in throttled:
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert answer["Error"] == {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}
        assert answer["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert answer["Type"] == "User"
        assert int(answer["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) >= 1
    assert call(platform, records, {"seconds": 0}).error is None


def test_events_over_the_limit_stay_queued_and_all_of_them_run(platform: Platform) -> None:
    name = deploy(platform, RECORDS, MemorySize=256, Timeout=30)
    client = platform.client()
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)

    def send(number: int) -> int:
        payload = json.dumps({"seconds": 0.05, "id": number})
        status: int = client.invoke(FunctionName=name, InvocationType="Event", Payload=payload)["StatusCode"]
        return status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(send, range(50)))

    assert statuses == [202] * 50
    wait_for_log(platform, name, "RECORD", 50)
    found = [message.split() for message in log_messages(platform, name) if message.startswith("RECORD")]
    assert sorted(int(words[3]) for words in found) == list(range(50))
    assert most_at_once([(float(words[1]), float(words[2])) for words in found]) <= 2


def test_a_reserved_concurrency_of_0_switches_a_function_off_until_it_is_raised(platform: Platform, echo: str) -> None:
    name = deploy(platform, "def handler(event, context):\n    print('ran', event)\n    return event\n")
    client = platform.client()
    assert call(platform, name, 1).payload == 1

    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)

    answer = refusal(client.invoke, FunctionName=name)
    assert (answer.status, answer.code) == (429, "TooManyRequestsException")
    assert answer.body["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert call(platform, echo, 1).payload == 1

    client.delete_function_concurrency(FunctionName=name)
    assert call(platform, name, 2).payload == 2


def test_the_limit_counts_for_all_versions_of_a_function_together(platform: Platform) -> None:
    name = deploy(platform, RECORDS, MemorySize=256, Timeout=30)
    client = platform.client()
    client.publish_version(FunctionName=name)
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1", WaiterConfig=FAST)
    call(platform, name, {"seconds": 0})
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(call, platform, name, {"seconds": 2})
        wait_for_log(platform, name, "START RequestId", 2)
        answer = refusal(client.invoke, FunctionName=f"{name}:1")
        assert not running.done()
        assert running.result().error is None

    assert answer.body["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert call(platform, f"{name}:1", {"seconds": 0}).error is None


def test_a_function_deleted_while_it_runs_finishes_and_is_gone(platform: Platform) -> None:
    name = deploy(platform, RECORDS, MemorySize=256, Timeout=30)
    client = platform.client()

    def mine() -> list[Any]:
        return [found for found in platform.containers() if found["Labels"].get("lambdock.function") == name]

    with ThreadPoolExecutor(1) as threads:
        call(platform, name, {"seconds": 0})
        running = threads.submit(call, platform, name, {"seconds": 1.5})
        wait_for_log(platform, name, "START RequestId", 2)
        client.delete_function(FunctionName=name)
        answer = refusal(client.invoke, FunctionName=name)
        assert not running.done()
        outcome = running.result()

    assert (answer.status, answer.message) == (404, f"Function not found: {arn(name)}")
    assert outcome.error is None
    platform.wait_until(lambda: not mine(), "its environments are gone")


def test_an_event_for_a_function_made_again_under_its_name_runs(platform: Platform) -> None:
    code = "def handler(event, context):\n    print('{0} got', event)\n"
    name, client = deploy(platform, code.format("old")), platform.client()
    call(platform, name, 1)
    client.delete_function(FunctionName=name)
    deploy(platform, code.format("new"), name=name)

    client.invoke(FunctionName=name, InvocationType="Event", Payload=b"2")

    wait_for_log(platform, name, "new got 2")


def test_a_caller_that_hangs_up_gives_its_slot_back_when_the_function_ends(platform: Platform) -> None:
    name = deploy(platform, RECORDS, MemorySize=256, Timeout=30)
    client = platform.client()
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    url = f"{platform.endpoint}/2015-03-31/functions/{name}/invocations"

    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, content=b'{"seconds": 1.5, "id": "left"}', timeout=0.9)
    refused = refusal(client.invoke, FunctionName=name)

    assert refused.status == 429
    messages = wait_for_log(platform, name, "REPORT RequestId")
    assert any(message.startswith("RECORD") and message.endswith("left") for message in messages)
    platform.wait_until(lambda: _runs(client, name), "the slot is free")


def _runs(client: Any, name: str) -> bool:
    try:
        client.invoke(FunctionName=name, Payload=b'{"seconds": 0}')
    except client.exceptions.TooManyRequestsException:
        return False
    return True


def test_a_function_made_again_under_its_name_shares_nothing_with_the_old_one(platform: Platform) -> None:
    name = f"f-{unique()[:12]}"
    code = "import os\ndef handler(event, context):\n    open('/tmp/{0}', 'w').close()\n    return os.listdir('/tmp')\n"
    deploy(platform, code.format("old"), name=name)
    client = platform.client()
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    assert "old" in call(platform, name).payload
    client.delete_function(FunctionName=name)

    deploy(platform, code.format("new"), name=name)

    files = call(platform, name).payload
    assert "new" in files
    assert "old" not in files
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=name)


def test_a_limit_of_one_account_or_region_is_none_for_another(platform: Platform) -> None:
    name = f"f-{unique()[:12]}"
    places = [(ACCOUNT, REGION), ("222222222222", REGION), (ACCOUNT, "eu-central-1")]
    clients = [platform.client(account=account, region=region) for account, region in places]
    for client in clients:
        deploy(platform, "def handler(event, context):\n    return event\n", name=name, client=client)

    clients[0].put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)

    assert refusal(clients[0].invoke, FunctionName=name).status == 429
    for client in clients[1:]:
        assert call(platform, name, 1, client=client).payload == 1
        assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000
