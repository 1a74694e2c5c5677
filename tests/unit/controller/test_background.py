"""The clock of the sweep."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ConnectionError as RedisAwayError

from controller.background.__main__ import sweep_forever
from controller.preparation.queue import SWEEP_JOB


@dataclass
class Job:
    func_name: str


@dataclass
class FakeQueue:
    """As much of RQ's queue as the clock uses. Sets `stopping` after so many looks."""

    stopping: threading.Event
    looks: int = 1
    is_away: bool = False
    waiting: list[Job] = field(default_factory=list)

    def get_jobs(self, length: int) -> list[Job]:
        self.looks -= 1
        if self.looks == 0:
            self.stopping.set()
        if self.is_away:
            raise RedisAwayError("away")
        return self.waiting[:length]

    def enqueue(self, name: str, **_: Any) -> None:
        self.waiting.append(Job(name))


def run(**settings: Any) -> FakeQueue:
    queue = FakeQueue(threading.Event(), **settings)
    sweep_forever(queue, queue.stopping)
    return queue


def test_a_new_process_asks_for_a_sweep_at_once() -> None:
    assert run().waiting == [Job(SWEEP_JOB)]


def test_a_sweep_that_waits_is_not_asked_for_again() -> None:
    assert run(waiting=[Job(SWEEP_JOB)]).waiting == [Job(SWEEP_JOB)]


def test_a_redis_that_is_away_does_not_end_the_clock() -> None:
    assert run(is_away=True).waiting == []
