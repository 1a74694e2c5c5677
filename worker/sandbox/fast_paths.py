"""Which ways around the engine a worker may use here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class FastPaths:
    """What works, and why the rest does not. Entering network namespaces has no substitute and is not listed."""

    #: Control group files are writable: kill and CPU boost in microseconds, memory peaks. Else by the engine, no
    #: boost, and peaks unknown.
    has_cgroups: bool
    #: `/tmp` is a disk of its own. Else a tmpfs, which counts as memory and is lost at a restart.
    has_loop_disks: bool
    #: `v1` or `v2`, the host's control group interface.
    cgroup_version: str = "v1"
    #: Name of a missing path → what failed, and what the worker would need.
    missing: dict[str, str] = field(default_factory=dict)
