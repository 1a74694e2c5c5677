"""Keeps each function's log on the worker's disk, within a limit, without blocking the event loop."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from worker.logs.segments import Cursor, LogEvent, Record, SegmentLog

__all__ = ["Cursor", "LogEvent", "LogStore"]

#: Appended lines are on disk (not synced) this much later, or sooner when there are many.
FLUSH_INTERVAL_S = 0.2
_FLUSH_BYTES = 65_536
#: Waiting for the disk, of one function: from here on its sandboxes' pipes aren't read.
_FULL_BYTES = 1_048_576
#: From here on its lines are dropped: invocations may still end, each with a whole pipe of output.
_DROP_BYTES = 16 * _FULL_BYTES
_UID = re.compile(r"[A-Za-z0-9_-]{1,128}")

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _FunctionLog:
    files: SegmentLog
    pending: list[Record] = field(default_factory=list)
    pending_bytes: int = 0
    writing_bytes: int = 0
    dropped_bytes: int = 0
    #: Held around everything that touches the files.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class LogStore:
    """Logs under `{root}/{function_uid}`: up to `limit_bytes_per_function` (and two records of 256 KB) each.

    Order: `start`, then anything, then `close`. The newest lines win: when the limit is reached, the older half of a
    function's log is dropped. A crash loses what was appended in the last `FLUSH_INTERVAL_S`.
    """

    def __init__(self, root: Path, limit_bytes_per_function: int) -> None:
        if limit_bytes_per_function < 2:
            raise ValueError(f"limit_bytes_per_function is {limit_bytes_per_function}: expected 2 or more")
        self._root = root
        self._limit_bytes = limit_bytes_per_function
        self._functions: dict[str, _FunctionLog] = {}
        self._dirty: set[str] = set()
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the directory, and begin to flush. Raises OSError."""
        await asyncio.to_thread(self._root.mkdir, parents=True, exist_ok=True)
        self._flusher = asyncio.create_task(self._flush_forever(), name="log-flusher")

    async def close(self) -> None:
        """Write what is pending, and stop. Idempotent."""
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.cancel()
            await asyncio.wait([flusher])
        await self.flush()

    def append(self, function_uid: str, stream: str, at_ms: int, data: bytes) -> None:
        """Add whole lines, each ending in a line break. Takes microseconds; never raises for a full disk."""
        if not data:
            return
        log = self._log(function_uid)
        if log.pending_bytes + log.writing_bytes + len(data) > _DROP_BYTES:
            log.dropped_bytes += len(data)
            return
        if log.dropped_bytes:
            data = f"[{log.dropped_bytes} bytes of log were dropped: the disk is too slow]\n".encode() + data
            log.dropped_bytes = 0
        log.pending.append(Record(at_ms=at_ms, stream=stream, data=data))
        log.pending_bytes += len(data)
        self._dirty.add(function_uid)
        self._some.set()
        if log.pending_bytes >= _FLUSH_BYTES:
            self._many.set()

    def is_full(self, function_uid: str) -> bool:
        """Tell whether lines arrive faster than the disk takes them: let the writers wait then."""
        log = self._functions.get(function_uid)
        return log is not None and log.pending_bytes + log.writing_bytes > _FULL_BYTES

    async def read(self, function_uid: str, after: Cursor | None, limit: int) -> tuple[list[LogEvent], Cursor | None]:
        """Return up to `limit` events after the cursor (None: from the oldest kept), oldest first, and the cursor
        behind them, with which to ask again: to follow a log, ask until there are none, and later again.

        When what the cursor points to has been dropped, it goes on with the oldest kept. Returns nothing for an
        unknown function.
        """
        log = self._log(function_uid)
        await self._flush(function_uid, log)
        async with log.lock:
            return await asyncio.to_thread(log.files.read, after, limit)

    async def delete(self, function_uid: str) -> None:
        """Remove a function's log. No error when there is none; lines appended later make a new one."""
        log = self._log(function_uid)
        log.pending, log.pending_bytes = [], 0
        async with log.lock:
            await asyncio.to_thread(log.files.delete)
        if not log.pending:
            self._functions.pop(function_uid, None)
            self._dirty.discard(function_uid)

    async def flush(self) -> None:
        """Write everything that has been appended before. A full disk is logged, and the lines are lost."""
        dirty, self._dirty = self._dirty, set()
        for function_uid in dirty:
            log = self._functions.get(function_uid)
            if log is not None:
                await self._flush(function_uid, log)

    def _log(self, function_uid: str) -> _FunctionLog:
        log = self._functions.get(function_uid)
        if log is None:
            if not _UID.fullmatch(function_uid):
                raise ValueError(f"not a function's uid: {function_uid[:200]!r}; expected {_UID.pattern}")
            log = _FunctionLog(files=SegmentLog(self._root / function_uid, self._limit_bytes))
            self._functions[function_uid] = log
        return log

    async def _flush_forever(self) -> None:
        while True:
            await self._some.wait()
            try:
                async with asyncio.timeout(FLUSH_INTERVAL_S):
                    await self._many.wait()
            except TimeoutError:
                pass
            self._some.clear()
            self._many.clear()
            await self.flush()

    async def _flush(self, function_uid: str, log: _FunctionLog) -> None:
        async with log.lock:
            if not log.pending:
                return
            records, log.pending = log.pending, []
            log.writing_bytes, log.pending_bytes = log.pending_bytes, 0
            try:
                # Not left behind by a cancellation: the thread would write beside the lock's next owner.
                await _in_thread(log.files, records)
            except OSError as error:
                _logger.warning("log lines lost", extra={"function_uid": function_uid, "error": str(error)})
            finally:
                log.writing_bytes = 0


async def _in_thread(files: SegmentLog, records: list[Record]) -> None:
    writing = asyncio.ensure_future(asyncio.to_thread(files.append, records))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise
