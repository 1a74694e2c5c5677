"""A sandbox's control groups, touched directly: what the engine takes 20 to 600 ms for takes microseconds here.

Everything set here is what the engine was told as well (or, like the boost and the freezer, passes), so that nobody
who reloads the engine's or the init system's view undoes a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MIB = 1024 * 1024
_FREEZE_TIMEOUT_S = 0.5
_EMPTY_TIMEOUT_S = 2.0
_POLL_S = 0.0005


class CgroupVersion(StrEnum):
    """Which of the kernel's two interfaces the host mounts."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupPaths:
    """The directories of one container; on v2 they are one and the same."""

    version: CgroupVersion
    memory: Path
    cpu: Path
    freezer: Path
    #: Whose `cgroup.procs` lists every process.
    procs: Path


class CgroupNotFoundError(Exception):
    """No directory of the container under the control group root; `str()` lists where was looked."""


def cgroup_version(root: Path) -> CgroupVersion:
    """Tell which interface is mounted at `root`. A hybrid layout (v2 without controllers beside v1) is v1."""
    return CgroupVersion.V2 if (root / "cgroup.controllers").exists() else CgroupVersion.V1


def parse_memberships(proc_cgroup: str) -> dict[str, str]:
    """Map each controller to its path, from the text of `/proc/<pid>/cgroup`; v2 is the controller ''."""
    found = {}
    for line in proc_cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            found[controller] = path
    return found


def find_cgroups(root: Path, container_id: str, proc_cgroup: str) -> CgroupPaths:
    """Find the control groups of a container, whose first process has the given `/proc/<pid>/cgroup`.

    The kernel's word comes first; the places where the engine's two drivers (cgroupfs, systemd) put containers are
    tried after it, because inside a control group namespace the kernel's paths are relative. Raises
    CgroupNotFoundError.
    """
    memberships = parse_memberships(proc_cgroup)
    if cgroup_version(root) is CgroupVersion.V2:
        path = _existing(_candidates(root, "", memberships, container_id), container_id)
        return CgroupPaths(version=CgroupVersion.V2, memory=path, cpu=path, freezer=path, procs=path)
    at = {
        controller: _existing(_candidates(root, controller, memberships, container_id), container_id)
        for controller in ("memory", "cpu", "freezer")
    }
    return CgroupPaths(
        version=CgroupVersion.V1, memory=at["memory"], cpu=at["cpu"], freezer=at["freezer"], procs=at["freezer"]
    )


def _candidates(root: Path, controller: str, memberships: dict[str, str], container_id: str) -> Iterator[Path]:
    told = memberships.get(controller, "")
    # Co-mounted controllers: the directory is named after all of them, with or without a link for each.
    mounts = [root / controller] if controller else [root]
    if controller == "cpu":
        mounts += [root / "cpu,cpuacct", root / "cpuacct,cpu"]
    for mount in mounts:
        if container_id in told and ".." not in told:
            yield mount / told.lstrip("/")
        yield mount / "docker" / container_id
        yield mount / "system.slice" / f"docker-{container_id}.scope"


def _existing(candidates: Iterator[Path], container_id: str) -> Path:
    looked = []
    for path in candidates:
        if path.is_dir():
            return path
        looked.append(str(path))
    raise CgroupNotFoundError(
        f"no control group of container {container_id[:12]}; looked at {', '.join(looked)}. The worker needs the "
        f"host's /sys/fs/cgroup, writable"
    )


