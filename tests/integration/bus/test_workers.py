"""Lives and deaths of workers."""

from __future__ import annotations

import asyncio

from contract.bus.operations import MAX_MOVES, Completion, Verdict, WorkerState
from tests.fakes.worker import FakeWorker
from tests.integration.bus.cell import Cell

DEAD = b'{"platform_error":"the worker died"}'


async def test_each_life_of_a_worker_is_another_instance_that_knows_its_predecessors(cell: Cell) -> None:
    first = await cell.worker("w")
    await cell.worker("w2")
    second = FakeWorker(cell.bus, "w")

    assert await second.register() == (first.instance,)
    assert (first.epoch, second.epoch) == (1, 2)
    assert first.instance != second.instance


async def test_lives_that_begin_at_once_get_different_epochs(cell: Cell) -> None:
    workers = [FakeWorker(cell.another_bus(), "w") for _ in range(8)]

    await asyncio.gather(*(worker.register() for worker in workers))

    assert {worker.epoch for worker in workers} == set(range(1, 9))


async def test_fencing_answers_callers_and_requeues_events_exactly_once(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "call")
    await cell.enqueue(function, "event")
    await cell.operations.claim(cell.controller, 1)
    await cell.dispatch(function, "event", event="event")
    await worker.read()
    await cell.silence(worker)

    counts = await asyncio.gather(
        *(cell.operations.fence(worker.instance, DEAD, only_if_silent=True) for _ in range(10))
    )

    assert sorted(counts) == [0] * 9 + [2]
    assert await cell.replies() == [("call", DEAD, b"")]
    assert [claim.id for claim in await cell.operations.claim(cell.controller, 10)] == ["event"]


async def test_a_worker_that_was_heard_of_lately_is_not_fenced_for_silence(cell: Cell) -> None:
    worker = await cell.worker()

    assert await cell.operations.fence(worker.instance, DEAD, only_if_silent=True) == -1
    state = await cell.operations.heartbeat(worker.instance, is_placeable=True, is_draining=False, info=b"{}")
    assert state is WorkerState.LIVE


