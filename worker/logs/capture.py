"""The log of one environment: joins its pipe, the tail of the invocation that runs, and the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.logs.lines import Report, end_line, report_line, start_line
from worker.logs.pipe import LogPipe
from worker.logs.segments import MAX_MESSAGE_BYTES
from worker.logs.store import LogStore
from worker.logs.tail import TailBuffer

#: With its line break, what a message may be.
_LONGEST_LINE_BYTES = MAX_MESSAGE_BYTES - 1


class LogCapture:
    """Everything that one environment logs, in the order in which it was written.

    Order: `open`, then `begin` and `end` for each invocation, then `close`. Output between invocations, and before
    the first, is kept under the same stream. Used in the event loop's thread only.
    """

    def __init__(
        self,
        path: Path,
        *,
        store: LogStore,
        function_uid: str,
        stream: str,
        now_ms: Callable[[], int],
        tail: TailBuffer | None = None,
    ) -> None:
        """`tail` is the environment's, when it outlives this capture."""
        self._store = store
        self._function_uid = function_uid
        self._stream = stream
        self._now_ms = now_ms
        self._pipe = LogPipe(path, self)
        self._tail = tail or TailBuffer()
        self._partial = b""

    @property
    def stream(self) -> str:
        """The log stream's name."""
        return self._stream

    def open(self) -> None:
        """Begin to read the pipe. Raises OSError."""
        self._pipe.open()

    def close(self) -> None:
        """Keep what is in the pipe, and stop. Idempotent."""
        self._settle()
        self._pipe.close()

    def line(self, line: str) -> None:
        """Log a line of the platform's own, after all that has been written so far."""
        self._settle()
        data = line.encode()
        self._tail.add(data)
        self._append(data)

    def begin(self, request_id: str, version: str, *, keeps_tail: bool = False) -> None:
        """An invocation starts: log START; its tail begins here, or with what was logged since the last one's end."""
        self._settle()
        if not keeps_tail:
            self._tail.clear()
        self.line(start_line(request_id, version))

    def end(self, report: Report) -> bytes:
        """The invocation is over: log all that was written before, END and REPORT; return the tail."""
        self.line(end_line(report.request_id) + report_line(report))
        return self._tail.contents()

    # LogSink

    def write(self, data: bytes) -> None:
        """Take a chunk from the pipe; a line that it cuts waits for its rest."""
        self._tail.add(data)
        cut = data.rfind(b"\n") + 1
        if not cut:
            self._partial += data
            if len(self._partial) >= _LONGEST_LINE_BYTES:
                self._append(self._partial[:_LONGEST_LINE_BYTES] + b"\n")
                self._partial = self._partial[_LONGEST_LINE_BYTES:]
            return
        if self._partial:
            # On its own: the store cuts what is longer than a message may be.
            first = data.index(b"\n") + 1
            self._append(self._partial + data[:first])
            data, cut = data[first:], cut - first
        self._append(data[:cut])
        self._partial = data[cut:]

    def is_full(self) -> bool:
        """Tell whether the store is behind."""
        return self._store.is_full(self._function_uid)

    def _settle(self) -> None:
        """Take in all that has been written, and end a line that has no end: another writer follows."""
        self._pipe.drain()
        if self._partial:
            self._append(self._partial + b"\n")
            self._tail.add(b"\n")
            self._partial = b""

    def _append(self, data: bytes) -> None:
        self._store.append(self._function_uid, self._stream, self._now_ms(), data)
