"""A life knows by itself when nobody can count on it any more."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from contract.bus.operations import LEASE_MS, Registration
from tests.fakes.recording_operations import RecordingOperations
from worker.loop import Life


def new_life() -> Life:
    operations: Any = RecordingOperations()
    return Life(operations, Registration(instance="w@1", epoch=1, predecessors=()))


async def may_run(life: Life) -> bool:
    waiting = asyncio.create_task(life.authority())
    for _ in range(3):
        await asyncio.sleep(0)
    is_allowed = waiting.done()
    waiting.cancel()
    return is_allowed


async def test_a_life_has_authority_from_its_first_heartbeat_on() -> None:
    life = new_life()
    assert not await may_run(life)

    life.renew(time.monotonic())

    assert await may_run(life)


async def test_authority_ends_a_lease_after_the_last_heartbeat_was_sent() -> None:
    life = new_life()

    life.renew(time.monotonic() - LEASE_MS / 1000)

    assert not await may_run(life)


async def test_whoever_waits_goes_on_when_the_lease_is_renewed() -> None:
    life = new_life()
    waiting = asyncio.create_task(life.authority())
    await asyncio.sleep(0)

    life.renew(time.monotonic() - LEASE_MS / 1000)
    await asyncio.sleep(0)
    assert not waiting.done()
    life.renew(time.monotonic())

    async with asyncio.timeout(1):
        await waiting
