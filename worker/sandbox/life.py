"""One life of a container: from the start of its first process to that process's end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass, field

from worker.sandbox.cgroups import Cgroup
from worker.sandbox.dns import DnsForwarder
from worker.sandbox.driver import ExitStatus
from worker.sandbox.exits import exit_code
from worker.sandbox.namespace import Process

logger = logging.getLogger(__name__)

#: After this, an end that nobody can explain counts as a kill.
_EXPLAIN_TIMEOUT_S = 30.0
#: How long a better explanation is awaited for the end of a sandbox that was killed on purpose.
_KILL_PATIENCE_S = 0.1
_SHORTEST_POLL_S = 0.001
_LONGEST_POLL_S = 0.05
#: What is told of an end that nobody can explain, or that was ours.
KILLED = 137


@dataclass(slots=True, eq=False)
class Life:
    """What the worker holds of one running container. Owns its descriptors until `close`."""

    process: Process
    cgroup: Cgroup | None
    exited: asyncio.Future[ExitStatus]
    dns: DnsForwarder | None = None
    #: Write end of the assignment FIFO; -1 when not open, or used.
    gate: int = -1
    #: The engine's word.
    engine_code: int | None = None
    is_oom_killed: bool = False
    #: Set when the worker itself sends SIGKILL.
    is_killed: bool = False
    _settling: asyncio.Task[None] | None = field(default=None, init=False)
    _is_watching: bool = field(default=False, init=False)

    def watch(self) -> None:
        """Resolve `exited` as soon as the process ends."""
        self._is_watching = True
        asyncio.get_running_loop().add_reader(self.process.pidfd, self._on_end)

    def close(self) -> None:
        """Release everything. Idempotent. The process, if it lives, is not touched."""
        self._unwatch()
        if self._settling is not None:
            self._settling.cancel()
        self.close_gate()
        if self.dns is not None:
            self.dns.close()
        if self.cgroup is not None:
            self.cgroup.close()
        self.process.close()

    def close_gate(self) -> None:
        """Give up the assignment FIFO. Idempotent."""
        if self.gate >= 0:
            gate, self.gate = self.gate, -1
            os.close(gate)

    def take_gate(self) -> int:
        """Return the assignment FIFO's descriptor, now the caller's; -1 when it was taken before."""
        gate, self.gate = self.gate, -1
        return gate

    def resolve(self, code: int) -> None:
        """Settle `exited`, once."""
        if not self.exited.done():
            self.exited.set_result(ExitStatus(code=code, oom_killed=self.is_oom_killed))

    def note_oom(self) -> None:
        """Look whether the memory limit has killed; soon after the end the control group is gone."""
        if self.cgroup is not None:
            self.cgroup.memory_peak_mb()
            self.is_oom_killed = self.is_oom_killed or bool(self.cgroup.oom_kill_count())

    def _unwatch(self) -> None:
        if self._is_watching:
            self._is_watching = False
            asyncio.get_running_loop().remove_reader(self.process.pidfd)

    def _on_end(self) -> None:
        self._unwatch()
        self.note_oom()
        self._settling = asyncio.get_running_loop().create_task(self._settle())

    async def _settle(self) -> None:
        """Find the exit code: the kernel tells when the process has been reaped, the engine some time later."""
        loop = asyncio.get_running_loop()
        poll_s, known_at = _SHORTEST_POLL_S, loop.time() + _KILL_PATIENCE_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXPLAIN_TIMEOUT_S):
                while True:
                    code = exit_code(self.process.pidfd)
                    if code is None:
                        code = self.engine_code
                    if code is not None and not self._may_be_oom(code):
                        self.resolve(code)
                        return
                    if self.is_killed and loop.time() > known_at:
                        break
                    await asyncio.sleep(poll_s)
                    poll_s = min(poll_s * 1.5, _LONGEST_POLL_S)
        if not self.is_killed:
            logger.warning("neither the kernel nor the engine tells how a sandbox ended")
        self.resolve(KILLED)

    def _may_be_oom(self, code: int) -> bool:
        """Without control group files only the engine knows the reason of a SIGKILL that was not ours."""
        return code == KILLED and self.cgroup is None and not self.is_killed and self.engine_code is None