async def test_slots_and_memory_of_a_fenced_worker_stay_counted_until_it_is_buried(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function(reserved=1)
    await cell.dispatch(function, "i")
    await worker.read()

    await cell.operations.fence(worker.instance, DEAD, only_if_silent=False)

    assert await cell.in_flight(function) == 1
    assert await cell.reserved_mb() == function.memory_mb
    assert not await cell.operations.bury(worker.instance, min_age_ms=60_000)
    assert (await cell.dispatch(function)).verdict is Verdict.THROTTLED
    assert await cell.operations.bury(worker.instance)
    assert not await cell.operations.bury(worker.instance)
    assert await cell.in_flight(function) == 0
    assert await cell.reserved_mb() == 0
    assert [name for name in await cell.all_keys() if worker.instance in name] == []


async def test_a_living_worker_cannot_be_buried(cell: Cell) -> None:
    worker = await cell.worker()

    assert not await cell.operations.bury(worker.instance)
    assert await cell.bus.command("SMEMBERS", cell.keys.workers()) == [worker.instance.encode()]


async def test_a_zombie_is_told_that_it_is_fenced_whatever_it_does(cell: Cell) -> None:
    zombie = await cell.worker()
    function = await cell.function()
    for name in ("idle", "busy", "other"):
        await cell.dispatch(function, name)
    await zombie.read()
    await zombie.complete("idle")
    await cell.operations.fence(zombie.instance, DEAD, only_if_silent=False)
    replies = len(await cell.replies())

    for _ in ("fenced", "buried"):
        assert (
            await zombie.operations.complete(zombie.instance, "busy", is_reusable=True, header=b"", payload=b"")
            is Completion.FENCED
        )
        assert await zombie.handback("other") == "fenced"
        await cell.operations.bury(zombie.instance)

    assert len(await cell.replies()) == replies
    assert await cell.tokens(function.version) == []


async def test_a_fenced_worker_cannot_reconcile_itself_back_to_life(cell: Cell) -> None:
    zombie = await cell.worker()
    await cell.operations.fence(zombie.instance, DEAD, only_if_silent=False)

    assert await zombie.reconcile() is WorkerState.FENCED
    state = await cell.operations.heartbeat(zombie.instance, is_placeable=True, is_draining=False, info=b"{}")
    assert state is WorkerState.FENCED


async def test_an_earlier_life_cannot_reconcile_after_its_successor_has_registered(cell: Cell) -> None:
    first = await cell.worker()
    await cell.operations.fence(first.instance, DEAD, only_if_silent=False)
    await cell.operations.bury(first.instance)
    await cell.worker()

    assert await first.reconcile() is WorkerState.FENCED


async def test_completing_and_fencing_at_once_answer_the_caller_once(cell: Cell) -> None:
    function = await cell.function()
    fencer = cell.another_bus()
    for number in range(20):
        worker = await cell.worker(f"w{number}", engine=f"e{number}")
        await cell.dispatch(function, f"i{number}")
        await worker.read()

        await asyncio.gather(
            worker.complete(f"i{number}"),
            FakeWorker(fencer, "").operations.fence(worker.instance, DEAD, only_if_silent=False),
        )

        assert len(await cell.replies()) == number + 1
        assert await cell.tokens(function.version) == []
        await cell.operations.bury(worker.instance)
    assert await cell.in_flight(function) == 0


async def test_a_handback_moves_the_slot_and_the_memory_with_the_invocation(cell: Cell) -> None:
    broken = await cell.worker("broken", engine="e1", memory_mb=8192)
    other = await cell.worker("other", engine="e2", memory_mb=1024)
    function = await cell.function()
    await cell.dispatch(function, "i", payload=b"payload")
    await broken.read()

    assert await broken.handback("i") == "moved"
    await other.read()

    assert other.held["i"].payload == b"payload"
    assert await cell.in_flight(function) == 1
    assert (await cell.reserved_mb("e1"), await cell.reserved_mb("e2")) == (0, function.memory_mb)
    assert await broken.complete("i") is Completion.IGNORED
    assert await other.complete("i") is Completion.IDLE
    assert await cell.in_flight(function) == 0


async def test_an_invocation_is_handed_back_a_bounded_number_of_times(cell: Cell) -> None:
    workers = {}
    for number in range(MAX_MOVES + 2):
        worker = await cell.worker(f"w{number}", engine=f"e{number}")
        workers[worker.instance] = worker
    function = await cell.function()
    await cell.dispatch(function, "i")
    answers = []
    for _ in range(MAX_MOVES + 1):
        for worker in workers.values():
            await worker.read()
        holder = next(worker for worker in workers.values() if worker.held)
        answers.append(await holder.handback("i"))

    assert answers == ["moved"] * MAX_MOVES + ["exhausted"]
    assert sum([await cell.reserved_mb(worker.engine) for worker in workers.values()]) == function.memory_mb
    assert await cell.in_flight(function) == 1


async def test_an_invocation_does_not_return_to_a_worker_that_has_yet_to_release_it(cell: Cell) -> None:
    first, second = await cell.worker("a", engine="e1"), await cell.worker("b", engine="e2", memory_mb=2048)
    function = await cell.function()
    await cell.dispatch(function, "i")
    await first.read()
    handed = [first.instance, "i", first.held["i"].header.to_json(), b"", b"launch"]
    assert await cell.operations.handback(*handed) == "moved"  # type: ignore[arg-type]
    await second.read()

    assert await second.handback("i") == "exhausted"
    await first.destroy("i")
    assert await second.handback("i") == "moved"

    assert (await cell.reserved_mb("e1"), await cell.reserved_mb("e2")) == (function.memory_mb, 0)


async def test_an_invocation_stays_when_no_other_worker_has_memory(cell: Cell) -> None:
    only = await cell.worker()
    await cell.worker("small", engine="e2", memory_mb=128)
    function = await cell.function()
    await cell.dispatch(function, "i")
    await only.read()

    assert await only.handback("i") == "exhausted"
    assert await only.complete("i") is Completion.IDLE


async def test_handing_back_and_completing_at_once_leaves_one_owner(cell: Cell) -> None:
    function = await cell.function()
    first = await cell.worker("a", engine="e1", memory_mb=10_000)
    second = await cell.worker("b", engine="e2", memory_mb=9_000)
    rival = FakeWorker(cell.another_bus(), "a", instance=first.instance)
    for number in range(20):
        await cell.dispatch(function, f"i{number}")
        await first.read()
        header = first.held[f"i{number}"].header.to_json()

        moved, completed = await asyncio.gather(
            rival.operations.handback(first.instance, f"i{number}", header, b"", b"launch"),
            first.operations.complete(first.instance, f"i{number}", is_reusable=False, header=b"", payload=b""),
        )

        assert (moved, completed) in {("moved", Completion.IGNORED), ("ignored", Completion.DESTROY)}
        await first.destroy(f"i{number}")
        await second.read()
        if moved == "moved":
            await second.complete(f"i{number}", is_reusable=False)
        assert await cell.in_flight(function) == 0
        assert (await cell.reserved_mb("e1"), await cell.reserved_mb("e2")) == (0, 0)


async def test_a_worker_that_redis_has_lost_is_told_so(cell: Cell) -> None:
    worker = await cell.worker()
    await cell.bus.command("DEL", cell.keys.worker(worker.instance))

    state = await cell.operations.heartbeat(worker.instance, is_placeable=True, is_draining=False, info=b"{}")

    assert state is WorkerState.UNKNOWN


async def test_a_draining_worker_keeps_no_environment_that_finishes(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()

    await cell.operations.heartbeat(worker.instance, is_placeable=True, is_draining=True, info=b"{}")
    state = await cell.operations.heartbeat(worker.instance, is_placeable=True, is_draining=False, info=b"{}")

    assert state is WorkerState.DRAINING
    assert await worker.complete("i") is Completion.DESTROY


async def test_fencing_an_instance_that_nobody_knows_leaves_nothing(cell: Cell) -> None:
    before = await cell.all_keys()

    assert await cell.operations.fence("nobody@1", DEAD, only_if_silent=False) == 0
    assert await cell.all_keys() == before


async def test_a_worker_that_redis_has_lost_is_to_reconcile_and_not_over(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()
    for key in (cell.keys.worker(worker.instance), cell.keys.epoch("w"), cell.keys.invocation("i")):
        await cell.bus.command("DEL", key)

    assert await worker.operations.complete(worker.instance, "i", is_reusable=True, header=b"", payload=b"") is (
        Completion.UNKNOWN
    )
    await worker.reconcile()
    assert await worker.complete("i") is Completion.IDLE
