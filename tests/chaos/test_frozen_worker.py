"""A worker that stops for longer than its lease, and comes back as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import botocore.exceptions as boto
import docker

from tests.chaos.aftermath import works_again
from tests.chaos.conftest import Victim
from tests.chaos.functions import TIMEKEEPER
from tests.chaos.truth import Truth
from tests.platform_under_test import Platform

FROZEN_S = 8.0
LIMIT = 2


def test_a_frozen_worker_is_fenced_and_no_limit_is_exceeded(victim: Victim, rng: random.Random) -> None:
    platform = victim.platform
    name = platform.create(TIMEKEEPER, MemorySize=128, Timeout=30)
    platform.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=LIMIT)
    before = platform.instances()

    with _callers(platform, name, rng) as ends, _sampled(platform, name) as running:
        platform.wait_until(lambda: max(running, default=0) == LIMIT, "the function runs at its limit")
        platform.signal("worker", signal.SIGSTOP)
        frozen_at = time.monotonic()
        platform.wait_until(lambda: time.monotonic() - frozen_at > FROZEN_S, "frozen", timeout_s=FROZEN_S + 1)
        # Answered while the worker could not have done it.
        assert any(end == "5xx" for end in ends), "nobody who called the frozen worker was answered"
        platform.signal("worker", signal.SIGCONT)
        platform.wait_until(lambda: "ok" in ends[-LIMIT:], "invocations succeed again", timeout_s=20)

    assert set(ends) <= {"ok", "5xx", "throttled"}, ends
    assert max(running) <= LIMIT, f"{max(running)} environments of a function whose limit is {LIMIT}"
    assert _most_at_once(platform.logs(name)) <= LIMIT
    assert platform.instances().isdisjoint(before), "the worker has not begun a new life"
    works_again(platform, victim.sleeper)
    Truth(platform).check()


@contextmanager
def _callers(platform: Platform, name: str, rng: random.Random) -> Iterator[list[str]]:
    """Call all the time, one more at once than may run."""
    ends: list[str] = []
    stopping = threading.Event()
    client = platform.client(read_timeout=30)

    def repeat(sleep_s: float) -> None:
        while not stopping.is_set():
            try:
                answer = client.invoke(FunctionName=name, Payload=json.dumps({"sleep_s": sleep_s}))
                ends.append("function error" if "FunctionError" in answer else "ok")
            except boto.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                ends.append("throttled" if status == 429 else "5xx" if status >= 500 else str(error))
                stopping.wait(0.2)
            except boto.BotoCoreError as error:
                ends.append(repr(error))

    threads = [threading.Thread(target=repeat, args=(rng.uniform(1.0, 2.0),), daemon=True) for _ in range(LIMIT + 1)]
    for thread in threads:
        thread.start()
    try:
        yield ends
    finally:
        stopping.set()
        for thread in threads:
            thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads), "callers hang"


@contextmanager
def _sampled(platform: Platform, name: str) -> Iterator[list[int]]:
    """Count the function's running sandboxes, several times a second: each runs at most one invocation."""
    counts: list[int] = []
    stopping = threading.Event()
    labels = [f"lambdock={platform.cell}", f"lambdock.function={name}"]

    def sample() -> None:
        engine = docker.from_env()
        while not stopping.wait(0.1):
            counts.append(len(engine.api.containers(filters={"label": labels, "status": "running"})))
        engine.close()

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield counts
    finally:
        stopping.set()
        thread.join(timeout=10)


def _most_at_once(lines: list[str]) -> int:
    """Return how many invocations ran at once, by what they have told of themselves."""
    spans: dict[str, tuple[float, float]] = {}
    for line in lines:
        if line.startswith(("began ", "alive ")):
            _, request, at = line.split()
            first, last = spans.get(request, (float(at), float(at)))
            spans[request] = (min(first, float(at)), max(last, float(at)))
    edges = sorted([(start, 1) for start, _ in spans.values()] + [(end, -1) for _, end in spans.values()])
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most
