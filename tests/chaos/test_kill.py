"""kill -9 of each part, and of two at once, under twenty invocations in flight."""

from __future__ import annotations

import random

import pytest

from tests.chaos.aftermath import all_ran, works_again
from tests.chaos.conftest import ROUNDS, Victim
from tests.chaos.load import Load
from tests.chaos.truth import Truth

FAULTS = {
    "worker": ("worker",),
    "controller": ("controller",),
    "background": ("controller.background",),
    "redis": ("redis",),
    "worker and redis": ("worker", "redis"),
}


@pytest.mark.timeout(60 + 60 * ROUNDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_killed_part_harms_no_accepted_work(victim: Victim, rng: random.Random, fault: str) -> None:
    platform = victim.platform
    for number in range(ROUNDS):
        with Load(platform, victim.sleeper, victim.recorder, rng) as load:
            platform.wait_until(lambda load=load: load.in_flight >= 14, "calls are in flight")
            load.wait(rng.uniform(0.2, 1.5))
            for part in FAULTS[fault]:
                platform.kill(part)
            load.wait(rng.uniform(0.2, 1.0))
        print(f"round {number}, {fault}: {load.summary()}")

        load.check(may_be_cut_off=fault == "controller")
        works_again(platform, victim.sleeper)
        Truth(platform).check()
        all_ran(platform, victim.recorder, load.accepted)
