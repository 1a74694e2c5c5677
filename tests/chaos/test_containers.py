"""A function's container ends by somebody else's hand."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import pytest

from tests.chaos.aftermath import works_again
from tests.chaos.conftest import Victim
from tests.chaos.functions import SLEEPER
from tests.chaos.truth import Truth
from tests.platform_under_test import Platform

IDLE_FAULTS = ("kill", "remove")


@pytest.mark.parametrize("fault", IDLE_FAULTS)
def test_an_idle_container_that_was_taken_away_is_replaced(victim: Victim, fault: str) -> None:
    platform = victim.platform
    name = platform.create(SLEEPER, MemorySize=128)
    works_again(platform, name)

    _strike(platform, name, fault)

    works_again(platform, name)
    Truth(platform).check()


@pytest.mark.parametrize("fault", IDLE_FAULTS)
def test_an_invocation_whose_container_was_taken_away_ends_as_an_exit(
    victim: Victim, rng: random.Random, fault: str
) -> None:
    platform = victim.platform
    name = platform.create(SLEEPER, MemorySize=128, Timeout=30)
    works_again(platform, name)

    def call() -> Any:
        return platform.client().invoke(FunctionName=name, Payload=json.dumps({"token": "t", "sleep_s": 10}))

    with ThreadPoolExecutor() as threads, platform.redis() as connection:
        answer = threads.submit(call)
        held = platform.key(f"held:{next(iter(platform.instances()))}")
        platform.wait_until(lambda: bool(connection.scard(held)), "it runs")
        _strike(platform, name, fault)
        ended = answer.result(timeout=10)

    assert ended["FunctionError"] == "Unhandled"
    assert json.loads(ended["Payload"].read())["errorType"] == "Runtime.ExitError"
    works_again(platform, name)
    Truth(platform).check()


def _strike(platform: Platform, name: str, fault: str) -> None:
    engine = docker.from_env()
    try:
        for container in engine.api.containers(
            filters={"label": [f"lambdock={platform.cell}", f"lambdock.function={name}"]}
        ):
            if fault == "kill":
                engine.api.kill(container["Id"])
            else:
                engine.api.remove_container(container["Id"], force=True, v=True)
    finally:
        engine.close()
