"""What must hold after any fault, apart from the counts."""

from __future__ import annotations

import json
from collections.abc import Iterable

import botocore.exceptions as boto

from tests.platform_under_test import Platform


def works_again(platform: Platform, sleeper: str, *, within_s: float = 8.0) -> None:
    """The next invocation works, within seconds."""
    client = platform.client(read_timeout=20)
    event = json.dumps({"token": "next", "sleep_s": 0})

    def works() -> bool:
        try:
            answer = client.invoke(FunctionName=sleeper, Payload=event)
        except (boto.ClientError, boto.BotoCoreError):
            return False
        return bool(json.loads(answer["Payload"].read())["token"] == "next")

    platform.wait_until(works, "the next invocation works", timeout_s=within_s)


def all_ran(platform: Platform, recorder: str, accepted: Iterable[str]) -> None:
    """Every accepted event has run at least once: its function says so in its log."""
    ran = {line.split()[1] for line in platform.logs(recorder) if line.startswith("ran ")}
    expected = list(accepted)
    lost = [event for event in expected if event not in ran]
    assert not lost, f"{len(lost)} of {len(expected)} accepted events never ran: {lost[:5]}"


def send_event(platform: Platform, name: str, **event: object) -> str:
    """Send one asynchronous event and return its id."""
    answer = platform.client().invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    assert answer["StatusCode"] == 202
    return str(answer["ResponseMetadata"]["RequestId"])
