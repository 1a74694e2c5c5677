"""The clock of the periodic jobs, and what the collection removes."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAwayError

from contract.blobs.memory import MemoryBlobStore
from controller.background import jobs
from controller.background.__main__ import COLLECT_S, SWEEP_S, sweep_forever
from controller.background.collecting import BLOB_AGE_S, collect_blobs, retire_orphans
from controller.preparation.queue import COLLECT_JOB, SWEEP_JOB


@dataclass
class Job:
    func_name: str


@dataclass
class FakeQueue:
    """As much of RQ's queue as the clock uses. Sets `stopping` after so many looks."""

    stopping: threading.Event
    looks: int = 1
    failures: list[Exception] = field(default_factory=list)
    is_working: bool = False
    waiting: list[Job] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def get_jobs(self, length: int) -> list[Job]:
        self.looks -= 1
        if self.looks == 0:
            self.stopping.set()
        if self.failures:
            raise self.failures.pop(0)
        return self.waiting[:length]

    def enqueue(self, name: str, **_: Any) -> None:
        self.asked.append(name)
        if not self.is_working:
            self.waiting.append(Job(name))


def run(times: Iterator[float] | None = None, **settings: Any) -> FakeQueue:
    queue: Any = FakeQueue(threading.Event(), **settings)
    clock = (times or itertools.repeat(0.0)).__next__
    sweep_forever(queue, queue.stopping, look_s=0.0, clock=clock)
    found: FakeQueue = queue
    return found


def test_a_new_process_asks_for_both_jobs_at_once_and_for_the_sweep_first() -> None:
    assert run().asked == [SWEEP_JOB, COLLECT_JOB]


def test_a_job_that_waits_is_not_asked_for_again() -> None:
    assert run(waiting=[Job(SWEEP_JOB)]).asked == [COLLECT_JOB]


def test_the_sweep_comes_at_every_look_and_the_collection_once_in_its_period() -> None:
    looks = int(COLLECT_S / SWEEP_S) + 1
    asked = run((number * SWEEP_S for number in range(looks)), looks=looks, is_working=True).asked
    assert asked.count(SWEEP_JOB) == looks
    assert [at for at, name in enumerate(asked) if name == COLLECT_JOB] == [1, len(asked) - 1]


@pytest.mark.parametrize("failure", [RedisAwayError("away"), ValueError("a job that can't be read"), OSError("full")])
def test_no_failure_ends_the_clock_or_loses_a_job(failure: Exception) -> None:
    assert run(looks=2, failures=[failure]).asked == [SWEEP_JOB, COLLECT_JOB]


class Collections:
    """Stands in for collections, which wait until they may end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.fails = False
        monkeypatch.setattr(jobs, "_collection", self._collection)

    async def _collection(self) -> None:
        self.begun.release()
        assert await asyncio.to_thread(self.may_end.wait, 10)
        if self.fails:
            raise OSError("the bucket is away")

    def end(self) -> None:
        self.may_end.set()
        # Free as soon as the thread is done.
        assert jobs._collecting.acquire(timeout=10)
        jobs._collecting.release()


@pytest.mark.parametrize("fails", [False, True])
def test_preparations_do_not_wait_for_a_collection_and_one_runs_at_a_time(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    collections = Collections(monkeypatch)
    collections.fails = fails

    jobs.collect()
    assert collections.begun.acquire(timeout=10)
    jobs.collect()
    assert [thread.name for thread in threading.enumerate()].count("collection") == 1
    collections.end()

    jobs.collect()
    assert collections.begun.acquire(timeout=10)
    collections.end()


@dataclass
class World:
    """What SQL and Redis hold, as far as the collection looks."""

    rows: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    referenced: set[str] = field(default_factory=set)
    queued: set[str] = field(default_factory=set)
    retired: list[str] = field(default_factory=list)
    looks: int = 0
    #: Called after each look into SQL.
    after_look: Callable[[], Any] = lambda: None

    async def stored_uids(self) -> set[str]:
        found = set(self.rows)
        self.looks += 1
        self.after_look()
        return found

    async def referenced_blobs(self) -> set[str]:
        return set(self.referenced)

    async def event_blobs(self) -> set[str]:
        return set(self.queued)

    async def published_functions(self) -> set[str]:
        return set(self.published)

    async def retire_function(self, uid: str) -> int:
        self.retired.append(uid)
        return 0


async def retire(world: Any) -> int:
    return await retire_orphans(world, world, second_look_s=0.0)


async def test_a_published_function_without_a_row_is_retired() -> None:
    world = World(rows={"living", "unpublished"}, published={"living", "deleted"})
    assert await retire(world) == 1
    assert world.retired == ["deleted"]
    assert world.looks == 2


async def test_a_function_whose_row_appears_before_the_second_look_lives() -> None:
    world = World(published={"new", "deleted"})
    world.after_look = lambda: world.rows.add("new")
    await retire(world)
    assert world.retired == ["deleted"]


async def test_a_database_that_is_empty_is_not_believed() -> None:
    world = World(rows=set(), published={"a", "b", "c", "d"})
    assert await retire(world) == 0
    assert world.retired == []


async def test_without_suspects_there_is_no_second_look() -> None:
    world = World(rows={"living"}, published={"living"})
    assert await retire(world) == 0
    assert world.looks == 1


async def collect(blobs: MemoryBlobStore, world: Any) -> int:
    return await collect_blobs(blobs, world, world, second_look_s=0.0)


async def test_old_blobs_that_nothing_refers_to_are_removed() -> None:
    now = [0.0]
    blobs = MemoryBlobStore(lambda: now[0])
    released, queued, unneeded = [await blobs.put(data) for data in (b"released", b"queued", b"unneeded")]
    now[0] = BLOB_AGE_S + 1
    young = await blobs.put(b"young")
    world: Any = World(referenced={released}, queued={queued})
    assert await collect(blobs, world) == 1
    assert {sha256 async for sha256, _ in blobs.list()} == {released, queued, young}
    assert not await blobs.exists(unneeded)


async def test_a_blob_that_is_named_again_before_the_second_look_stays() -> None:
    """A layer is deleted while a function is being made of it: for a moment nobody names its blob."""
    now = [0.0]
    blobs = MemoryBlobStore(lambda: now[0])
    sha256, unneeded = [await blobs.put(data) for data in (b"layer", b"unneeded")]
    now[0] = BLOB_AGE_S + 1

    class NamedAgain(World):
        async def event_blobs(self) -> set[str]:
            self.referenced.add(sha256)
            return set()

    assert await collect(blobs, NamedAgain()) == 1
    assert await blobs.exists(sha256)
    assert not await blobs.exists(unneeded)


async def test_what_can_t_be_read_lets_nothing_be_removed() -> None:
    now = [0.0]
    blobs = MemoryBlobStore(lambda: now[0])
    sha256 = await blobs.put(b"of an image")
    now[0] = BLOB_AGE_S + 1

    class Unreadable(World):
        async def referenced_blobs(self) -> set[str]:
            raise ValueError("the manifest of a later release")

    with pytest.raises(ValueError, match="later release"):
        await collect(blobs, Unreadable())
    assert await blobs.exists(sha256)


async def test_a_blob_that_is_put_again_during_the_collection_stays() -> None:
    now = [0.0]
    blobs = MemoryBlobStore(lambda: now[0])
    sha256 = await blobs.put(b"again")
    now[0] = BLOB_AGE_S + 1

    class PutAgain(World):
        async def event_blobs(self) -> set[str]:
            await blobs.put(b"again")
            return set()

    world: Any = PutAgain()
    assert await collect(blobs, world) == 0
    assert await blobs.exists(sha256)
