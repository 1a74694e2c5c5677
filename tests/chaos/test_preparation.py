"""kill -9 while functions are created and updated: nothing stays Pending, and no stale code runs."""

from __future__ import annotations

import json
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.exceptions as boto
import pytest

from tests.chaos.aftermath import works_again
from tests.chaos.conftest import Victim
from tests.chaos.functions import answering
from tests.chaos.truth import Truth
from tests.platform_under_test import ROLE, RUNTIME, Platform, package

PARTS = ("controller", "controller.background", "worker")
FUNCTIONS = 3
#: The sweep asks again within 10 s for what a crash has left half done; a worker starts in a few more.
SETTLED_S = 40.0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("part", PARTS)
def test_what_a_kill_interrupts_settles_and_nothing_stale_runs(victim: Victim, rng: random.Random, part: str) -> None:
    platform = victim.platform
    with ThreadPoolExecutor(2 * FUNCTIONS + 1) as threads:
        old = list(threads.map(lambda _: platform.create(answering("one"), MemorySize=128), range(FUNCTIONS)))
        list(threads.map(lambda name: _answers(platform, name), old))
        new = [f"f-{uuid.uuid4().hex[:12]}" for _ in range(FUNCTIONS)]

        # Each kill meets as many moments of a creation, and of an update, as there are functions.
        changes = {name: threads.submit(_create, platform, name, rng.uniform(0, 0.4)) for name in new}
        changes |= {name: threads.submit(_update, platform, name, rng.uniform(0, 0.4)) for name in old}
        threads.submit(_kill, platform, part, rng.uniform(0.05, 0.4)).result()
        ends = {name: change.result() for name, change in changes.items()}
    assert set(ends.values()) <= {"done", "5xx", "cut off"}, ends

    works_again(platform, victim.sleeper)
    for name in filter(lambda name: _exists(platform, name), new):
        _settle(platform, name, "State", "Pending")
        assert _configuration(platform, name)["State"] == "Active"
        assert _answers(platform, name) == {"one"}
    for name in old:
        _settle(platform, name, "LastUpdateStatus", "InProgress")
        assert _configuration(platform, name)["LastUpdateStatus"] == "Successful"
        # A caller who was cut off can't know; everybody else's update is what runs.
        assert _answers(platform, name) in ([{"two"}] if ends[name] == "done" else [{"one"}, {"two"}])
    lost = [name for name in new if ends[name] == "done" and not _exists(platform, name)]
    assert not lost, f"created, and gone: {lost}"
    for name in (*old, *new):
        if _exists(platform, name):
            platform.client().delete_function(FunctionName=name)
    Truth(platform).check()


def _kill(platform: Platform, part: str, after_s: float) -> None:
    _pause(after_s)
    platform.kill(part)


def _create(platform: Platform, name: str, after_s: float) -> str:
    _pause(after_s)
    return _end(
        lambda: platform.client().create_function(
            FunctionName=name,
            Code={"ZipFile": package(answering("one"))},
            Runtime=RUNTIME,
            Handler="app.handler",
            Role=ROLE,
            MemorySize=128,
        )
    )


def _update(platform: Platform, name: str, after_s: float) -> str:
    _pause(after_s)
    code = package(answering("two"))
    return _end(lambda: platform.client().update_function_code(FunctionName=name, ZipFile=code))


def _end(work: Any) -> str:
    try:
        work()
    except boto.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return "5xx" if status >= 500 else str(error)
    except boto.BotoCoreError:
        return "cut off"
    return "done"


def _exists(platform: Platform, name: str) -> bool:
    try:
        _configuration(platform, name)
    except boto.ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return False
        raise
    return True


def _configuration(platform: Platform, name: str) -> dict[str, Any]:
    return dict(platform.client().get_function_configuration(FunctionName=name))


def _settle(platform: Platform, name: str, field: str, unsettled: str) -> None:
    platform.wait_until(
        lambda: _configuration(platform, name)[field] != unsettled,
        f"{name} is no longer {unsettled}",
        timeout_s=SETTLED_S,
    )


def _answers(platform: Platform, name: str) -> set[str]:
    """Invoke as often as it takes to meet every environment that there may be."""
    client = platform.client()

    def call() -> str:
        return str(json.loads(client.invoke(FunctionName=name)["Payload"].read()))

    with ThreadPoolExecutor(2) as threads:
        return {future.result() for future in [threads.submit(call) for _ in range(4)]}


def _pause(seconds: float) -> None:
    """Let a part of the schedule pass; nothing is waited for."""
    threading.Event().wait(seconds)
