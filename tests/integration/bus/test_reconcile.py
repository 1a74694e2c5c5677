"""Redis restarts, and comes back with what it had a while ago."""

from __future__ import annotations

import asyncio

from contract.bus.operations import Completion, Verdict, WorkerState
from tests.fakes.worker import LOST, FakeWorker
from tests.integration.bus.cell import Cell
from tests.redis_fixture import RedisServer
from tests.waiting import wait_until


async def restart(server: RedisServer, cell: Cell) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await cell.bus.command("PING")


async def lose_writes_since(copy_of: RedisServer, copy: object, cell: Cell) -> None:
    await asyncio.to_thread(copy_of.kill)
    copy_of.restore_files(copy)  # type: ignore[arg-type]
    await asyncio.to_thread(copy_of.start)
    await cell.bus.command("PING")


async def agree(cell: Cell, worker: FakeWorker) -> None:
    """Check Redis's view of a worker, and the sums, against its truth."""
    await worker.read()
    assert await cell.reservations(worker.instance) == worker.reserved
    assert await cell.reserved_mb(worker.engine) == sum(worker.reserved.values())
    for version, names in worker.idle.items():
        assert (await cell.tokens(version)).count(worker.instance) == len(names), version
    held = {name.decode() for name in await cell.bus.command("SMEMBERS", cell.keys.held(worker.instance))}
    assert held == set(worker.held)


