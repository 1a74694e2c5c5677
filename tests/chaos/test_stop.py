"""The platform, or its worker, is told to stop; and the platform vanishes as a whole."""

from __future__ import annotations

import json
import random
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.aftermath import all_ran, send_event, works_again
from tests.chaos.conftest import Victim
from tests.chaos.functions import RECORDER, SLEEPER
from tests.chaos.truth import Truth
from tests.platform_under_test import Platform

CALLS = 12
EVENTS = 8


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that a test may stop, start and crash, as long as it serves in the end."""
    made = Platform(Path(tmp_path_factory.mktemp("stopped")))
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_invocations_that_run_when_the_worker_is_told_to_stop_finish(victim: Victim, rng: random.Random) -> None:
    platform = victim.platform

    with ThreadPoolExecutor(CALLS) as threads:
        calls = [threads.submit(_call, platform, victim.sleeper, rng.uniform(1.0, 2.0)) for _ in range(CALLS)]
        platform.wait_until(lambda: _held(platform) == CALLS, "all run")
        platform.signal("worker", signal.SIGTERM)
        answers = [call.result(timeout=40) for call in calls]

    assert answers == ["mine"] * CALLS
    works_again(platform, victim.sleeper, within_s=20)
    Truth(platform).check()


@pytest.mark.timeout(180)
def test_a_stop_finishes_what_runs_and_keeps_what_is_queued(platform: Platform, rng: random.Random) -> None:
    sleeper = platform.create(SLEEPER, MemorySize=128, Timeout=20)
    recorder = platform.create(RECORDER, MemorySize=128, Timeout=20)
    # Slower than they come: most of them still wait in the queue at the stop.
    platform.client().put_function_concurrency(FunctionName=recorder, ReservedConcurrentExecutions=1)
    events = [send_event(platform, recorder, sleep_s=0.3) for _ in range(EVENTS)]

    with ThreadPoolExecutor(CALLS) as threads:
        calls = [threads.submit(_call, platform, sleeper, rng.uniform(1.0, 2.0)) for _ in range(CALLS)]
        platform.wait_until(lambda: _held(platform) >= CALLS, "all run")
        platform.stop()
        answers = [call.result(timeout=5) for call in calls]
    assert answers == ["mine"] * CALLS
    assert _left(platform) == []

    platform.start()

    platform.wait_until(lambda: not _queued(platform), "the queued events have run", timeout_s=60)
    all_ran(platform, recorder, events)
    works_again(platform, sleeper)
    Truth(platform).check()


@pytest.mark.timeout(180)
def test_what_a_vanished_worker_left_is_removed_by_one_of_another_name(platform: Platform) -> None:
    name = platform.create(SLEEPER, MemorySize=128)
    works_again(platform, name)
    left = {container["Id"] for container in platform.containers()}
    assert left

    platform.crash()
    platform.configure(LAMBDOCK_WORKER_ID=f"worker-{uuid.uuid4().hex[:8]}")
    platform.start()

    works_again(platform, name)
    platform.wait_until(
        lambda: left.isdisjoint(container["Id"] for container in platform.containers()),
        "the dead worker's containers are removed",
        timeout_s=40,
    )
    Truth(platform).check()


def _call(platform: Platform, name: str, sleep_s: float) -> str:
    event = json.dumps({"token": "mine", "sleep_s": sleep_s})
    answer = platform.client().invoke(FunctionName=name, Payload=event)
    return str(json.loads(answer["Payload"].read())["token"])


def _held(platform: Platform) -> int:
    with platform.redis() as connection:
        return sum(connection.scard(platform.key(f"held:{instance}")) for instance in platform.instances())


def _queued(platform: Platform) -> int:
    with platform.redis() as connection:
        return sum(1 for _ in connection.scan_iter(platform.key("event:*")))


def _left(platform: Platform) -> list[str]:
    """Return what a stopped platform has left on the engine and the disk, apart from its state."""
    lives = [str(life) for root in ("run", "tmp") for life in (platform.state_dir / root).glob("*/*/*/*")]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(platform.state_dir) in line]
    loops = [
        str(file)
        for file in Path("/sys/block").glob("loop*/loop/backing_file")
        if str(platform.state_dir) in file.read_text()
    ]
    return [str(container["Names"]) for container in platform.containers()] + lives + mounts + loops
