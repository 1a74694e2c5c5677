"""Payloads of queued events are not swept away, however long the events wait."""

from __future__ import annotations

from tests.integration.bus.cell import Cell


async def test_the_payloads_of_all_queued_events_count_as_needed(cell: Cell) -> None:
    function = await cell.function()
    for number in range(5):
        await cell.operations.enqueue(f"large-{number}", function.uid, b"{}", b"", f"digest-{number}")
    await cell.operations.enqueue("small", function.uid, b"{}", b"inline", "")

    assert await cell.operations.event_blobs() == {f"digest-{number}" for number in range(5)}
