"""The directory that a sandbox and the worker share: two FIFOs, `log` and `assignment`, and nothing else."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.sandbox.assignment import assignment
from worker.sandbox.driver import ProcessSpec
from worker.sandbox.identity import GROUP_ID, USER_ID

LOG = "log"
ASSIGNMENT = "assignment"
_POLL_S = 0.002


class GateError(Exception):
    """The process at the gate did not open, or no longer reads, its assignment."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """One sandbox's directory on the worker's side."""

    path: Path

    def create(self) -> None:
        """Make the directory and both FIFOs. Raises OSError."""
        self.path.mkdir(parents=True)
        # The sandbox's user must pass through; the directory is mounted read-only there.
        self.path.chmod(0o755)
        self._make(LOG)
        self._make(ASSIGNMENT)

    def renew_assignment(self) -> None:
        """Put a fresh `assignment` in place for the next life. Raises OSError."""
        (self.path / ASSIGNMENT).unlink(missing_ok=True)
        self._make(ASSIGNMENT)

    def remove(self) -> None:
        """Delete the directory. Idempotent; never raises."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _make(self, name: str) -> None:
        fifo = self.path / name
        os.mkfifo(fifo, 0o600)
        # The worker is root and opens it anyway; nobody else on the host may read an assignment.
        os.chown(fifo, USER_ID, GROUP_ID)

    async def await_gate(self, has_ended: Callable[[], bool], timeout_s: float) -> int:
        """Return a descriptor to write the assignment to, once a process waits to read it. Raises GateError."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                return os.open(self.path / ASSIGNMENT, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                # ENXIO: nobody has it open for reading yet.
                if error.errno != errno.ENXIO:
                    raise GateError(f"the assignment FIFO can't be opened: {error}") from error
            if has_ended():
                raise GateError("the first process ended before it came to the gate; is the image's entry point ours?")
            if asyncio.get_running_loop().time() > deadline:
                raise GateError(f"nothing waits at the gate after {timeout_s} s; is the image's entry point the gate?")
            await asyncio.sleep(_POLL_S)


async def write_assignment(gate: int, process: ProcessSpec) -> None:
    """Tell the waiting process what to become, through the descriptor from `await_gate`, and close that.

    Raises GateError when nobody reads any more.
    """
    left = memoryview(assignment(process))
    try:
        while left:
            try:
                left = left[os.write(gate, left) :]
            except BlockingIOError:
                # Larger than the pipe (64 KiB): the gate is reading.
                await asyncio.sleep(_POLL_S)
    except OSError as error:
        raise GateError(f"the process at the gate is gone: {error}") from error
    finally:
        os.close(gate)
