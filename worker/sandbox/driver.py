"""The port to whatever isolates user code."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from worker.sandbox.identity import Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What isolation one environment needs; nothing of the function's own settings or secrets."""

    environment_id: str
    #: An engine image whose entry point is the gate (see `SandboxDriver.start`); with `holder_image` any image.
    image: str
    #: Empty for images of ours. Set for a foreign image, which has no gate: an image of ours, whose container waits at
    #: its gate for ever and holds the network that the foreign one joins when it is released.
    holder_image: str = ""
    #: Limit of memory, swap included.
    memory_mb: int
    #: Size of the private `/tmp`.
    ephemeral_storage_mb: int
    #: The unpacked deployment package, mounted read-only at `/var/task`; None: what the image has there.
    code_dir: Path | None = None
    #: The merged layers, mounted read-only at `/opt`; None: what the image has there.
    layers_dir: Path | None = None
    #: Further TCP addresses to listen at inside the sandbox, in `127.0.0.0/8`: see `Sandbox.listeners`.
    listeners: tuple[tuple[str, int], ...] = ()
    #: Host name → IPv4 address: names that the sandbox resolves so, with all names below them, whoever else knows them.
    names: Mapping[str, str] = field(default_factory=dict)
    #: Paths that a foreign image declares as volumes: they keep the image's contents and are as read-only as the rest.
    volumes: tuple[str, ...] = ()
    #: The working directory that a foreign image itself names; it is there without being looked for.
    working_directory: str = ""
    #: Extra labels for the operator's eyes (function name and so on), beside those that mark ownership.
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def gate(self) -> bool:
        """Whether the image's own first program is the gate; False for foreign images."""
        return not self.holder_image


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What a sandbox runs: program, complete environment, working directory."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str = "/var/task"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """How a sandbox's first process ended."""

    #: As a shell reports it: 0-255, 128 + n after signal n.
    code: int
    #: True when the kernel killed a process of this sandbox for its memory limit.
    oom_killed: bool = False
    #: Only of foreign images: why their program could not be executed, in the words of Lambda's; empty: it ran.
    not_executed: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class Sandbox:
    """One running sandbox, from `start` or `restart` until it exits."""

    id: str
    environment_id: str
    #: Listening at 127.0.0.1:9001 inside the sandbox and nowhere else; non-blocking; owned by the caller after
    #: `start`, who closes it. Whoever connects to it is this sandbox.
    runtime_api_listener: socket.socket
    #: One for each of `SandboxSpec.listeners`, in that order; as `runtime_api_listener` in all that is said of it.
    listeners: tuple[socket.socket, ...] = ()
    #: On the worker's side: holds the FIFO `log`, into which the processes of the sandbox write stdout and stderr.
    run_dir: Path
    #: Resolves, once, when the first process has ended, for whatever reason, `kill` and `destroy` included.
    exited: asyncio.Future[ExitStatus]

    def close_listeners(self) -> None:
        """Close all its sockets, for whoever owns them. Idempotent."""
        for listener in (self.runtime_api_listener, *self.listeners):
            listener.close()


class SandboxStartFailedError(Exception):
    """The sandbox could not be started; nothing of it is left. `str()` names the step and the engine's own words."""


class ImageStartFailedError(SandboxStartFailedError):
    """The engine, which has started the rest of the sandbox, refuses a foreign image's container: the image's fault.

    It says nothing about this machine: whoever brings such an image must not make a worker look broken.
    """


class SandboxGoneError(Exception):
    """The sandbox no longer exists or runs, so it can't do what was asked."""


class WorkingDirectoryError(Exception):
    """A foreign image has no such working directory; `str()` says which, in the words of Lambda's."""


class SandboxDriver(Protocol):
    """Makes, signals and removes sandboxes. Calls for different sandboxes may overlap; for one they must not.

    A sandbox runs as a numeric non-root user without capabilities or new privileges, on a read-only root, with
    limits on memory, processes and descriptors, a private size-limited `/tmp`, and a network of its own from which
    only what the operator allows can be reached.
    """

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Start a sandbox, up to its gate.

        On return a process exists that waits at the gate: no line of user code has run, the network is closed in,
        the Runtime API's socket listens. It runs with full CPU until `limit_cpu`. Raises SandboxStartFailedError. A
        cancelled or failed start leaves nothing behind.
        """
        ...

    async def release(self, sandbox: Sandbox, process: ProcessSpec) -> None:
        """Open the gate, once: the waiting process becomes `process`. Raises SandboxGoneError.

        Foreign images have no gate; their container is made only now, and takes as long as a start. Raises
        SandboxStartFailedError when it can't be (ImageStartFailedError where the image is why), and
        WorkingDirectoryError: nothing of the image runs then, and the sandbox is good for `destroy` only. A program
        that can't be executed is told by `Sandbox.exited`.
        """
        ...

    async def flush_log(self, sandbox: Sandbox) -> None:
        """Return once all that the sandbox's processes have written so far is in the FIFO `log`.

        At once for sandboxes with a gate, whose processes write there themselves. The FIFO must be read meanwhile.
        Never raises; waits a few seconds at most, for a sandbox that tampers with its own output.
        """
        ...

    async def restart(self, sandbox: Sandbox) -> Sandbox:
        """Start an exited sandbox again, up to its gate, with the `/tmp` that it had.

        Legal once `exited` is done, else ValueError. The old handle is dead afterwards. Raises
        SandboxStartFailedError, having destroyed what was left; a cancelled restart destroys as well.
        """
        ...

    def limit_cpu(self, sandbox: Sandbox) -> None:
        """Hold the sandbox to its share: memory_mb / 1769 CPUs. Idempotent; never raises; takes microseconds."""
        ...

    async def kill(self, sandbox: Sandbox) -> None:
        """Make sure that no process of the sandbox runs another instruction of user code.

        True on return; `exited` resolves soon after. Keeps `/tmp`. No error for a dead or unknown sandbox.
        """
        ...

    async def destroy(self, sandbox: Sandbox) -> None:
        """Kill and remove the sandbox and everything that belongs to it: container, `/tmp`, FIFOs.

        Idempotent; no error for an unknown sandbox. What the engine refuses to remove now is removed by `sweep`.
        """
        ...

    def memory_peak_mb(self, sandbox: Sandbox) -> int:
        """Return the most memory used at any time since `start`, in MB rounded up; 0 when it can't be told."""
        ...

    async def sweep(self) -> int:
        """Remove whatever this worker's predecessors (same cell, engine and worker id, another epoch) left.

        Containers, `/tmp` files, loop devices, run directories. Returns how many sandboxes it removed. When it
        returns no process of theirs runs. Raises what the engine answered when one could not be removed, after all
        others were. Also removes what an earlier `destroy` of this driver could not.
        """
        ...

    async def owners(self) -> set[Owner]:
        """Return the other lives, of any worker of this cell, that have anything on this engine; its own life not."""
        ...

    async def sweep_owner(self, owner: Owner) -> int:
        """Remove whatever one other life left, as `sweep` does for the predecessors, and return how many sandboxes.

        The caller knows that this life is over. Raises ValueError for an owner of another cell or engine, and for the
        driver's own life; else as `sweep`. Idempotent; no error for an owner who left nothing.
        """
        ...

    async def close(self) -> None:
        """Release the driver's own resources (threads, event subscription). Sandboxes are not touched."""
        ...
