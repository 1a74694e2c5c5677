"""Admission and placement: limits, environments, memory."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from contract.bus.operations import LEASE_MS, Completion, Operations, Verdict
from tests.integration.bus.cell import Cell

IN_FUNCTION = "ReservedFunctionConcurrentInvocationLimitExceeded"
IN_ACCOUNT = "ConcurrentInvocationLimitExceeded"


async def test_fifty_callers_at_once_never_get_more_than_the_reserved_slots(cell: Cell) -> None:
    await cell.worker(memory_mb=100_000)
    function = await cell.function(reserved=7)
    buses = [cell.another_bus() for _ in range(5)]

    answers = await asyncio.gather(*(cell.dispatch(function, bus=buses[n % 5]) for n in range(50)))

    assert Counter(answer.verdict for answer in answers) == {Verdict.DISPATCHED: 7, Verdict.THROTTLED: 43}
    assert {answer.reason for answer in answers} == {"", IN_FUNCTION}
    assert await cell.in_flight(function) == 7
    assert await cell.in_pool() == 0


async def test_fifty_callers_of_several_functions_never_get_more_than_the_account_has(cell: Cell) -> None:
    cell.limit = 10
    await cell.worker(memory_mb=100_000)
    functions = [await cell.function(f"f{n}") for n in range(3)]
    buses = [cell.another_bus() for _ in range(5)]

    answers = await asyncio.gather(*(cell.dispatch(functions[n % 3], bus=buses[n % 5]) for n in range(50)))

    assert Counter(answer.verdict for answer in answers) == {Verdict.DISPATCHED: 10, Verdict.THROTTLED: 40}
    assert {answer.reason for answer in answers} == {"", IN_ACCOUNT}
    assert await cell.in_pool() == 10


async def test_what_one_function_has_reserved_the_others_cannot_use(cell: Cell) -> None:
    cell.limit = 5
    await cell.worker(memory_mb=100_000)
    guaranteed, other = await cell.function("guaranteed", reserved=3), await cell.function("other")

    verdicts = [(await cell.dispatch(other)).verdict for _ in range(3)]
    own = [(await cell.dispatch(guaranteed)).verdict for _ in range(4)]

    assert verdicts == [Verdict.DISPATCHED, Verdict.DISPATCHED, Verdict.THROTTLED]
    assert own == [Verdict.DISPATCHED] * 3 + [Verdict.THROTTLED]


async def test_a_reservation_that_is_changed_and_taken_away_goes_back_to_the_pool(cell: Cell) -> None:
    cell.limit = 5
    await cell.worker(memory_mb=100_000)
    other, function = await cell.function("other"), await cell.function(reserved=5)
    assert (await cell.dispatch(other)).verdict is Verdict.THROTTLED

    function.reserved = 4
    await cell.publish(function)
    assert (await cell.dispatch(other)).verdict is Verdict.DISPATCHED
    function.reserved = None
    await cell.publish(function)

    assert [(await cell.dispatch(other)).verdict for _ in range(5)].count(Verdict.DISPATCHED) == 4


async def test_a_reservation_of_zero_throttles_with_the_reason_of_aws(cell: Cell) -> None:
    await cell.worker()
    function = await cell.function(reserved=0)

    answer = await cell.dispatch(function)

    assert (answer.verdict, answer.reason) == (Verdict.THROTTLED, IN_FUNCTION)


async def test_a_slot_is_credited_to_the_pool_that_it_was_charged_to(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()

    function.reserved = 5
    await cell.publish(function)
    await worker.complete("i")

    assert await cell.in_pool() == 0
    assert await cell.in_flight(function) == 0


async def test_the_most_recently_used_environment_serves_next(cell: Cell) -> None:
    first, second = await cell.worker("first", engine="e1"), await cell.worker("second", engine="e2")
    function = await cell.function()
    for invocation in ("a", "b"):
        await cell.dispatch(function, invocation)
        await first.read()
        await second.read()
    by_invocation = {next(iter(worker.held)): worker for worker in (first, second)}
    await by_invocation["b"].complete("b")
    await by_invocation["a"].complete("a")

    answer = await cell.dispatch(function, "c")

    assert (answer.instance, answer.is_cold) == (by_invocation["a"].instance, False)


async def test_one_idle_environment_is_never_given_to_two_callers(cell: Cell) -> None:
    worker = await cell.worker(memory_mb=5120)
    function = await cell.function()
    for n in range(3):
        await cell.dispatch(function, f"warm{n}")
    await worker.read()
    for n in range(3):
        await worker.complete(f"warm{n}")
    buses = [cell.another_bus() for _ in range(5)]

    answers = await asyncio.gather(*(cell.dispatch(function, bus=buses[n % 5]) for n in range(50)))

    dispatched = [answer for answer in answers if answer.verdict is Verdict.DISPATCHED]
    assert Counter(answer.is_cold for answer in dispatched) == {False: 3, True: 7}
    await worker.read()  # Fails when it is given more warm starts than it has environments.
    assert len(worker.held) == 10


async def test_two_workers_of_one_engine_share_its_memory(cell: Cell) -> None:
    workers = [await cell.worker(name, memory_mb=2048) for name in ("a", "b")]
    function = await cell.function(memory_mb=512)
    buses = [cell.another_bus() for _ in range(5)]

    answers = await asyncio.gather(*(cell.dispatch(function, bus=buses[n % 5]) for n in range(50)))

    assert Counter(answer.verdict for answer in answers) == {Verdict.DISPATCHED: 4, Verdict.FULL: 46}
    assert await cell.reserved_mb() == 2048
    assert await cell.in_flight(function) == 4
    promised = [await cell.reservations(worker.instance) for worker in workers]
    assert sum(sum(each.values()) for each in promised) == 2048


async def test_a_cold_start_goes_where_most_memory_is_free(cell: Cell) -> None:
    await cell.worker("small", engine="e1", memory_mb=1024)
    large = await cell.worker("large", engine="e2", memory_mb=2048)
    function = await cell.function(memory_mb=256)

    answers = [await cell.dispatch(function) for _ in range(4)]

    assert {answer.instance for answer in answers} == {large.instance}


async def test_cold_starts_on_one_engine_are_shared_evenly_by_its_workers(cell: Cell) -> None:
    workers = [await cell.worker(name, memory_mb=8192) for name in ("a", "b", "c")]
    function = await cell.function(memory_mb=256)

    placed = Counter([(await cell.dispatch(function)).instance for _ in range(9)])

    assert placed == {worker.instance: 3 for worker in workers}


@pytest.mark.parametrize("what", ["silent", "not placeable", "draining", "fenced"])
async def test_a_worker_that_may_not_be_given_new_environments_gets_none(cell: Cell, what: str) -> None:
    worker = await cell.worker()
    function = await cell.function()

    if what == "silent":
        await cell.silence(worker, LEASE_MS + 1000)
    elif what == "fenced":
        await cell.operations.fence(worker.instance, b"", only_if_silent=False)
    else:
        await cell.operations.heartbeat(
            worker.instance, is_placeable=what != "not placeable", is_draining=what == "draining", info=b"{}"
        )

    # A failure of ours, and no throttle: there is room, but nobody to start anything in it.
    assert (await cell.dispatch(function)).verdict is Verdict.NO_WORKERS
    assert await cell.in_flight(function) == 0


async def test_idle_environments_of_a_silent_worker_are_passed_over_and_kept(cell: Cell) -> None:
    silent, live = await cell.worker("silent", engine="e1"), await cell.worker("live", engine="e2", memory_mb=512)
    function = await cell.function()
    await cell.dispatch(function, "i")
    await silent.read()
    await silent.complete("i")
    await cell.silence(silent)

    answer = await cell.dispatch(function)

    assert (answer.instance, answer.is_cold) == (live.instance, True)
    assert await cell.tokens(function.version) == [silent.instance]


async def test_a_function_that_redis_does_not_know_is_unknown(cell: Cell) -> None:
    await cell.worker()
    function = await cell.function()
    await cell.bus.command("DEL", cell.keys.function(function.uid))

    assert (await cell.dispatch(function)).verdict is Verdict.UNKNOWN


async def test_a_caller_with_an_older_or_newer_view_of_the_function_is_stale(cell: Cell) -> None:
    await cell.worker()
    function = await cell.function(generation=4)

    function.generation = 3
    older = await cell.dispatch(function)
    function.generation = 5
    newer = await cell.dispatch(function)

    assert (older.verdict, newer.verdict) == (Verdict.STALE, Verdict.STALE)
    assert await cell.in_flight(function) == 0


async def test_dispatching_the_same_invocation_again_gives_the_same_answer_and_changes_nothing(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    buses = [cell.another_bus() for _ in range(5)]

    answers = await asyncio.gather(*(cell.dispatch(function, "same", bus=buses[n % 5]) for n in range(20)))

    assert len(set(answers)) == 1
    assert await cell.in_flight(function) == 1
    assert await cell.reserved_mb() == function.memory_mb
    assert await worker.read() == 1


async def test_a_dispatch_repeated_after_the_completion_answers_as_before_and_runs_nothing(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    first = await cell.dispatch(function, "i")
    await worker.read()
    await worker.complete("i")

    again = await cell.dispatch(function, "i")

    assert again == first
    assert await worker.read() == 0
    assert await cell.in_flight(function) == 0


async def test_dispatch_trims_the_replies_that_its_caller_has_read(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    for name in ("a", "b", "c"):
        await cell.dispatch(function, name)
        await worker.read()
        await worker.complete(name)
    entries = await cell.bus.command("XRANGE", cell.keys.reply(cell.controller), "-", "+")

    await Operations(cell.bus).dispatch(cell.request(function), last_reply=entries[1][0])

    assert [invocation for invocation, _, _ in await cell.replies()] == ["b", "c"]


async def test_completions_trim_the_inbox_behind_its_reader(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    for name in ("a", "b", "c"):
        await cell.dispatch(function, name)
    await worker.read(2)

    assert await worker.complete("a") is Completion.IDLE

    assert [message["i"] for message in await cell.inbox(worker)] == [b"b", b"c"]
