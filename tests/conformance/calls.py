"""What the tests of this folder call functions with, and how they read the answers."""

from __future__ import annotations

import base64
import json
import os
import signal
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.platform_under_test import ROLE, RUNTIME, Platform, package

ACCOUNT, REGION = "000000000000", "us-east-1"
#: botocore's waiters, without their pauses.
FAST = {"Delay": 0, "MaxAttempts": 5000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a caller sees of one invocation."""

    request_id: str
    raw: bytes
    #: `X-Amz-Function-Error`.
    error: str | None
    version: str
    #: Decoded `X-Amz-Log-Result`.
    tail: str

    @property
    def payload(self) -> Any:
        return json.loads(self.raw)

    @property
    def report(self) -> dict[str, str]:
        """The fields of the REPORT line, by their names."""
        (line,) = [line for line in self.tail.splitlines() if line.startswith("REPORT ")]
        return dict(field.split(": ", 1) for field in line.removeprefix("REPORT ").split("\t") if field)


def call(platform: Platform, name: str, event: Any = None, *, client: Any = None, **parameters: Any) -> Outcome:
    """Invoke with LogType=Tail; an event that is bytes goes as it is."""
    payload = event if isinstance(event, bytes) else json.dumps(event).encode()
    answer = (client or platform.client()).invoke(
        FunctionName=name, Payload=payload, **({"LogType": "Tail"} | parameters)
    )
    return Outcome(
        request_id=answer["ResponseMetadata"]["RequestId"],
        raw=answer["Payload"].read(),
        error=answer.get("FunctionError"),
        version=answer.get("ExecutedVersion", ""),
        tail=base64.b64decode(answer.get("LogResult", "")).decode(),
    )


def deploy(
    platform: Platform, code: str | Mapping[str, str], *, name: str = "", client: Any = None, **parameters: Any
) -> str:
    """Create a Python function, and wait until it is Active without a waiter's pauses; return its name."""
    client = client or platform.client()
    name = name or f"f-{unique()[:12]}"
    wanted = {"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE, "MemorySize": 512} | parameters
    client.create_function(FunctionName=name, Code={"ZipFile": package(code)}, **wanted)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    return name


def update_code(platform: Platform, name: str, code: str) -> None:
    """Update a function's code, and wait until that is Successful."""
    client = platform.client()
    client.update_function_code(FunctionName=name, ZipFile=package(code))
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)


def publish(platform: Platform, name: str) -> str:
    """Publish a version and wait until it can be invoked; return its number."""
    client = platform.client()
    version: str = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version, WaiterConfig=FAST)
    return version


def arn(name: str, qualifier: str = "", *, account: str = ACCOUNT, region: str = REGION) -> str:
    return f"arn:aws:lambda:{region}:{account}:function:{name}" + (f":{qualifier}" if qualifier else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error of the API."""

    status: int
    code: str
    message: str
    body: dict[str, Any]
    headers: dict[str, str]


def refusal(call_: Any, **arguments: Any) -> Refusal:
    """Make a call that must be refused; return how."""
    with pytest.raises(ClientError) as caught:
        call_(**arguments)
    answer = caught.value.response
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-errortype"] == answer["Error"]["Code"]
    assert headers["x-amzn-requestid"]
    return Refusal(
        status=answer["ResponseMetadata"]["HTTPStatusCode"],
        code=answer["Error"]["Code"],
        message=answer["Error"]["Message"],
        body=answer,
        headers=headers,
    )


def log_messages(platform: Platform, name: str) -> list[str]:
    """Return a function's whole log, as the platform keeps it."""
    messages, cursor = [], ""
    while True:
        answer = httpx.get(
            f"{platform.endpoint}/_lambdock/logs/{name}", params={"cursor": cursor, "limit": 1000}, timeout=10
        ).json()
        messages += [event["message"] for event in answer["events"]]
        if not answer["events"]:
            return messages
        cursor = answer["cursor"]


def wait_for_log(platform: Platform, name: str, text: str, count: int = 1) -> list[str]:
    """Wait until that many lines of the function's log contain the text; return the log."""
    seen: list[str] = []

    def arrived() -> bool:
        seen[:] = log_messages(platform, name)
        return sum(text in message for message in seen) >= count

    platform.wait_until(arrived, f"{count} lines of {name}'s log contain {text!r}")
    return seen


@contextmanager
def nobody_prepares(platform: Platform) -> Iterator[None]:
    """Hold the platform's background process: what is Pending or InProgress stays so meanwhile."""
    pid = platform.part_pid("controller.background")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def unique() -> str:
    return uuid.uuid4().hex
