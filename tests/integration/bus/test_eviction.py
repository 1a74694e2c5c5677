"""Idle environments that make room for others."""

from __future__ import annotations

import asyncio
from collections import Counter

from contract.bus.operations import RESIDENCY_MS, Verdict
from tests.fakes.worker import FakeWorker
from tests.integration.bus.cell import Cell, Function

LONG_AGO_MS = RESIDENCY_MS * 100


async def idle(cell: Cell, worker: FakeWorker, function: Function, *, ago_ms: int, count: int = 1) -> None:
    """Let a worker have idle environments of a function."""
    names = [f"{function.uid}-{worker.name}-{n}" for n in range(count)]
    for name in names:
        assert (await cell.dispatch(function, name)).instance == worker.instance
    await worker.read()
    for name in names:
        await worker.complete(name)
    await cell.age_idle(worker, function, ago_ms)


async def test_the_oldest_idle_environments_make_room_and_no_more_than_needed(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=1024)
    for number, uid in enumerate(("old", "older", "oldest", "young")):
        age = {"old": 1, "older": 2, "oldest": 3, "young": 0}[uid]
        await idle(cell, worker, await cell.function(uid, memory_mb=256), ago_ms=LONG_AGO_MS + 1000 * age)
        assert await cell.reserved_mb() == 256 * (number + 1)

    answer = await cell.dispatch(await cell.function("new", memory_mb=512), "new")
    await worker.read()

    assert answer.verdict is Verdict.DISPATCHED
    assert worker.seen[-1] == ("invoke", "new", ["oldest:$LATEST:1", "older:$LATEST:1"])
    assert await cell.tokens("oldest:$LATEST:1") == []
    assert await cell.tokens("old:$LATEST:1") == [worker.instance]
    assert await cell.reserved_mb() == sum(worker.reserved.values()) == 1024


async def test_small_environments_stay_when_a_larger_one_has_to_go_anyway(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=1280)
    await idle(cell, worker, await cell.function("small", memory_mb=256), ago_ms=LONG_AGO_MS * 2)
    await idle(cell, worker, await cell.function("large", memory_mb=1024), ago_ms=LONG_AGO_MS)

    await cell.dispatch(await cell.function("new", memory_mb=1024), "new")
    await worker.read()

    assert worker.seen[-1][2] == ["large:$LATEST:1"]


async def test_the_worker_with_the_fewest_victims_is_chosen(cell: Cell) -> None:
    many = await cell.worker("many", engine="e1", memory_mb=1024)
    await idle(cell, many, await cell.function("small", memory_mb=256), ago_ms=LONG_AGO_MS * 2, count=4)
    few = await cell.worker("few", engine="e2", memory_mb=1024)
    await idle(cell, few, await cell.function("large", memory_mb=1024), ago_ms=LONG_AGO_MS)

    answer = await cell.dispatch(await cell.function("new", memory_mb=1024))

    assert answer.instance == few.instance


async def test_of_workers_with_equally_many_victims_the_one_with_older_ones_is_chosen(cell: Cell) -> None:
    function = await cell.function("small", memory_mb=512)
    workers = []
    for number, age in enumerate((1, 3, 2)):
        worker = await cell.worker(f"w{number}", engine=f"e{number}", memory_mb=512)
        await idle(cell, worker, await cell.function(f"f{number}"), ago_ms=LONG_AGO_MS * age)
        workers.append(worker)

    answer = await cell.dispatch(function)

    # A new function each, so that none is warm.
    assert answer.instance == workers[1].instance


async def test_an_environment_that_has_just_served_is_not_evicted(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=512)
    function = await cell.function()
    await idle(cell, worker, function, ago_ms=0)
    new = await cell.function("new")

    assert (await cell.dispatch(new)).verdict is Verdict.FULL
    await cell.age_idle(worker, function, RESIDENCY_MS + 1)

    assert (await cell.dispatch(new)).verdict is Verdict.DISPATCHED


async def test_memory_of_victims_that_are_not_gone_yet_is_promised_once_and_not_made_room_for_again(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=1024)
    await idle(cell, worker, await cell.function("old", memory_mb=256), ago_ms=LONG_AGO_MS, count=4)
    new = await cell.function("new", memory_mb=256)

    answers = [await cell.dispatch(new, f"new{n}") for n in range(5)]

    assert Counter(a.verdict for a in answers) == {Verdict.DISPATCHED: 4, Verdict.FULL: 1}
    assert await cell.reserved_mb() == 1024
    await worker.read()
    assert [len(victims) for kind, name, victims in worker.seen if name.startswith("new")] == [1, 1, 1, 1]
    assert await cell.reserved_mb() == 1024
    assert await cell.reservations(worker.instance) == worker.reserved


async def test_callers_who_evict_at_once_never_evict_one_environment_twice(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=2048)
    await idle(cell, worker, await cell.function("old", memory_mb=256), ago_ms=LONG_AGO_MS, count=8)
    new = await cell.function("new", memory_mb=512)
    buses = [cell.another_bus() for _ in range(5)]

    answers = await asyncio.gather(*(cell.dispatch(new, bus=buses[n % 5]) for n in range(20)))
    await worker.read()

    assert Counter(a.verdict for a in answers) == {Verdict.DISPATCHED: 4, Verdict.FULL: 16}
    assert await cell.reserved_mb() == sum(worker.reserved.values()) == 2048


async def test_an_idle_environment_is_either_retired_or_dispatched_never_both(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=512)
    function = await cell.function()
    reaper = FakeWorker(cell.another_bus(), worker.name)
    for number in range(20):
        await cell.dispatch(function, f"first{number}")
        await worker.read()
        await worker.complete(f"first{number}")
        assert worker.idle[function.version]

        retired, answer = await asyncio.gather(
            reaper.operations.retire_idle(worker.instance, function.version, function.memory_mb),
            cell.dispatch(function, f"second{number}"),
        )

        assert retired == (answer.verdict is Verdict.FULL)
        if retired:
            await worker.destroy(worker.idle[function.version].pop())
        else:
            await worker.read()
            await worker.complete(f"second{number}", is_reusable=False)
        assert await cell.reserved_mb() == 0


async def test_a_version_whose_last_idle_environment_went_is_forgotten_by_the_order_of_eviction(cell: Cell) -> None:
    worker = await cell.worker()
    for uid, end in (("retired", "retire"), ("dead", "die"), ("updated", "publish"), ("deleted", "delete")):
        function = await cell.function(uid)
        await idle(cell, worker, function, ago_ms=0)
        if end == "retire":
            assert await worker.retire_idle(function.version, function.memory_mb)
        elif end == "die":
            await cell.dispatch(function, "last")
            await worker.read()
            await worker.complete("last", is_reusable=False)
        elif end == "publish":
            function.generation += 1
            await cell.publish(function)
        else:
            await cell.operations.retire_function(uid)

        assert await cell.bus.command("ZRANGE", cell.keys.lru(worker.instance), 0, -1) == [], end
