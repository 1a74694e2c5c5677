"""Tries, at worker start, each fast path on a throw-away sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from worker.engine import DockerEngine
from worker.sandbox.cgroups import Cgroup, CgroupNotFoundError, cgroup_version, find_cgroups
from worker.sandbox.docker_driver import DockerDriver
from worker.sandbox.driver import Sandbox, SandboxSpec, SandboxStartFailedError
from worker.sandbox.fast_paths import CGROUP_ROOT, FastPaths
from worker.sandbox.identity import Owner
from worker.sandbox.namespace import Process
from worker.sandbox.tmp_disk import TmpDiskError, TmpDisks

_DISK_MB = 512
_MEMORY_MB = 128


async def engine_id(engine: DockerEngine) -> str:
    """Return the engine's own, lasting id."""
    async with asyncio.timeout(30):
        return str((await engine.call(engine.client.info))["ID"])


async def probe(engine: DockerEngine, image: str, *, owner: Owner, state_dir: Path, host_state_dir: Path) -> FastPaths:
    """Start and remove one sandbox of `image` (any of ours) and tell what works here. Takes a second.

    Raises SandboxStartFailedError when no sandbox can be had at all: above all when network namespaces can't be
    entered, for which this driver has no substitute. The text names what the worker lacks.
    """
    missing: dict[str, str] = {}
    has_loop_disks = await _has_loop(state_dir / "tmp", missing)
    version = cgroup_version(CGROUP_ROOT)
    paths = FastPaths(has_cgroups=False, has_loop_disks=has_loop_disks, cgroup_version=version)
    code_dir = state_dir / "run" / owner.folder / f"probe-{uuid.uuid4().hex}"
    code_dir.mkdir(parents=True)

    def driver(tried: FastPaths) -> DockerDriver:
        return DockerDriver(engine, owner=owner, state_dir=state_dir, host_state_dir=host_state_dir, fast_paths=tried)

    def spec() -> SandboxSpec:
        return SandboxSpec(
            environment_id=f"probe-{uuid.uuid4().hex}",
            image=image,
            memory_mb=_MEMORY_MB,
            ephemeral_storage_mb=_DISK_MB,
            code_dir=code_dir,
        )

    used = driver(paths)
    try:
        try:
            sandbox = await used.start(spec())
        except SandboxStartFailedError as error:
            if not has_loop_disks:
                raise
            # The engine may be unable to mount what the worker can make: judge by a second try without.
            await used.close()
            paths = replace(paths, has_loop_disks=False)
            used = driver(paths)
            sandbox = await used.start(spec())
            missing["loop_disks"] = str(error)
        try:
            has_cgroups = await _has_cgroups(engine, sandbox, missing)
        finally:
            sandbox.runtime_api_listener.close()
            await used.destroy(sandbox)
    finally:
        await used.close()
        code_dir.rmdir()
    return replace(paths, has_cgroups=has_cgroups, missing=missing)


async def _has_loop(folder: Path, missing: dict[str, str]) -> bool:
    def attempt() -> None:
        disk = TmpDisks(folder / "probe", folder).create(uuid.uuid4().hex, _DISK_MB)
        try:
            disk.attach()
        finally:
            disk.remove()

    try:
        await asyncio.to_thread(attempt)
    except (TmpDiskError, OSError) as error:
        missing["loop_disks"] = str(error)
        return False
    return True


async def _has_cgroups(engine: DockerEngine, sandbox: Sandbox, missing: dict[str, str]) -> bool:
    async with asyncio.timeout(30):
        found: dict[str, Any] = await engine.call(engine.client.api.inspect_container, sandbox.id)
    with contextlib.closing(Process(found["State"]["Pid"], belongs=lambda text: sandbox.id in text)) as process:
        memberships = Path(f"/proc/{process.pid}/cgroup").read_text()
        try:
            with contextlib.closing(Cgroup(find_cgroups(CGROUP_ROOT, sandbox.id, memberships))) as cgroup:
                cgroup.boost_cpu()
                if await cgroup.kill() and process.pid > 0:
                    return True
                missing["cgroups"] = "the sandbox's processes could not be frozen and killed within two seconds"
        except (CgroupNotFoundError, OSError) as error:
            missing["cgroups"] = f"{error}. The worker needs the host's /sys/fs/cgroup, writable"
    return False
