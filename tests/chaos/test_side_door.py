"""Functions that call functions while controllers die under them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.platform_under_test import Platform

#: Calls another function for a while, as often as it can, and prints how each call ended.
CALLS = """
import boto3, json, time
from botocore.config import Config

def handler(event, context):
    client = boto3.client("lambda", config=Config(retries={"mode": "standard", "total_max_attempts": 8}))
    until = time.monotonic() + event["s"]
    ends = {}
    while time.monotonic() < until:
        try:
            end = json.load(client.invoke(FunctionName=event["callee"], Payload=b'"x"')["Payload"])
        except Exception as error:
            end = f"{type(error).__name__}: {error}"
        ends[end] = ends.get(end, 0) + 1
        if sum(ends.values()) % 10 == 0:
            print("ENDS " + json.dumps(ends))
    print("LAST " + json.dumps(ends))
"""
ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    running = Platform(tmp_path / "platform", LAMBDOCK_CONTROLLERS="2")
    running.start()
    yield running
    running.stop()


def test_calls_of_functions_survive_the_loss_of_any_controller_and_of_all(platform: Platform) -> None:
    callee = platform.create(ECHO, MemorySize=128)
    caller = platform.create(CALLS, MemorySize=256, Timeout=60)
    event = json.dumps({"callee": callee, "s": 15})
    platform.client().invoke(FunctionName=caller, InvocationType="Event", Payload=event)

    def said(mark: str) -> list[dict[str, int]]:
        """Ask for the log, but not for long: the controller that is asked may just have died."""
        try:
            url = f"{platform.endpoint}/_lambdock/logs/{caller}"
            events = httpx.get(url, params={"limit": 1000}, timeout=1).json()["events"]
        except httpx.HTTPError:
            return []
        lines = [event["message"] for event in events]
        return [json.loads(line.split(mark, 1)[1]) for line in lines if mark in line]

    def has_called(times: int) -> bool:
        ends = said("ENDS ")
        return bool(ends) and ends[-1].get("x", 0) >= times

    platform.wait_until(lambda: has_called(20), "calls go through")
    so_far = said("ENDS ")[-1]["x"]
    os.kill(platform.part_pids("controller")[0], signal.SIGKILL)
    platform.wait_until(lambda: has_called(so_far + 50), "calls go through the other controller")
    for pid in platform.part_pids("controller"):
        os.kill(pid, signal.SIGKILL)

    platform.wait_until(lambda: bool(said("LAST ")), "the caller has ended", timeout_s=60)
    (ends,) = said("LAST ")

    assert set(ends) == {"x"}, ends
