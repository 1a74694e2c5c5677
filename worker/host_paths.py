"""What the engine calls this worker's state directory."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

import docker.errors

from worker.engine import DockerEngine

_TIMEOUT_S: Final = 30
_CONTAINER_ID: Final = re.compile(r"/containers/([0-9a-f]{64})/")


async def find_host_state_dir(engine: DockerEngine, state_dir: Path, configured: str) -> Path:
    """Return the engine's name for `state_dir`: as configured; else from the mounts of the container that this worker
    runs in; else the same path, for a worker that runs on the engine's host itself.
    """
    if configured:
        return Path(configured)
    own = own_container_id(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if own is None:
        return state_dir
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            found = await engine.call(engine.client.api.inspect_container, own)
    except docker.errors.NotFound:
        return state_dir
    mounts = {mount["Destination"]: mount["Source"] for mount in found["Mounts"]}
    return translate(state_dir, mounts)


def own_container_id(mountinfo: str) -> str | None:
    """Return the id of the container whose mount table this is: the engine mounts files of its own into each."""
    for line in mountinfo.splitlines():
        if " /etc/hostname " in line and (match := _CONTAINER_ID.search(line)):
            return match.group(1)
    return None


def translate(path: Path, mounts: dict[str, str]) -> Path:
    """Return the host's name for a path below one of the container's mounts; the path itself when below none."""
    for parent in (path, *path.parents):
        if str(parent) in mounts:
            return Path(mounts[str(parent)]) / path.relative_to(parent)
    return path
