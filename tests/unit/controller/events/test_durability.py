from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contract.bus.connection import RedisReplyError
from contract.bus.redis_bus import COMMAND_TIMEOUT_S
from controller.events import durability as durability_module
from controller.events.durability import Durability, NotDurableError, Promise
from tests.fakes.recording_operations import RecordingBus

APPENDING = {"CONFIG GET appendonly": [b"appendonly", b"yes"]}
HAS_WAITAOF = {"COMMAND INFO WAITAOF": [[b"waitaof"]]}
NO_WAITAOF = {"COMMAND INFO WAITAOF": [None]}


def durability_on(answers: dict[str, Any]) -> tuple[Durability, RecordingBus]:
    bus = RecordingBus()
    bus.answers = answers
    return Durability(bus), bus  # type: ignore[arg-type]


def waits(bus: RecordingBus) -> list[tuple[Any, ...]]:
    return [words for words in bus.commands if words[0] == "WAITAOF"]


async def test_a_server_with_waitaof_is_asked_after_the_write() -> None:
    durability, bus = durability_on(APPENDING | HAS_WAITAOF | {"WAITAOF": [1, 0]})
    await durability.barrier()
    assert waits(bus) == [("WAITAOF", 1, 0, durability_module._WAIT_MS)]


def test_a_slow_disk_is_told_before_the_bus_gives_the_connection_up() -> None:
    assert durability_module._WAIT_MS / 1000 < COMMAND_TIMEOUT_S


@pytest.mark.parametrize("answer", [[0, 0], None, []])
async def test_a_server_that_has_not_synced_in_time_is_no_promise(answer: Any) -> None:
    durability, _ = durability_on(APPENDING | HAS_WAITAOF | {"WAITAOF": answer})
    with pytest.raises(NotDurableError, match="has not synced"):
        await durability.barrier()


async def test_a_server_that_syncs_every_write_needs_no_barrier() -> None:
    durability, bus = durability_on(APPENDING | NO_WAITAOF | {"CONFIG GET appendfsync": [b"appendfsync", b"always"]})
    await durability.barrier()
    assert await durability.check() is Promise.ALWAYS
    assert not waits(bus)


@pytest.mark.parametrize(
    ("answers", "advice"),
    [
        ({"CONFIG GET appendonly": [b"appendonly", b"no"]}, "set `appendonly yes`"),
        ({"CONFIG GET appendonly": []}, "set `appendonly yes`"),
        (APPENDING | NO_WAITAOF | {"CONFIG GET appendfsync": [b"appendfsync", b"everysec"]}, "appendfsync always"),
        ({"CONFIG GET": RedisReplyError("NOPERM")}, "allow CONFIG GET"),
    ],
)
async def test_a_server_that_can_t_promise_is_refused_with_the_setting_to_change(
    answers: dict[str, Any], advice: str
) -> None:
    durability, _ = durability_on(answers)
    with pytest.raises(NotDurableError, match=advice):
        await durability.check()


async def test_a_server_is_asked_once_and_its_successor_again() -> None:
    durability, bus = durability_on(APPENDING | HAS_WAITAOF)
    await durability.check()
    await durability.check()
    assert len(bus.commands) == 2

    bus.run_id = "server-2"
    bus.answers = {"CONFIG GET appendonly": [b"appendonly", b"no"]}
    with pytest.raises(NotDurableError):
        await durability.check()


async def test_all_who_come_during_a_sync_share_the_next_one() -> None:
    durability, bus = durability_on(APPENDING | HAS_WAITAOF | {"WAITAOF": [1, 0]})
    gate = asyncio.Event()
    sync = bus.sync_to_disk

    async def slow(wait_ms: int) -> Any:
        await gate.wait()
        return await sync(wait_ms)

    bus.sync_to_disk = slow  # type: ignore[method-assign]
    first = asyncio.create_task(durability.barrier())
    for _ in range(10):
        await asyncio.sleep(0)
    others = [asyncio.create_task(durability.barrier()) for _ in range(50)]
    for _ in range(10):
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)

    assert len(waits(bus)) == 2
