"""Announcing side doors, on a real Redis."""

from __future__ import annotations

import asyncio

from contract.bus.operations import DOOR_MS, Operations
from tests.integration.bus.cell import Cell


async def test_controllers_that_begin_together_agree_on_a_token(cell: Cell) -> None:
    operations = [Operations(cell.another_bus()) for _ in range(8)]

    tokens = await asyncio.gather(*(each.announce(f"http://c:{at}", f"t{at}") for at, each in enumerate(operations)))

    assert len(set(tokens)) == 1
    addresses, token = await cell.operations.doors()
    assert sorted(addresses) == [f"http://c:{at}" for at in range(8)]
    assert token == tokens[0]


async def test_a_door_is_announced_for_a_while(cell: Cell) -> None:
    await cell.operations.announce("http://dead:1", "t")
    # Time passes.
    await cell.bus.command("ZINCRBY", cell.keys.doors(), -DOOR_MS - 1, "http://dead:1")

    await cell.operations.announce("http://alive:1", "t")

    assert (await cell.operations.doors())[0] == ["http://alive:1"]


async def test_a_door_that_closes_is_gone_and_the_token_stays(cell: Cell) -> None:
    token = await cell.operations.announce("http://one:1", "first")

    assert await cell.operations.announce("http://one:1", "second", is_open=False) == token == "first"

    assert await cell.operations.doors() == ([], "first")


async def test_there_are_no_doors_without_controllers(cell: Cell) -> None:
    assert await cell.operations.doors() == ([], "")


async def test_both_keys_end_by_themselves(cell: Cell) -> None:
    await cell.operations.announce("http://one:1", "t")

    for key in (cell.keys.doors(), cell.keys.door_token()):
        assert 0 < await cell.bus.command("PTTL", key) <= 3_600_000
