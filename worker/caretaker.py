"""Removes what dead workers left on this engine, whatever they were called.

A worker clears away its own earlier lives when it starts. One whose name has gone for good, as that of a container
that was made anew, has no successor: any living worker of its cell on its engine takes care of what it left.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from contract.bus.operations import Operations, WorkerState
from worker.sandbox.driver import SandboxDriver
from worker.sandbox.identity import Owner

log = logging.getLogger(__name__)

#: Far longer than a living worker takes to report to a Redis that has lost it, or to try its machine before it reports.
UNKNOWN_FOR_S: Final = 60.0


class Caretaker:
    """Call `look` now and then. Nothing of a worker is touched whose authority has not ended before."""

    def __init__(
        self,
        operations: Operations,
        driver: SandboxDriver,
        owner: Owner,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Act for `owner`, the present life of this worker. `now` is in seconds."""
        self._operations = operations
        self._driver = driver
        self._owner = owner
        self._now = now
        self._unknown_since: dict[Owner, float] = {}

    async def look(self) -> int:
        """Remove what the dead left, and bury them; returns how many sandboxes were removed.

        Raises what Redis and the engine raise; what was not removed is found again the next time.
        """
        # What the engine refused to remove before, of this life too.
        removed = await self._driver.sweep()
        workers = await self._operations.workers()
        fenced = self._fenced(workers)
        # One that has registered since is known at the next look, long before it counts as unknown.
        strangers = {owner for owner in await self._driver.owners() if owner.instance not in workers}
        for owner in fenced:
            removed += await self._clear_away(owner)
        for owner in self._long_unknown(strangers):
            # It may have reported a moment ago; else it can't any more.
            if await self._operations.end_unknown(owner.instance):
                removed += await self._clear_away(owner)
        return removed

    def _fenced(self, workers: dict[str, dict[str, str]]) -> list[Owner]:
        found = []
        for instance, worker in workers.items():
            name, _, epoch = instance.rpartition("@")
            if worker.get("state") == WorkerState.FENCED and worker.get("engine") == self._owner.engine_id:
                owner = Owner(cell=self._owner.cell, engine_id=self._owner.engine_id, worker_id=name, epoch=int(epoch))
                # The present life's end is that life's own affair.
                if owner != self._owner:
                    found.append(owner)
        return found

    def _long_unknown(self, strangers: set[Owner]) -> list[Owner]:
        now = self._now()
        self._unknown_since = {owner: self._unknown_since.get(owner, now) for owner in strangers}
        return [owner for owner, since in self._unknown_since.items() if now - since >= UNKNOWN_FOR_S]

    async def _clear_away(self, owner: Owner) -> int:
        removed = await self._driver.sweep_owner(owner)
        is_buried = await self._operations.bury(owner.instance)
        # Files that are still in use stay, and are met again each time.
        if removed or is_buried:
            log.warning("cleared away what a worker left", extra={"worker_id": owner.instance, "sandboxes": removed})
        return removed
