"""What the engine is told about a sandbox's container. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worker.sandbox.driver import SandboxSpec
from worker.sandbox.identity import GROUP_ID, USER_ID, Owner

#: Memory at which a function gets one whole CPU, as Lambda gives it.
MB_PER_CPU = 1769
CPU_PERIOD_US = 100_000
#: The kernel's smallest quota.
MIN_CPU_QUOTA_US = 1_000
MAX_PROCESSES = 1024
MAX_OPEN_FILES = 1024
#: One name for all, which `/etc/hosts` resolves: programs look up their own host name and must not wait for DNS.
HOST_NAME = "sandbox"
#: Before anything of the worker's or the engine's, when the machine itself runs out of memory.
OOM_SCORE = 500
#: What the kernel shows of the whole machine, or lets anybody configure. The engine's own list, which this replaces,
#: has no pressure files: whoever opens one for writing makes the kernel work for him.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopDevice:
    """`/tmp` as a file system of its own on a block device; the engine mounts it."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmpfs:
    """`/tmp` in memory, where loop devices can't be had: it counts as memory, and a restart empties it."""

    size_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the engine finds what it mounts; all paths as the engine sees them."""

    code_dir: str
    run_dir: str
    hosts_file: str
    resolv_file: str
    tmp: LoopDevice | Tmpfs


def cpu_quota_us(memory_mb: int) -> int:
    """Return the CPU time per CPU_PERIOD_US that goes with `memory_mb`."""
    return max(MIN_CPU_QUOTA_US, memory_mb * CPU_PERIOD_US // MB_PER_CPU)


def container_name(owner: Owner, environment_id: str) -> str:
    """Return the engine-wide unique name of an environment's container."""
    return f"lambdock-{owner.cell}-{environment_id}"


def container_config(spec: SandboxSpec, owner: Owner, places: Places, *, has_swappiness: bool) -> dict[str, Any]:
    """Return the body of the engine's "create container" request: every limit and every mount in one place.

    `has_swappiness` is true on cgroup v1, the only version that knows the setting.
    """
    labels = {**spec.labels, **owner.labels(spec.environment_id)}
    memory_bytes = spec.memory_mb * MIB
    mounts = [
        _bind(places.code_dir, "/var/task"),
        # A FIFO may be written through a read-only mount: only the directory is protected.
        _bind(places.run_dir, "/run/lambdock"),
        _bind(places.hosts_file, "/etc/hosts"),
        _bind(places.resolv_file, "/etc/resolv.conf"),
    ]
    host: dict[str, Any] = {
        "NetworkMode": owner.network,
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "MaskedPaths": list(MASKED_PATHS),
        "IpcMode": "private",
        "PidsLimit": MAX_PROCESSES,
        "Ulimits": [
            {"Name": "nofile", "Soft": MAX_OPEN_FILES, "Hard": MAX_OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "Memory": memory_bytes,
        # Memory and swap together: equal means no swap.
        "MemorySwap": memory_bytes,
        "OomKillDisable": False,
        "OomScoreAdj": OOM_SCORE,
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": cpu_quota_us(spec.memory_mb),
        "LogConfig": {"Type": "none", "Config": {}},
        # Runtimes expect not to be process 1: signals to themselves work, and orphans are reaped.
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "Sysctls": {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"},
        "Mounts": mounts,
    }
    if has_swappiness:
        host["MemorySwappiness"] = 0
    match places.tmp:
        case LoopDevice(device=device):
            mounts.append(_disk(device, labels))
        case Tmpfs(size_mb=size_mb):
            host["Tmpfs"] = {"/tmp": f"rw,exec,nosuid,nodev,size={size_mb}m,mode=1777"}  # noqa: S108 - of the sandbox
    return {
        "Image": spec.image,
        "Hostname": HOST_NAME,
        "User": f"{USER_ID}:{GROUP_ID}",
        "Labels": labels,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def _bind(source: str, target: str) -> dict[str, Any]:
    # The propagation is left to the engine: private, but for sources below its own root (state in one of its volumes,
    # where the worker runs in a container), which it mounts as slaves only.
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}


def _disk(device: str, labels: dict[str, str]) -> dict[str, Any]:
    # An anonymous volume goes with its container in one request; a named one would take another.
    return {
        "Type": "volume",
        "Target": "/tmp",  # noqa: S108 - of the sandbox
        "ReadOnly": False,
        "VolumeOptions": {
            "NoCopy": True,
            "Labels": labels,
            "DriverConfig": {
                "Name": "local",
                "Options": {"type": "ext4", "device": device, "o": "nosuid,nodev,noatime"},
            },
        },
    }
