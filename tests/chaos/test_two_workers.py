"""Two workers and two controllers of one `lambdock serve`: shared load, exact limits, and the loss of either."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.limited import SPAN, LimitedLoad
from tests.chaos.truth import Truth
from tests.platform_under_test import Platform

LIMIT = 4
CALLERS = 12


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = Platform(Path(tmp_path_factory.mktemp("two")), LAMBDOCK_WORKERS="2", LAMBDOCK_CONTROLLERS="2")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def limited(platform: Platform) -> Iterator[LimitedLoad]:
    """Three times as many callers as may run, of a function of this test's own."""
    name = platform.create(SPAN, MemorySize=128, Timeout=20)
    platform.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=LIMIT)
    # As often as boto3 does by itself: a controller that ends takes several connections of the client's pool with it.
    client = platform.client(retries={"mode": "legacy", "total_max_attempts": 5}, read_timeout=60)
    yield LimitedLoad(client, name, CALLERS)
    platform.client().delete_function(FunctionName=name)


def environments(platform: Platform, function: str) -> Counter[str]:
    """Count the function's sandboxes by their worker."""
    found = [item["Labels"] for item in platform.containers()]
    return Counter(labels["lambdock.worker"] for labels in found if labels.get("lambdock.function") == function)


def told(platform: Platform) -> set[int]:
    """Return the process ids of the controllers that `/health` names."""
    return {item["pid"] for item in platform.health().get("controllers", {}).values()}


def test_workers_share_the_load_and_keep_the_limit_together(platform: Platform, limited: LimitedLoad) -> None:
    with limited:
        platform.wait_until(limited.more_succeed(40), "40 invocations", timeout_s=60)
        shares = environments(platform, limited.function)

    # Three times as many callers, and never more at once: what was too much was throttled, or waited between attempts.
    limited.check(LIMIT)
    assert sorted(shares.values()) == [LIMIT // 2, LIMIT // 2]
    Truth(platform).check()


def test_the_loss_of_a_worker_costs_its_own_invocations_only(platform: Platform, limited: LimitedLoad) -> None:
    victim = platform.part_pids("worker")[1]
    before = platform.instances()
    with limited:
        platform.wait_until(limited.more_succeed(20), "the load runs", timeout_s=60)
        os.kill(victim, signal.SIGKILL)
        # On the worker that is left, while the other one is started again.
        platform.wait_until(limited.more_succeed(20), "the load goes on")
        platform.wait_until(lambda: len(platform.instances() - before) == 1, "the worker begins another life")
        platform.wait_until(limited.more_succeed(20), "the load goes on with both")

    limited.check(LIMIT, allowed=("ok", "throttled", "5xx"))
    # Those that it was running, and whoever was being handed to it.
    assert limited.ends.count("5xx") <= LIMIT
    assert len(platform.instances() & before) == 1, "the other worker has lost its life, too"
    Truth(platform).check()


def test_a_worker_that_is_told_to_stop_loses_nothing(platform: Platform, limited: LimitedLoad) -> None:
    before = platform.instances()
    with limited:
        platform.wait_until(limited.more_succeed(20), "the load runs", timeout_s=60)
        os.kill(platform.part_pids("worker")[0], signal.SIGTERM)
        platform.wait_until(lambda: len(platform.instances() - before) == 1, "the worker begins another life")
        platform.wait_until(limited.more_succeed(20), "the load goes on")

    limited.check(LIMIT)
    Truth(platform).check()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_other_controller_serves_while_one_is_gone(
    platform: Platform, limited: LimitedLoad, number: signal.Signals
) -> None:
    victim = platform.part_pids("controller")[0]
    with limited:
        platform.wait_until(limited.more_succeed(20), "the load runs", timeout_s=60)
        os.kill(victim, number)
        platform.wait_until(limited.more_succeed(20), "the load goes on")
        platform.wait_until(lambda: len(platform.part_pids("controller")) == 2, "it is started again")

    limited.check(LIMIT, allowed=("ok", "throttled", "5xx") if number == signal.SIGKILL else ("ok", "throttled"))
    platform.wait_until(
        lambda: told(platform) == set(platform.part_pids("controller")), "health tells of both, and of no other"
    )
    Truth(platform).check()
