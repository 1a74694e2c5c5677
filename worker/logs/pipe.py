"""Reads the FIFO into which a sandbox's processes write stdout and stderr."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from pathlib import Path
from typing import Protocol

#: The most that an unprivileged process may ask for.
CAPACITY_BYTES = 1_048_576
_SMALLEST_CAPACITY_BYTES = 65_536
#: Read in one turn of the event loop: a function that floods its log gets its share of turns, not more.
_READ_BYTES = 65_536
_RETRY_S = 0.02


class LogSink(Protocol):
    """Where a pipe's contents go."""

    def write(self, data: bytes) -> None:
        """Take a chunk, of any size, cut anywhere. Must not block or raise."""
        ...

    def is_full(self) -> bool:
        """Tell whether to wait with the next chunk. `drain` does not ask."""
        ...


class LogPipe:
    """One FIFO, from `open` to `close`; used in the event loop's thread only."""

    def __init__(self, path: Path, sink: LogSink) -> None:
        self._path = path
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._handle = -1
        self._capacity_bytes = _SMALLEST_CAPACITY_BYTES
        self._retry: asyncio.TimerHandle | None = None

    @property
    def capacity_bytes(self) -> int:
        """What the pipe holds before its writers wait."""
        return self._capacity_bytes

    def open(self) -> None:
        """Open the FIFO and begin to read it. Raises OSError."""
        # Also for writing: without a writer of our own, the pipe would be at its end whenever nobody else has it open.
        handle = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not stat.S_ISFIFO(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(f"{self._path} is not a FIFO")
        self._handle = handle
        self._capacity_bytes = _widen(handle)
        self._loop.add_reader(handle, self._readable)

    def drain(self) -> None:
        """Hand on what is in the pipe now: all that was written before this call, at most the pipe's capacity."""
        left = self._capacity_bytes
        while left > 0:
            data = self._read()
            if not data:
                return
            left -= len(data)
            self._sink.write(data)

    def close(self) -> None:
        """Stop reading; what is still in the pipe is dropped. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        handle, self._handle = self._handle, -1
        if handle >= 0:
            self._loop.remove_reader(handle)
            os.close(handle)

    def _readable(self) -> None:
        if self._sink.is_full():
            # The writers wait meanwhile, as for any slow reader.
            self._loop.remove_reader(self._handle)
            self._retry = self._loop.call_later(_RETRY_S, self._resume)
            return
        data = self._read()
        if data:
            self._sink.write(data)

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._handle, self._readable)

    def _read(self) -> bytes:
        if self._handle < 0:
            return b""
        try:
            return os.read(self._handle, _READ_BYTES)
        except BlockingIOError:
            return b""


def _widen(handle: int) -> int:
    wanted = CAPACITY_BYTES
    while wanted > _SMALLEST_CAPACITY_BYTES:
        try:
            return fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, wanted)
        except OSError:
            # The user's share of pipe memory is used up, or the machine allows less.
            wanted //= 2
    return fcntl.fcntl(handle, fcntl.F_GETPIPE_SZ)
