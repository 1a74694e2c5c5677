"""What every kind of sandbox of the Docker driver has in common."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Protocol

from worker.sandbox.cgroups import CgroupNotFoundError
from worker.sandbox.containers import Containers, EndedAtOnceError
from worker.sandbox.driver import ExitStatus, ProcessSpec, SandboxSpec
from worker.sandbox.enclosure import Enclosure
from worker.sandbox.engine_calls import ENGINE_ERRORS, EngineCalls
from worker.sandbox.files import SandboxFiles
from worker.sandbox.identity import Owner
from worker.sandbox.namespace import NamespaceError
from worker.sandbox.network import NetworkSetupError
from worker.sandbox.run_dir import GateError, RunDir
from worker.sandbox.tmp_disk import TmpDiskError

#: Every way in which a start can fail that is no mistake of ours.
START_ERRORS = (
    *ENGINE_ERRORS,
    NamespaceError,
    NetworkSetupError,
    TmpDiskError,
    GateError,
    EndedAtOnceError,
    CgroupNotFoundError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What sandboxes are made with: one driver's."""

    owner: Owner
    calls: EngineCalls
    containers: Containers
    files: SandboxFiles
    enclosure: Enclosure
    #: Whether the host knows the setting of that name.
    has_swappiness: bool
    #: Directories that foreign images are known to have, by image: images never change, and to look takes a while.
    known_directories: set[tuple[str, str]] = field(default_factory=set)
    #: Foreign images whose groups have been looked at.
    checked_groups: set[str] = field(default_factory=set)


class Box(Protocol):
    """All that belongs to one sandbox. Order: `prepare`, `come_alive`, then anything; last `remove`.

    One call at a time, but for `kill` and `remove`, which may come at any time after `prepare` has returned or raised.
    """

    spec: SandboxSpec
    run: RunDir

    @property
    def id(self) -> str:
        """The engine's name for it; known once it is prepared."""
        ...

    async def prepare(self) -> None:
        """Make its files and containers. Raises START_ERRORS; what was made goes by `remove`."""
        ...

    async def come_alive(self) -> tuple[list[socket.socket], asyncio.Future[ExitStatus]]:
        """Start it up to its gate, also again once its end is known; its sockets, and a future of its end.

        Raises START_ERRORS; what was made goes by `remove`.
        """
        ...

    async def release(self, process: ProcessSpec) -> None:
        """See `SandboxDriver.release`."""
        ...

    async def kill(self) -> None:
        """See `SandboxDriver.kill`."""
        ...

    async def flush_log(self) -> None:
        """See `SandboxDriver.flush_log`."""
        ...

    def limit_cpu(self) -> None:
        """See `SandboxDriver.limit_cpu`. Raises OSError."""
        ...

    def memory_peak_mb(self) -> int:
        """See `SandboxDriver.memory_peak_mb`."""
        ...

    async def remove(self) -> None:
        """Kill and remove all of it. Idempotent. Raises ENGINE_ERRORS; called again, it goes on."""
        ...