class Cgroup:
    """The control groups of one running container. Owns descriptors; not for use by two tasks at once."""

    def __init__(self, paths: CgroupPaths) -> None:
        """Open what is read often. Raises OSError."""
        self.paths = paths
        self._is_v2 = paths.version is CgroupVersion.V2
        self._peak_fd = -1
        self._events_fd = os.open(
            paths.memory / ("memory.events" if self._is_v2 else "memory.oom_control"), os.O_RDONLY
        )
        # v2 has no such file before Linux 5.19.
        with contextlib.suppress(OSError):
            name = "memory.peak" if self._is_v2 else "memory.max_usage_in_bytes"
            self._peak_fd = os.open(paths.memory / name, os.O_RDONLY)
        self._last_peak_mb = 0

    def boost_cpu(self) -> None:
        """Lift the CPU limit. Raises OSError."""
        self._write_quota(None)

    def limit_cpu(self, quota_us: int, period_us: int) -> None:
        """Set the CPU limit. Raises OSError."""
        self._write_quota((quota_us, period_us))

    def memory_peak_mb(self) -> int:
        """Return the most memory used so far, rounded up; once the container is gone, what was last seen."""
        with contextlib.suppress(OSError, ValueError):
            if self._peak_fd >= 0:
                used = int(os.pread(self._peak_fd, 64, 0))
                self._last_peak_mb = max(self._last_peak_mb, -(-used // MIB))
        return self._last_peak_mb

    def oom_kill_count(self) -> int | None:
        """Return how many processes the memory limit has cost; None once the control group is gone."""
        try:
            text = os.pread(self._events_fd, 4096, 0).decode()
        except OSError:
            return None
        return parse_oom_kills(text)

    async def kill(self) -> bool:
        """Stop every process for good. True: none of them executes another instruction.

        Freezes first, because processes that still run could fork faster than they are counted. False when the
        freezer did not get hold of them in time; they were sent SIGKILL nevertheless.
        """
        is_frozen = False
        try:
            with contextlib.suppress(OSError):
                self._write_freezer(frozen=True)
                is_frozen = await _wait_until(self._is_frozen, _FREEZE_TIMEOUT_S)
        finally:
            # Also when cancelled: a sandbox that stays frozen could never be ended by its own time-outs.
            self._signal_all()
            with contextlib.suppress(OSError):
                self._write_freezer(frozen=False)
        return is_frozen or await _wait_until(self._is_empty, _EMPTY_TIMEOUT_S)

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        self.memory_peak_mb()
        for name in ("_peak_fd", "_events_fd"):
            fd = getattr(self, name)
            if fd >= 0:
                setattr(self, name, -1)
                os.close(fd)

    def _write_quota(self, quota: tuple[int, int] | None) -> None:
        if self._is_v2:
            _write(self.paths.cpu / "cpu.max", f"{quota[0]} {quota[1]}" if quota else "max")
        else:
            _write(self.paths.cpu / "cpu.cfs_quota_us", str(quota[0]) if quota else "-1")

    def _write_freezer(self, *, frozen: bool) -> None:
        if self._is_v2:
            _write(self.paths.freezer / "cgroup.freeze", "1" if frozen else "0")
        else:
            _write(self.paths.freezer / "freezer.state", "FROZEN" if frozen else "THAWED")

    def _is_frozen(self) -> bool:
        if self._is_v2:
            return "frozen 1" in (self.paths.freezer / "cgroup.events").read_text()
        return (self.paths.freezer / "freezer.state").read_text().strip() == "FROZEN"

    def _is_empty(self) -> bool:
        try:
            return not (self.paths.procs / "cgroup.procs").read_text().strip()
        except OSError:
            return True

    def _signal_all(self) -> None:
        if self._is_v2:
            # Linux 5.14; below it the loop does.
            with contextlib.suppress(OSError):
                _write(self.paths.procs / "cgroup.kill", "1")
        with contextlib.suppress(OSError):
            for line in (self.paths.procs / "cgroup.procs").read_text().split():
                # 0 stands for a process outside our own process namespace; killing "0" would be killing ourselves.
                if (pid := int(line)) > 0:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def parse_oom_kills(text: str) -> int:
    """Read the `oom_kill` counter of `memory.oom_control` (v1) or `memory.events` (v2); 0 where there is none."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0


async def _wait_until(predicate: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
