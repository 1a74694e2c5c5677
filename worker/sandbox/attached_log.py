"""The output of a container that writes to the engine's pipes: brought into the sandbox's FIFO `log`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import socket
import stat
from pathlib import Path

from worker.sandbox.namespace import Process
from worker.sandbox.output_stream import STDERR, STDOUT, Frames, MarkedLines

logger = logging.getLogger(__name__)

_READ_BYTES = 65_536
#: Enough for what an init process says of a program that can't be executed.
_HEAD_BYTES = 8_192
#: Only a sandbox that tampers with its first process's output, or an engine in distress, is waited for so long.
FLUSH_TIMEOUT_S = 3.0
_POLL_S = 0.002


class AttachedLog:
    """The output of one life of a container, from before its start. One event loop. Owns its descriptors.

    Of what the engine hands on nobody can tell whether it is all. So a marker is written into the container's own
    pipes, behind all that was written until then: when it arrives here, everything has.
    """

    def __init__(self, connection: socket.socket, path: Path) -> None:
        """`connection` is the engine's answer to "attach" (now this object's), `path` the FIFO. Raises OSError."""
        self._connection = connection
        self._source = connection.fileno()
        # Also for reading: a FIFO can't be opened for writing before somebody reads it.
        try:
            self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            connection.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._lines = {STDOUT: MarkedLines(), STDERR: MarkedLines()}
        self._pending = b""
        self._changed = asyncio.Event()
        self._has_ended = False
        #: What came first.
        self.head = b""
        self._loop.add_reader(self._source, self._readable)

    async def flush(self, process: Process) -> None:
        """Return once all that the container's processes have written so far is in the FIFO. Never raises."""
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                if not process.has_ended() and not self._has_ended:
                    await self._mark(process)
                    await self._until_marked(process)
                if process.has_ended():
                    await self.ended()
        except TimeoutError:
            logger.warning("a sandbox's output may be incomplete: its marker did not come back")

    async def ended(self) -> None:
        """Return once the engine has handed on everything, and all of it is in the FIFO."""
        while not self._has_ended or self._pending:
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """Stop; what has not been handed on is dropped. Idempotent."""
        self._end()
        if self._fifo >= 0:
            self._loop.remove_writer(self._fifo)
            os.close(self._fifo)
            self._fifo = -1

    async def _until_marked(self, process: Process) -> None:
        while self._pending or not all(lines.is_marked for lines in self._lines.values()):
            if self._has_ended or process.has_ended():
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                # Its end makes no noise here.
                async with asyncio.timeout(0.05):
                    await self._changed.wait()

    async def _mark(self, process: Process) -> None:
        for number, lines in self._lines.items():
            marker = secrets.token_hex(16).encode()
            try:
                end = _open_pipe(process, number)
            except OSError:
                # Closed by whoever runs there: then nobody's output goes that way.
                continue
            lines.expect(marker)
            try:
                await _write(end, marker)
            finally:
                # At once: while somebody has it open, the engine does not see the end of the output.
                os.close(end)

    def _readable(self) -> None:
        try:
            data = os.read(self._source, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._pending += b"".join(lines.rest() for lines in self._lines.values())
            self._end()
        else:
            for number, piece in self._frames.take(data):
                if lines := self._lines.get(number):
                    self._pending += lines.take(piece)
                if len(self.head) < _HEAD_BYTES:
                    self.head += piece[:_HEAD_BYTES]
        self._hand_on()

    def _hand_on(self) -> None:
        was_full = False
        while self._pending and self._fifo >= 0:
            try:
                self._pending = self._pending[os.write(self._fifo, self._pending[:_READ_BYTES]) :]
            except BlockingIOError:
                was_full = True
                break
        if was_full:
            # Whoever writes in the sandbox waits meanwhile, as for any slow reader.
            if self._source >= 0:
                self._loop.remove_reader(self._source)
            self._loop.add_writer(self._fifo, self._writable)
        self._changed.set()

    def _writable(self) -> None:
        self._loop.remove_writer(self._fifo)
        if self._source >= 0:
            self._loop.add_reader(self._source, self._readable)
        self._hand_on()

    def _end(self) -> None:
        self._has_ended = True
        if self._source >= 0:
            self._loop.remove_reader(self._source)
            self._source = -1
            self._connection.close()
        self._changed.set()


def _open_pipe(process: Process, number: int) -> int:
    """Open the writing end that the process has as `number`. Raises OSError for what is no pipe of the kernel's own."""
    path = f"/proc/{process.pid}/fd/{number}"
    # Looked at first: to open what is something else could have effects of its own.
    _check_pipe(os.stat(path))
    end = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_pipe(os.fstat(end))
        if process.has_ended():
            raise OSError("its process has ended, and the number may be another one's")
    except OSError:
        os.close(end)
        raise
    return end


def _check_pipe(found: os.stat_result) -> None:
    if not stat.S_ISFIFO(found.st_mode) or found.st_dev != _pipe_device():
        raise OSError("not a pipe of the kernel's own")


@functools.cache
def _pipe_device() -> int:
    reading, writing = os.pipe()
    try:
        return os.fstat(writing).st_dev
    finally:
        os.close(reading)
        os.close(writing)


async def _write(end: int, marker: bytes) -> None:
    while True:
        try:
            # Shorter than what the kernel writes as a whole.
            os.write(end, marker)
        except BlockingIOError:
            await asyncio.sleep(_POLL_S)
        except OSError:
            return
        else:
            return