async def test_dispatch_pauses_after_a_restart_until_workers_and_heads_have_reported(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell = mortal_cell
    workers = [await cell.worker("a"), await cell.worker("b")]
    function = await cell.function()

    await restart(mortal_server, cell)

    verdicts = [(await cell.dispatch(function)).verdict]
    assert await cell.operations.is_reconciling()
    for worker in workers:
        assert await worker.reconcile() is WorkerState.LIVE
        verdicts.append((await cell.dispatch(function)).verdict)
    await cell.operations.heads_published()
    verdicts.append((await cell.dispatch(function)).verdict)
    assert verdicts == [Verdict.PAUSED] * 3 + [Verdict.DISPATCHED]


async def test_the_pause_goes_on_for_a_worker_although_the_heads_are_there(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell = mortal_cell
    worker = await cell.worker()
    function = await cell.function()
    await restart(mortal_server, cell)
    await cell.operations.heads_published()

    assert (await cell.dispatch(function)).verdict is Verdict.PAUSED
    await worker.reconcile()
    assert (await cell.dispatch(function)).verdict is Verdict.DISPATCHED


async def test_the_pause_after_a_restart_is_bounded(mortal_server: RedisServer, mortal_cell: Cell) -> None:
    cell = mortal_cell
    await cell.worker("never-reports")
    function = await cell.function()
    await restart(mortal_server, cell)
    remaining = await cell.bus.command("PTTL", cell.keys.reconciling())

    assert 0 < remaining <= 3000
    await cell.bus.command("PEXPIRE", cell.keys.reconciling(), 1)

    async def dispatches() -> bool:
        return (await cell.dispatch(function)).verdict is Verdict.DISPATCHED

    await wait_until(dispatches, "dispatch goes on without the worker that never reports")


async def test_a_fenced_worker_is_not_waited_for(mortal_server: RedisServer, mortal_cell: Cell) -> None:
    cell = mortal_cell
    silent, live = await cell.worker("silent", engine="e1"), await cell.worker("live", engine="e2")
    function = await cell.function()
    await restart(mortal_server, cell)
    await cell.operations.heads_published()
    await live.reconcile()

    await cell.operations.fence(silent.instance, b"", only_if_silent=False)

    assert (await cell.dispatch(function)).instance == live.instance


async def test_only_the_first_to_notice_a_new_server_begins_the_pause(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell = mortal_cell
    worker = await cell.worker()
    function = await cell.function()
    late = cell.another_bus()
    await late.command("PING")
    changes: list[str] = []
    late._on_server_change = lambda: changes.append(late.run_id)
    await restart(mortal_server, cell)
    await worker.reconcile()
    await cell.operations.heads_published()

    await late.command("PING")

    assert changes == [cell.bus.run_id]
    assert (await cell.dispatch(function, bus=late)).verdict is Verdict.DISPATCHED


async def test_nothing_acknowledged_is_lost_by_kill_9(mortal_server: RedisServer, mortal_cell: Cell) -> None:
    cell = mortal_cell
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await cell.enqueue(function, "e")

    await restart(mortal_server, cell)
    await worker.reconcile()
    await cell.operations.heads_published()

    assert [claim.id for claim in await cell.operations.claim(cell.controller, 1)] == ["e"]
    await agree(cell, worker)
    assert set(worker.held) == {"i"}


async def test_workers_replace_what_redis_has_forgotten_by_what_they_know(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell = mortal_cell
    worker = await cell.worker()
    function = await cell.function()
    for name in ("completed", "runs-on", "becomes-idle"):
        await cell.dispatch(function, name)
    for name in ("event-done", "event-runs"):
        await cell.enqueue(function, name)
    await cell.operations.claim(cell.controller, 1)
    await cell.dispatch(function, "event-done", event="event-done")
    await worker.read()
    await worker.complete("becomes-idle")
    copy = mortal_server.save_files()

    await worker.complete("completed")
    await worker.complete("event-done")
    await cell.dispatch(function, "lost-dispatch")
    await cell.operations.claim(cell.controller, 1)
    await cell.dispatch(function, "event-runs", event="event-runs")
    await worker.read()
    assert set(worker.held) == {"runs-on", "lost-dispatch", "event-runs"}
    await lose_writes_since(mortal_server, copy, cell)
    assert await worker.reconcile() is WorkerState.LIVE
    await cell.operations.heads_published()

    await agree(cell, worker)
    assert await cell.in_flight(function) == await cell.in_pool() == 3
    assert ("completed", LOST, b"") in await cell.replies()
    assert [claim.id for claim in await cell.operations.claim(cell.controller, 10)] == ["event-done"]
    for name in list(worker.held):
        assert await worker.complete(name) is Completion.IDLE
    await agree(cell, worker)
    assert await cell.in_flight(function) == await cell.in_pool() == 0


async def test_what_was_in_the_inbox_and_unread_is_run_after_all(mortal_server: RedisServer, mortal_cell: Cell) -> None:
    cell = mortal_cell
    worker = await cell.worker(memory_mb=1536)
    warm, old = await cell.function("warm"), await cell.function("old")
    for function in (warm, old):
        await cell.dispatch(function, f"first-{function.uid}")
        await worker.read()
        await worker.complete(f"first-{function.uid}")
    await cell.age_idle(worker, old, 60_000)
    await cell.dispatch(warm, "unread-warm")
    await cell.dispatch(warm, "unread-cold")
    evicting = await cell.dispatch(warm, "unread-evicting")
    assert evicting.verdict is Verdict.DISPATCHED

    await restart(mortal_server, cell)
    await worker.reconcile()

    assert await cell.tokens(warm.version) == []
    assert await cell.tokens(old.version) == []
    await agree(cell, worker)
    assert set(worker.held) == {"unread-warm", "unread-cold", "unread-evicting"}
    assert await cell.in_flight(warm) == 3


async def test_an_unread_update_and_deletion_are_not_undone_by_reconciling(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell = mortal_cell
    worker = await cell.worker()
    updated, deleted = await cell.function("updated"), await cell.function("deleted")
    for function in (updated, deleted):
        await cell.dispatch(function, function.uid)
        await worker.read()
        await worker.complete(function.uid)
    stale = updated.version
    updated.generation += 1
    await cell.publish(updated)
    await cell.operations.retire_function(deleted.uid)

    await restart(mortal_server, cell)
    await worker.reconcile()

    assert (await cell.tokens(stale), await cell.tokens(deleted.version)) == ([], [])
    await agree(cell, worker)
    assert worker.reserved == {}


async def test_an_update_that_was_published_while_redis_knew_no_workers_reaches_them(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell = mortal_cell
    copy = mortal_server.save_files()
    worker = await cell.worker()
    function = await cell.function()
    stale = function.version
    await cell.dispatch(function, "i")
    await worker.read()
    await worker.complete("i")
    await lose_writes_since(mortal_server, copy, cell)
    function.generation += 1
    await cell.publish(function)

    await worker.reconcile()

    assert await cell.tokens(stale) == []
    await agree(cell, worker)
    assert worker.reserved == {}


async def test_an_invocation_whose_move_was_known_first_to_its_new_worker_stays_with_it(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell = mortal_cell
    first, second = await cell.worker("a", engine="e1", memory_mb=8192), await cell.worker("b", engine="e2")
    function = await cell.function()
    await cell.dispatch(function, "i")
    await first.read()
    copy = mortal_server.save_files()
    await first.handback("i")
    await second.read()

    await lose_writes_since(mortal_server, copy, cell)
    await second.reconcile()
    await first.reconcile()

    await agree(cell, first)
    await agree(cell, second)
    assert await cell.in_flight(function) == 1
    assert await cell.replies() == []
    assert await second.complete("i") is Completion.IDLE


async def test_reconciling_again_changes_nothing(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    for name in ("idle", "busy"):
        await cell.dispatch(function, name)
    await worker.read()
    await worker.complete("idle")

    for _ in range(3):
        assert await worker.reconcile() is WorkerState.LIVE
        await agree(cell, worker)
    assert await cell.in_flight(function) == await cell.in_pool() == 1


async def test_a_worker_that_has_read_nothing_yet_can_reconcile(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    worker.cursor = b""

    assert await worker.reconcile() is WorkerState.LIVE

    worker.cursor = b"0-0"
    await agree(cell, worker)
    assert set(worker.held) == {"i"}


async def test_reconciling_while_others_dispatch_and_complete_loses_no_count(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=100_000)
    function = await cell.function()
    bus = cell.another_bus()
    for round_number in range(10):
        calls = [cell.dispatch(function, f"i{round_number}-{n}", bus=bus) for n in range(5)]

        await asyncio.gather(*calls, worker.reconcile())

        await agree(cell, worker)
        assert await cell.in_flight(function) == len(worker.held)
        for name in list(worker.held)[:3]:
            await worker.complete(name)


async def test_a_reconciled_epoch_is_never_given_to_a_later_life(cell: Cell) -> None:
    worker = await cell.worker()
    await cell.worker()
    await cell.bus.command("DEL", cell.keys.epoch(worker.name), cell.keys.worker(worker.instance))
    worker.instance, worker.epoch = f"{worker.name}@7", 7

    assert await worker.reconcile() is WorkerState.LIVE

    later = await cell.worker()
    assert later.epoch == 8


async def test_events_are_not_claimed_while_workers_have_yet_to_report(
    mortal_server: RedisServer, mortal_cell: Cell
) -> None:
    cell = mortal_cell
    worker = await cell.worker()
    function = await cell.function()
    await cell.enqueue(function, "e")
    await restart(mortal_server, cell)

    assert await cell.operations.claim(cell.controller, 1) == []
    await worker.reconcile()
    await cell.operations.heads_published()

    assert [claim.id for claim in await cell.operations.claim(cell.controller, 1)] == ["e"]


async def test_a_redis_that_has_lost_everything_is_filled_again_from_workers_and_heads(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    for name in ("idle", "busy"):
        await cell.dispatch(function, name)
    await worker.read()
    await worker.complete("idle")
    for name in await cell.all_keys():
        await cell.bus.command("DEL", cell.keys.prefix + name)

    assert await worker.reconcile() is WorkerState.LIVE
    await cell.publish(function)

    await agree(cell, worker)
    assert await cell.in_flight(function) == await cell.in_pool() == 1
    answer = await cell.dispatch(function)
    assert (answer.instance, answer.is_cold) == (worker.instance, False)
