"""A sandbox driver in memory: it isolates nothing and runs nothing, and does what it is told to do wrong."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from worker.sandbox.driver import (
    ExitStatus,
    ProcessSpec,
    Sandbox,
    SandboxGoneError,
    SandboxSpec,
    SandboxStartFailedError,
)
from worker.sandbox.identity import Owner

KILLED = 137


@dataclass(slots=True, eq=False)
class MemorySandbox:
    """What a test may look at, and steer."""

    spec: SandboxSpec
    sandbox: Sandbox
    process: ProcessSpec | None = None
    is_cpu_limited: bool = False
    start_count: int = 1


@dataclass(slots=True)
class MemoryDriver:
    """Implements `SandboxDriver`.

    A released process runs until a test ends it with `exit`, or at once when `on_release` does. The Runtime API's
    socket is a real one on a loopback port, so that a test can be the runtime; so are further listeners, each on a
    port of its own rather than at the address asked for.
    """

    run_root: Path
    #: Awaited before each start: to delay it, to block it, or (by raising SandboxStartFailedError) to fail it.
    before_start: Callable[[SandboxSpec], Awaitable[None]] | None = None
    #: Called with each released process: to end it, to play the runtime, or (by raising) to refuse it.
    on_release: Callable[[MemorySandbox], None] | None = None
    #: Called by each flush of a log: to let come what is late.
    on_flush: Callable[[MemorySandbox], None] | None = None
    peak_mb: int = 42
    #: By environment id; destroyed ones are gone from here and in `destroyed`.
    live: dict[str, MemorySandbox] = field(default_factory=dict)
    destroyed: list[str] = field(default_factory=list)
    #: What a predecessor left: `sweep` removes it.
    leftovers: list[str] = field(default_factory=list)
    #: Called by each sweep: to fail it.
    before_sweep: Callable[[], None] | None = None
    owner: Owner = field(default_factory=lambda: Owner(cell="cell", engine_id="engine", worker_id="memory", epoch=1))
    #: What other lives have here, by owner.
    foreign: dict[Owner, int] = field(default_factory=dict)
    _count: int = 0

    async def start(self, spec: SandboxSpec) -> Sandbox:
        if self.before_start is not None:
            await self.before_start(spec)
        if spec.environment_id in self.live:
            raise SandboxStartFailedError(f"sandbox {spec.environment_id} exists already")
        self._count += 1
        run_dir = self.run_root / spec.environment_id
        run_dir.mkdir(parents=True)
        os.mkfifo(run_dir / "log")
        self.live[spec.environment_id] = MemorySandbox(spec=spec, sandbox=self._sandbox(spec, run_dir))
        return self.live[spec.environment_id].sandbox

    async def release(self, sandbox: Sandbox, process: ProcessSpec) -> None:
        known = self._current(sandbox)
        if known is None or sandbox.exited.done() or known.process is not None:
            raise SandboxGoneError(f"sandbox {sandbox.environment_id} is gone, or its gate was opened before")
        known.process = process
        if self.on_release is not None:
            self.on_release(known)

    async def flush_log(self, sandbox: Sandbox) -> None:
        """What a test writes is in the FIFO at once."""
        known = self._current(sandbox)
        if known is not None and self.on_flush is not None:
            self.on_flush(known)

    async def restart(self, sandbox: Sandbox) -> Sandbox:
        known = self._current(sandbox)
        if known is None:
            raise SandboxStartFailedError(f"sandbox {sandbox.environment_id} is gone: there is nothing to restart")
        if not sandbox.exited.done():
            raise ValueError(f"sandbox {sandbox.environment_id} still runs; kill it before its restart")
        if self.before_start is not None:
            try:
                await self.before_start(known.spec)
            except BaseException:
                await self.destroy(sandbox)
                raise
        known.process = None
        known.is_cpu_limited = False
        known.start_count += 1
        known.sandbox = self._sandbox(known.spec, sandbox.run_dir)
        return known.sandbox

    def limit_cpu(self, sandbox: Sandbox) -> None:
        if known := self._current(sandbox):
            known.is_cpu_limited = True

    async def kill(self, sandbox: Sandbox) -> None:
        if self._current(sandbox) is not None:
            self.exit(sandbox, KILLED)

    async def destroy(self, sandbox: Sandbox) -> None:
        if self._current(sandbox) is None:
            return
        self.exit(sandbox, KILLED)
        del self.live[sandbox.environment_id]
        self.destroyed.append(sandbox.environment_id)
        (sandbox.run_dir / "log").unlink()
        sandbox.run_dir.rmdir()

    def memory_peak_mb(self, sandbox: Sandbox) -> int:
        return self.peak_mb if self._current(sandbox) else 0

    async def sweep(self) -> int:
        if self.before_sweep is not None:
            self.before_sweep()
        count = len(self.leftovers)
        self.leftovers.clear()
        return count

    async def owners(self) -> set[Owner]:
        return set(self.foreign)

    async def sweep_owner(self, owner: Owner) -> int:
        if owner == self.owner or (owner.cell, owner.engine_id) != (self.owner.cell, self.owner.engine_id):
            raise ValueError(f"{owner} is no other life on the engine of {self.owner}")
        return self.foreign.pop(owner, 0)

    async def close(self) -> None:
        """Nothing is held."""

    def exit(self, sandbox: Sandbox, code: int, *, oom_killed: bool = False) -> None:
        """End the sandbox's first process, as if by itself; no effect on one that has ended."""
        if not sandbox.exited.done():
            sandbox.exited.set_result(ExitStatus(code=code, oom_killed=oom_killed))

    def _sandbox(self, spec: SandboxSpec, run_dir: Path) -> Sandbox:
        return Sandbox(
            id=f"memory-{self._count}",
            environment_id=spec.environment_id,
            runtime_api_listener=_listener(),
            listeners=tuple(_listener() for _ in spec.listeners),
            run_dir=run_dir,
            exited=asyncio.get_running_loop().create_future(),
        )

    def _current(self, sandbox: Sandbox) -> MemorySandbox | None:
        known = self.live.get(sandbox.environment_id)
        return known if known is not None and known.sandbox is sandbox else None


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener
