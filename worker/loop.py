"""One life of a worker: reads its inbox, renews its lease, reconciles with a Redis that has changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from contract import messages
from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import LEASE_MS, Operations, Registration, WorkerState, WorkerView
from contract.launch import LaunchSpec
from contract.messages import LOST, InvokeHeader, LogsRequest, PrepareRequest
from worker.environments.pool import EnvironmentPool
from worker.executor import Delivery, Executor

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 1.0
_REAP_EVERY: Final = 2
#: Start failures in a row after which the cell places nothing here, and for how many heartbeats.
_FAILURES: Final = 3
_UNPLACEABLE_BEATS: Final = 15
#: A reconciliation whose snapshot was overtaken by a completion is made again.
_RECONCILE_TRIES: Final = 20
_DRAIN_POLL_S: Final = 0.05


class Life:
    """One life of the worker in Redis, from `register` to being fenced or drained."""

    def __init__(self, operations: Operations, registration: Registration) -> None:
        self.operations = operations
        self.instance = registration.instance
        self.epoch = registration.epoch
        self.ended = asyncio.Event()
        #: The connection, and life of the server, for which Redis's view of this instance is known to be right:
        #: an answer that was lost with a connection may have left it with a token too many or too few.
        self.reconciled_with = operations.bus.link
        #: By `time.monotonic()`: until then nobody else may think that this life is over.
        self._leased_until = 0.0
        self._renewed = asyncio.Event()

    def renew(self, asked_at: float) -> None:
        """The lease was renewed by a heartbeat that was sent at `asked_at` (`time.monotonic()`)."""
        self._leased_until = asked_at + LEASE_MS / 1000
        self._renewed.set()

    async def authority(self) -> None:
        """Return while the lease is good; otherwise wait until it is again, which after being fenced is never.

        A process that stood still must not go on with what has meanwhile been given to others.
        """
        while time.monotonic() >= self._leased_until:
            self._renewed.clear()
            await self._renewed.wait()


class WorkerLoop:
    """Runs one life: `run` returns when it was fenced or has drained."""

    def __init__(  # noqa: PLR0913 - what a life consists of
        self,
        life: Life,
        *,
        engine_id: str,
        memory_mb: int,
        pool: EnvironmentPool,
        executor: Executor,
        info: Callable[[], dict[str, Any]],
        on_prepare: Callable[[PrepareRequest, LaunchSpec], Awaitable[None]],
        on_logs: Callable[[LogsRequest], Awaitable[None]],
        on_forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._life = life
        self._engine_id = engine_id
        self._memory_mb = memory_mb
        self._pool = pool
        self._executor = executor
        self._info = info
        self._on_prepare = on_prepare
        self._on_logs = on_logs
        self._on_forget = on_forget
        self._draining = asyncio.Event()
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._unplaceable_beats = 0
        self._trimmed = b"0-0"

    def drain(self) -> None:
        """Take no more work; `run` returns when what runs has ended."""
        self._draining.set()

    def end(self) -> None:
        """Stop serving now; what still runs is cut off."""
        self._life.ended.set()

    def started(self, is_ok: bool) -> None:
        """Told after every start of an environment: a worker that only fails must not swallow everything."""
        self._failures = 0 if is_ok else self._failures + 1
        if self._failures >= _FAILURES:
            log.error("environments do not start here; no new ones are placed for a while")
            self._unplaceable_beats = _UNPLACEABLE_BEATS
            self._failures = 0

    async def run(self) -> None:
        """Serve until fenced or drained."""
        inbox = asyncio.create_task(self._read_inbox(), name="inbox")
        beats = asyncio.create_task(self._beat(), name="heartbeat")
        ended = asyncio.create_task(self._life.ended.wait(), name="ended")
        drained = asyncio.create_task(self._drained(), name="drained")
        try:
            done, _ = await asyncio.wait([inbox, beats, ended, drained], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in (inbox, beats, ended, drained, *self._side_tasks):
                task.cancel()
            await asyncio.gather(inbox, beats, ended, drained, *self._side_tasks, return_exceptions=True)

    # --- inbox ----------------------------------------------------------------------------------------------------

    async def _read_inbox(self) -> None:
        stream = self._life.operations.bus.keys.inbox(self._life.instance)
        async for entry_id, entry in self._life.operations.bus.read(stream, b"0-0"):
            try:
                self._take(dict(zip(entry[::2], entry[1::2], strict=True)))
            except (ValueError, KeyError) as error:
                log.error("an inbox message can't be read", extra={"entry": entry_id.decode(), "error": str(error)})
            self._executor.last_inbox = entry_id

    def _take(self, fields: dict[bytes, bytes]) -> None:
        match fields[messages.TYPE]:
            case b"invoke":
                self._executor.accept(_delivery(fields))
            # In tasks, as invocations are: those read before have taken their environments by then.
            case b"retire":
                self._beside(self._retire(fields[messages.VERSION].decode()))
            case b"forget":
                self._beside(self._forget(fields[messages.VERSION].decode()))
            case b"prepare":
                request = PrepareRequest.from_json(fields[messages.HEADER])
                self._beside(self._on_prepare(request, LaunchSpec.from_json(fields[messages.LAUNCH])))
            case b"logs":
                self._beside(self._on_logs(LogsRequest.from_json(fields[messages.HEADER])))
            case kind:
                log.warning("an inbox message of an unknown kind is ignored", extra={"kind": kind.decode()})

    async def _retire(self, version_key: str) -> None:
        self._pool.retire(version_key)

    async def _forget(self, function_uid: str) -> None:
        self._pool.forget(function_uid)
        await self._on_forget(function_uid)

    def _beside(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except (RedisUnavailableError, RedisReplyError, OSError) as error:
                log.error("a request of a controller failed", extra={"error": str(error)})
            except Exception:
                log.exception("a request of a controller failed for a reason of ours")

        task = asyncio.create_task(run())
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    # --- lease ----------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        beat = 0
        while True:
            beat += 1
            self._unplaceable_beats = max(0, self._unplaceable_beats - 1)
            with contextlib.suppress(RedisUnavailableError, RedisReplyError):
                state = await self._heartbeat()
                if state is WorkerState.UNKNOWN or self._life.operations.bus.link != self._life.reconciled_with:
                    state = await self._reconcile()
                if state is WorkerState.FENCED:
                    log.warning("fenced", extra={"worker_id": self._life.instance})
                    self._life.ended.set()
                    return
                if beat % _REAP_EVERY == 0:
                    await self._pool.reap()
                    await self._trim()
            await asyncio.sleep(HEARTBEAT_S)

    async def _trim(self) -> None:
        """Completions trim the inbox behind its reader; a worker without invocations must do it itself."""
        if self._executor.last_inbox != self._trimmed:
            self._trimmed = self._executor.last_inbox
            inbox = self._life.operations.bus.keys.inbox(self._life.instance)
            await self._life.operations.bus.command("XTRIM", inbox, "MINID", self._trimmed)

    async def _heartbeat(self) -> WorkerState:
        asked_at = time.monotonic()
        state = await self._life.operations.heartbeat(
            self._life.instance,
            is_placeable=self._unplaceable_beats == 0,
            is_draining=self._draining.is_set(),
            info=self._encoded_info(),
        )
        if state in {WorkerState.LIVE, WorkerState.DRAINING}:
            self._life.renew(asked_at)
        return state

    async def _reconcile(self) -> WorkerState:
        """Tell Redis what is true here, again if it was overtaken by a change of ours."""
        self._life.reconciled_with = ""
        for _ in range(_RECONCILE_TRIES):
            link, changes = self._life.operations.bus.link, self._pool.changes
            view = WorkerView(
                engine_id=self._engine_id,
                epoch=self._life.epoch,
                memory_mb=self._memory_mb,
                info=self._encoded_info(),
                held=self._executor.held(),
                idle=self._pool.idle_tokens(),
                reserved=self._pool.reservations(),
                last_inbox=self._executor.last_inbox,
            )
            state = await self._life.operations.reconcile(self._life.instance, view, LOST.to_json())
            if state is WorkerState.FENCED:
                return state
            if changes == self._pool.changes and link == self._life.operations.bus.link:
                self._life.reconciled_with = link
                log.info("reconciled with Redis", extra={"worker_id": self._life.instance, "held": len(view.held)})
                break
        # Overtaken each time: Redis has an outdated view, so the next heartbeat comes back to it.
        return state

    def _encoded_info(self) -> bytes:
        return orjson.dumps(self._info())

    async def _drained(self) -> None:
        await self._draining.wait()
        while True:
            if await self._has_nothing_left():
                return
            await asyncio.sleep(_DRAIN_POLL_S)

    async def _has_nothing_left(self) -> bool:
        """Whether Redis gives no more work here, and what it gave before it knew, read or unread, is done."""
        await self._executor.wait_idle()
        try:
            if await self._heartbeat() is not WorkerState.DRAINING:
                return False
            bus = self._life.operations.bus
            return not await bus.command("SCARD", bus.keys.held(self._life.instance))
        except (RedisUnavailableError, RedisReplyError):
            return False


def _delivery(fields: dict[bytes, bytes]) -> Delivery:
    return Delivery(
        id=fields[messages.ID].decode(),
        is_cold=fields[messages.START] == b"cold",
        pool=fields[messages.POOL].decode(),
        header=InvokeHeader.from_json(fields[messages.HEADER]),
        raw_header=fields[messages.HEADER],
        payload=fields[messages.PAYLOAD],
        launch=fields.get(messages.LAUNCH, b""),
        evict=tuple(filter(None, fields.get(messages.EVICT, b"").decode().split("\n"))),
    )
