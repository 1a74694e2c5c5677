"""What the chaos suite shares: its rounds, its repeatable chance, and a platform that is there to be broken."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.functions import RECORDER, SLEEPER
from tests.platform_under_test import Platform

ROUNDS = int(os.environ.get("LAMBDOCK_CHAOS_ROUNDS", "2"))
SEED = os.environ.get("LAMBDOCK_CHAOS_SEED") or secrets.token_hex(4)


def pytest_report_header() -> str:
    """Print what makes this run repeatable."""
    return f"chaos: LAMBDOCK_CHAOS_SEED={SEED} LAMBDOCK_CHAOS_ROUNDS={ROUNDS}"


@dataclass(frozen=True, slots=True)
class Victim:
    """A platform, and the two functions that are called while it is broken."""

    platform: Platform
    sleeper: str
    recorder: str


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance that depends on the seed and the test's name alone, not on the order of the tests."""
    print(f"LAMBDOCK_CHAOS_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One platform for all faults from which it recovers by itself."""
    platform = Platform(Path(tmp_path_factory.mktemp("victim")))
    platform.start()
    try:
        yield Victim(
            platform,
            sleeper=platform.create(SLEEPER, MemorySize=128, Timeout=20),
            recorder=platform.create(RECORDER, MemorySize=128, Timeout=20),
        )
    finally:
        platform.stop()
