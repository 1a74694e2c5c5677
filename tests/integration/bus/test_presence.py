"""Controllers that know of each other by Redis."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from controller.presence import Presence
from tests.integration.bus.cell import Cell
from tests.waiting import wait_until

HERE = {"host": socket.gethostname(), "pid": os.getpid()}


@asynccontextmanager
async def serving(cell: Cell, name: str) -> AsyncIterator[Presence]:
    presence = Presence(cell.operations, name)
    running = asyncio.create_task(presence.run())
    try:
        yield presence
    finally:
        running.cancel()
        await asyncio.wait({running})
        await presence.leave()


async def test_a_controller_is_present_from_its_first_word_until_it_leaves(cell: Cell) -> None:
    async with serving(cell, "a") as first:

        async def told() -> list[str]:
            return sorted(await first.controllers())

        async def are_both() -> bool:
            return await first.controllers() == {"a": HERE, "b": HERE}

        async def is_alone() -> bool:
            return await told() == ["a"]

        async with serving(cell, "b"):
            await wait_until(are_both, "both are present")
        await wait_until(is_alone, "the other one has left")


async def test_one_that_has_fallen_silent_is_not_told(cell: Cell) -> None:
    await cell.operations.present(b'{"id":"dead","host":"h","pid":1}', 1)
    seconds, micros = await cell.bus.command("TIME")
    written_ms = int(seconds) * 1000 + int(micros) // 1000

    async def is_over() -> bool:
        seconds, micros = await cell.bus.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000 > written_ms + 1

    await wait_until(is_over, "its lifetime is over")

    assert await cell.operations.present(b'{"id":"a"}', 1000) == [b'{"id":"a"}']
