"""The functions that admission knows, for whoever looks for deleted ones among them."""

from __future__ import annotations

from tests.integration.bus.cell import Cell


async def test_what_is_published_and_not_retired_is_listed(cell: Cell) -> None:
    for number in range(5):
        await cell.function(f"f{number}")
    await cell.dispatch(await cell.function("f5"))
    await cell.operations.retire_function("f0")

    assert await cell.operations.published_functions() == {"f1", "f2", "f3", "f4", "f5"}
