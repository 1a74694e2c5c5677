"""The end of an invocation, and what ends environments."""

from __future__ import annotations

import asyncio
from collections import Counter

from contract.bus.operations import Completion
from tests.fakes.worker import REPLY
from tests.integration.bus.cell import Cell


async def test_a_completion_gives_back_the_slot_and_the_environment_and_answers_the_caller(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()

    assert await worker.complete("i", payload=b"done") is Completion.IDLE

    assert (await cell.in_flight(function), await cell.in_pool()) == (0, 0)
    assert await cell.tokens(function.version) == [worker.instance]
    assert await cell.reserved_mb() == function.memory_mb
    assert await cell.replies() == [("i", REPLY, b"done")]


async def test_many_completions_of_one_invocation_at_once_count_as_one(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    for name in ("i", "other"):
        await cell.dispatch(function, name)
    await worker.read()

    answers = await asyncio.gather(*(worker.complete("i") for _ in range(20)))

    assert set(answers) == {Completion.IDLE}
    assert await cell.in_flight(function) == 1
    assert await cell.tokens(function.version) == [worker.instance]
    assert len(await cell.replies()) == 1


async def test_another_workers_completion_is_ignored(cell: Cell) -> None:
    worker = await cell.worker("runs-it", engine="e1", memory_mb=8192)
    other = await cell.worker("other", engine="e2")
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()

    assert await other.complete("i") is Completion.IGNORED

    assert await cell.in_flight(function) == 1
    assert await cell.replies() == []
    assert await cell.tokens(function.version) == []


async def test_a_completion_of_an_unknown_invocation_is_ignored(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")

    assert await worker.complete("never-dispatched") is Completion.IGNORED
    assert await cell.in_flight(function) == 1


async def test_a_dead_environment_gives_back_its_slot_at_once_and_its_memory_when_it_is_gone(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()

    answer = await cell.operations.complete(worker.instance, "i", is_reusable=False, header=REPLY, payload=b"")

    assert answer is Completion.DESTROY
    assert await cell.in_flight(function) == 0
    assert await cell.tokens(function.version) == []
    assert await cell.reserved_mb() == function.memory_mb
    assert await cell.operations.release(worker.instance, "i") == 1
    assert await cell.operations.release(worker.instance, "i") == 0
    assert await cell.reserved_mb() == 0


async def test_an_update_destroys_idle_environments_and_those_that_finish_after_it(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    for name in ("idle", "busy"):
        await cell.dispatch(function, name)
    await worker.read()
    await worker.complete("idle")

    function.generation += 1
    await cell.publish(function)

    assert await cell.tokens(f"{function.uid}:$LATEST:1") == []
    await worker.read()
    assert worker.seen[-1] == ("retire", f"{function.uid}:$LATEST:1", [])
    assert await worker.complete("busy") is Completion.DESTROY
    assert await cell.reserved_mb() == 0
    assert (await cell.dispatch(function)).is_cold


async def test_a_late_publication_of_an_older_generation_does_not_bring_it_back(cell: Cell) -> None:
    function = await cell.function(generation=5)

    function.generation = 4

    assert await cell.publish(function) == 5
    assert await cell.bus.command("HGET", cell.keys.function(function.uid), "generation") == b"5"


async def test_publishing_at_once_leaves_the_highest_generation_and_an_exact_sum_of_reservations(cell: Cell) -> None:
    functions = [await cell.function(f"f{n}") for n in range(5)]
    buses = [cell.another_bus() for _ in range(5)]

    async def publish(number: int) -> None:
        function = functions[number % 5]
        bus = buses[number % 4]
        await bus.script("publish", function.uid, number, number % 3, "000000000000:us-east-1", 1000)

    await asyncio.gather(*(publish(number) for number in range(60)))

    heads = [await cell.bus.command("HMGET", cell.keys.function(f.uid), "generation", "reserved") for f in functions]
    assert [int(generation) for generation, _ in heads] == [55, 56, 57, 58, 59]
    total = await cell.bus.command("HGET", cell.keys.account("000000000000", "us-east-1"), "reserved_total")
    assert int(total) == sum(int(reserved) for _, reserved in heads)


async def test_a_published_version_outlives_updates_of_the_head(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    request = cell.request(function, "i")
    bus, version = cell.bus, f"{function.uid}:7"
    await bus.script(
        "dispatch", "i", function.uid, 1, version, 512, "c", request.header, b"", b"launch", "", "", 5000, 2000
    )
    function.generation += 1
    await cell.publish(function)

    answer = await cell.operations.complete(worker.instance, "i", is_reusable=True, header=REPLY, payload=b"")

    assert answer is Completion.IDLE
    assert await cell.tokens(version) == [worker.instance]


async def test_a_deleted_function_takes_everything_with_it(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function(reserved=5)
    other = await cell.function("g")
    for name in ("idle", "busy"):
        await cell.dispatch(function, name)
    await cell.dispatch(other, "others")
    await worker.read()
    await worker.complete("idle")
    await worker.complete("others")
    for number in range(3):
        await cell.enqueue(function, f"e{number}")

    dropped = await asyncio.gather(*(cell.operations.retire_function(function.uid) for _ in range(5)))
    await worker.read()

    assert Counter(dropped) == {3: 1, 0: 4}
    assert worker.seen[-1] == ("forget", function.uid, [])
    assert (await cell.dispatch(function)).verdict == "stale"
    assert await cell.publish(function) == -1
    assert await worker.complete("busy") is Completion.DESTROY
    assert await cell.tokens(other.version) == [worker.instance]
    total = await cell.bus.command("HGET", cell.keys.account("000000000000", "us-east-1"), "reserved_total")
    assert total == b"0"
    left = [name for name in await cell.all_keys() if f":{function.uid}" in name or name.startswith("event:")]
    left = [name for name in left if other.uid not in name]
    assert left == [f"function:{function.uid}"]
    assert await cell.bus.command("PTTL", cell.keys.function(function.uid)) > 0


async def test_a_function_without_reservation_can_be_deleted(cell: Cell) -> None:
    function = await cell.function()

    assert await cell.operations.retire_function(function.uid) == 0
    assert await cell.operations.retire_function("never-published") == 0


async def test_a_published_version_of_a_deleted_function_does_not_become_idle_again(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    request = cell.request(function, "i")
    bus, version = cell.bus, f"{function.uid}:7"
    await bus.script(
        "dispatch", "i", function.uid, 1, version, 512, "c", request.header, b"", b"launch", "", "", 5000, 2000
    )
    await cell.operations.retire_function(function.uid)

    answer = await cell.operations.complete(worker.instance, "i", is_reusable=True, header=REPLY, payload=b"")

    assert answer is Completion.DESTROY
    assert await cell.tokens(version) == []
