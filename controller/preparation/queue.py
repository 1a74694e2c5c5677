"""Hands preparations to RQ."""

from __future__ import annotations

import asyncio
from typing import Final

from redis import Redis
from rq import Queue

#: What RQ imports in the background process.
PREPARE_JOB: Final = "controller.background.jobs.prepare"
SWEEP_JOB: Final = "controller.background.jobs.sweep"
COLLECT_JOB: Final = "controller.background.jobs.collect"
_TIMEOUT_S: Final = 5
_KEEP_FAILED_S: Final = 86_400


def queue_name(cell: str) -> str:
    """Return the name of a cell's queue: RQ's keys are shared by all who use one Redis database."""
    return f"lambdock-{cell}"


def open_queue(redis_url: str, cell: str) -> Queue:
    """Return the cell's queue. Connects when it is first used."""
    connection = Redis.from_url(redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    return Queue(queue_name(cell), connection=connection)


class RqPreparationQueue:
    """The `PreparationQueue` on RQ; what is lost here, the sweep finds in SQL."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def enqueue(self, function_uid: str, version: str, revision_id: str) -> None:
        """See `PreparationQueue.enqueue`."""
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.to_thread(
                self._queue.enqueue,
                PREPARE_JOB,
                function_uid,
                version,
                revision_id,
                result_ttl=0,
                failure_ttl=_KEEP_FAILED_S,
            )
