"""A life that has ended stays ended; one that a new Redis has not heard of yet has not."""

from __future__ import annotations

from contract.bus.operations import WorkerState
from tests.integration.bus.cell import Cell


async def test_a_buried_worker_does_not_come_back_by_reconciling(cell: Cell) -> None:
    worker = await cell.worker()
    await cell.operations.fence(worker.instance, b"{}", only_if_silent=False)
    assert await cell.operations.bury(worker.instance)

    assert await worker.reconcile() is WorkerState.FENCED

    assert worker.instance not in await cell.operations.workers()
    await worker.register()
    assert await worker.reconcile() is WorkerState.LIVE


async def test_a_life_that_redis_knows_nothing_of_can_be_ended_and_a_known_one_not(cell: Cell) -> None:
    worker = await cell.worker()

    assert not await cell.operations.end_unknown(worker.instance)
    assert await worker.reconcile() is WorkerState.LIVE

    await cell.bus.command("DEL", cell.keys.worker(worker.instance), cell.keys.epoch(worker.name))
    assert await cell.operations.end_unknown(worker.instance)
    assert await worker.reconcile() is WorkerState.FENCED


async def test_burying_an_earlier_life_does_not_end_its_successor(cell: Cell) -> None:
    earlier = await cell.worker()
    successor = await cell.worker()
    await cell.operations.fence(earlier.instance, b"{}", only_if_silent=False)

    await cell.operations.bury(earlier.instance)

    assert await successor.reconcile() is WorkerState.LIVE


async def test_a_worker_that_has_yet_to_report_to_a_new_redis_is_not_silent(cell: Cell) -> None:
    """Its heartbeat is as old as the outage was long, which is not its fault."""
    worker = await cell.worker()
    await cell.silence(worker)
    await cell.bus.command("SADD", cell.keys.reconciling(), worker.instance)
    await cell.bus.command("PEXPIRE", cell.keys.reconciling(), 60_000)

    assert await cell.operations.fence(worker.instance, b"{}", only_if_silent=True) == -1

    await cell.bus.command("DEL", cell.keys.reconciling())
    assert await cell.operations.fence(worker.instance, b"{}", only_if_silent=True) == 0
