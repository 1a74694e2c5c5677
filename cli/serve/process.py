"""One running child: its start, its output, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cli.serve.lines import LineSplitter

#: A grandchild may hold the pipe open; the last words of the child itself arrive sooner.
_LAST_WORDS_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program, its complete environment, its working directory, descriptors that it inherits."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    pass_fds: tuple[int, ...] = ()


class ChildProcess:
    """A child in a session of its own: the terminal's Ctrl-C reaches only the supervisor, which stops in order."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.Task[None]) -> None:
        self._process = process
        self._reader = reader

    @classmethod
    async def start(cls, command: Command, on_line: Callable[[bytes], None]) -> ChildProcess:
        """Return when the process exists. `on_line` gets each line of its stdout and stderr, on this loop.

        The child dies with this process, however that ends. Raises: `OSError`.
        """
        read_fd, write_fd = os.pipe()
        try:
            # A pipe of ours: the end of the process is then told apart from the end of its output.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")), str(os.getpid()), *command.argv,
                env=dict(command.env), cwd=command.cwd, pass_fds=command.pass_fds, start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=write_fd, stderr=write_fd,
            )  # fmt: skip
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return cls(process, asyncio.create_task(_read_lines(read_fd, on_line)))

    @property
    def pid(self) -> int:
        """The process id; it stays the child's until `wait` has returned."""
        return self._process.pid

    async def wait(self) -> int:
        """Return the exit status, negative for a signal, when the process and its last lines are in. Repeatable."""
        status = await self._process.wait()
        # Not `await self._reader`: another waiter may have cancelled it already.
        await asyncio.wait({self._reader}, timeout=_LAST_WORDS_S)
        self._reader.cancel()
        return status

    def terminate(self) -> None:
        """Ask the process to end; no-op when it has."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Kill the process and what it started in its session; no-op when it has ended."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


async def _read_lines(read_fd: int, on_line: Callable[[bytes], None]) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", buffering=0)
    )
    splitter = LineSplitter()
    try:
        while chunk := await reader.read(64 * 1024):
            for line in splitter.feed(chunk):
                on_line(line)
    finally:
        for line in splitter.end():
            on_line(line)
        transport.close()
