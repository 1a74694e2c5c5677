"""Asynchronous events: accepted once, run at least once, in turn."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from contract.bus.operations import CLAIM_MS, Operations, Verdict
from tests.integration.bus.cell import Cell


async def claimed(cell: Cell, limit: int = 10, controller: str = "") -> list[str]:
    return [claim.id for claim in await cell.operations.claim(controller or cell.controller, limit)]


async def test_an_event_that_is_enqueued_many_times_at_once_is_queued_once(cell: Cell) -> None:
    function = await cell.function()
    buses = [cell.another_bus() for _ in range(5)]

    accepted = await asyncio.gather(
        *(Operations(buses[n % 5]).enqueue("e", function.uid, b"header", b"payload", "blob") for n in range(20))
    )

    assert Counter(accepted) == {True: 1, False: 19}
    (claim,) = await cell.operations.claim(cell.controller, 10)
    assert (claim.id, claim.function_uid, claim.header, claim.payload, claim.blob, claim.attempt) == (
        "e",
        function.uid,
        b"header",
        b"payload",
        "blob",
        1,
    )


async def test_controllers_that_claim_at_once_never_get_the_same_event(cell: Cell) -> None:
    functions = [await cell.function(f"f{n}") for n in range(3)]
    for number in range(60):
        await cell.enqueue(functions[number % 3], f"e{number}")
    buses = [cell.another_bus() for _ in range(5)]

    claims = await asyncio.gather(*(Operations(buses[n % 5]).claim(f"c{n}", 4) for n in range(20)))

    names = Counter(claim.id for each in claims for claim in each)
    assert len(names) == 60
    assert set(names.values()) == {1}


@pytest.mark.parametrize("limit", [1, 2, 6])
async def test_functions_are_served_in_turn_however_few_are_claimed_at_a_time(cell: Cell, limit: int) -> None:
    busy, quiet, silent = [await cell.function(uid) for uid in ("a-busy", "b-quiet", "c-silent")]
    for number in range(20):
        await cell.enqueue(busy, f"busy{number}")
    await cell.enqueue(quiet, "quiet0")
    await cell.enqueue(quiet, "quiet1")
    await cell.enqueue(silent, "silent0")

    order: list[str] = []
    while len(order) < 6:
        order += await claimed(cell, limit)

    assert {name for name in order if not name.startswith("busy")} >= {"quiet0", "silent0"}
    assert [name for name in order if name.startswith("busy")][:2] == ["busy0", "busy1"]


async def test_a_claim_that_is_not_used_expires_returns_and_cannot_be_used_any_more(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.enqueue(function, "e")
    await cell.enqueue(function, "later")
    assert await claimed(cell, 1, "slow") == ["e"]

    await cell.bus.command("ZINCRBY", cell.keys.events_claimed(), -(CLAIM_MS + 1000), "e")
    assert await claimed(cell, 1, "other") == ["e"]

    assert (await cell.dispatch(function, event="e", controller="slow")).verdict is Verdict.GONE
    assert not await cell.operations.defer("e", "slow", 0)
    assert not await cell.operations.drop("e", "slow")
    assert (await cell.dispatch(function, event="e", controller="other")).verdict is Verdict.DISPATCHED
    assert await worker.read() == 1


async def test_an_expired_claim_that_nobody_has_taken_over_is_void_too(cell: Cell) -> None:
    await cell.worker()
    function = await cell.function()
    await cell.enqueue(function, "e")
    assert await claimed(cell, 1, "slow") == ["e"]
    await cell.bus.command("ZINCRBY", cell.keys.events_claimed(), -(CLAIM_MS + 1000), "e")

    await claimed(cell, 0, "sweeper")

    assert (await cell.dispatch(function, event="e", controller="slow")).verdict is Verdict.GONE


async def test_one_claim_is_dispatched_once_by_many_who_try(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=100_000)
    function = await cell.function()
    await cell.enqueue(function, "e")
    await claimed(cell)
    buses = [cell.another_bus() for _ in range(5)]

    answers = await asyncio.gather(
        *(cell.dispatch(function, f"attempt{n}", event="e", bus=buses[n % 5]) for n in range(20))
    )

    assert Counter(answer.verdict for answer in answers) == {Verdict.DISPATCHED: 1, Verdict.GONE: 19}
    assert await worker.read() == 1
    assert await cell.in_flight(function) == 1


async def test_a_deferred_event_waits_with_its_function_and_keeps_its_place(cell: Cell) -> None:
    function = await cell.function()
    for name in ("first", "second"):
        await cell.enqueue(function, name)
    assert await claimed(cell, 1) == ["first"]

    assert await cell.operations.defer("first", cell.controller, 60_000)
    assert await claimed(cell) == []
    await cell.bus.command("ZINCRBY", cell.keys.events_ready(), -60_000, function.uid)

    assert await claimed(cell) == ["first", "second"]


async def test_a_slot_that_comes_free_ends_the_wait_of_a_deferred_function(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()
    await cell.enqueue(function, "e")
    await claimed(cell)
    await cell.operations.defer("e", cell.controller, 60_000)
    await cell.bus.command("DEL", cell.keys.events_wake())

    await worker.complete("i")

    assert await cell.bus.command("LLEN", cell.keys.events_wake()) == 1
    assert await claimed(cell) == ["e"]


async def test_a_dropped_event_is_gone(cell: Cell) -> None:
    function = await cell.function()
    await cell.enqueue(function, "e")
    await claimed(cell)

    assert await cell.operations.drop("e", cell.controller)

    assert not await cell.operations.drop("e", cell.controller)
    assert [name for name in await cell.all_keys() if name.startswith("event") and name != "events:wake"] == []


async def test_an_acknowledged_event_is_gone_and_answers_nobody(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.enqueue(function, "e")
    await claimed(cell)
    await cell.dispatch(function, "e", event="e")
    await worker.read()

    await worker.complete("e")

    assert await cell.replies() == []
    assert [name for name in await cell.all_keys() if name.startswith("event") and name != "events:wake"] == []


async def test_an_event_that_is_to_be_retried_waits_and_the_others_of_its_function_do_not(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    for name in ("fails", "fine"):
        await cell.enqueue(function, name)
    assert await claimed(cell, 1) == ["fails"]
    await cell.dispatch(function, "fails", event="fails")
    await worker.read()

    await worker.complete("fails", acknowledge=False, retry_ms=60_000)

    assert await claimed(cell) == ["fine"]
    await cell.bus.command("ZINCRBY", cell.keys.events_claimed(), -61_000, "fails")
    (claim,) = await cell.operations.claim(cell.controller, 10)
    assert (claim.id, claim.attempt) == ("fails", 2)


async def test_an_event_that_is_to_be_retried_at_once_is_the_next(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    for name in ("fails", "fine"):
        await cell.enqueue(function, name)
    await claimed(cell, 1)
    await cell.dispatch(function, "fails", event="fails")
    await worker.read()

    await worker.complete("fails", acknowledge=False)

    assert await claimed(cell) == ["fails", "fine"]


async def test_an_event_runs_again_after_its_worker_died_and_the_first_run_cannot_end_it(cell: Cell) -> None:
    dead, heir = await cell.worker("dead", engine="e1", memory_mb=8192), await cell.worker("heir", engine="e2")
    function = await cell.function()
    await cell.enqueue(function, "e")
    await claimed(cell)
    await cell.dispatch(function, "e", event="e")
    await dead.read()
    await cell.operations.fence(dead.instance, b"", only_if_silent=False)
    await cell.operations.bury(dead.instance)

    (claim,) = await cell.operations.claim(cell.controller, 1)
    answer = await cell.dispatch(function, "e#2", event="e")
    await dead.complete("e")

    assert claim.attempt == 2
    assert answer.instance == heir.instance
    assert await cell.bus.command("EXISTS", cell.keys.event("e")) == 1
    await heir.read()
    await heir.complete("e#2")
    assert await cell.bus.command("EXISTS", cell.keys.event("e")) == 0


async def test_claiming_wakes_up_when_an_event_arrives(cell: Cell) -> None:
    function = await cell.function()
    waiting = asyncio.create_task(cell.bus.pop(cell.keys.events_wake(), block_s=5))

    await cell.enqueue(function, "e")

    assert await waiting == b"1"
