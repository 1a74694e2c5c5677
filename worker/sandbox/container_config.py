"""What the engine is told about a sandbox's container. Pure."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

from worker.sandbox.driver import ProcessSpec, SandboxSpec
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
#: Of a container that only waits.
HOLDER_MEMORY_MB = 64
#: Each is copied at a start.
MAX_VOLUMES = 64
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

    run_dir: str
    hosts_file: str
    resolv_file: str
    tmp: LoopDevice | Tmpfs
    code_dir: str | None = None
    layers_dir: str | None = None


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
    # A FIFO may be written through a read-only mount: only the directory is protected.
    mounts = [_bind(places.run_dir, "/run/lambdock"), *_name_files(places)]
    if places.code_dir is not None:
        mounts.append(_bind(places.code_dir, "/var/task"))
    if places.layers_dir is not None:
        mounts.append(_bind(places.layers_dir, "/opt"))
    host = _host_config(spec.memory_mb, mounts, has_swappiness=has_swappiness)
    _add_tmp(host, places.tmp, labels)
    host |= _own_network(owner)
    return {"Image": spec.image, "Hostname": HOST_NAME, "HostConfig": host, **_common(labels)}


def holder_config(spec: SandboxSpec, owner: Owner, places: Places, *, has_swappiness: bool) -> dict[str, Any]:
    """Return the "create container" request of the container that holds the network of a foreign image's."""
    labels = {**spec.labels, **owner.labels(spec.environment_id)}
    mounts = [_bind(places.run_dir, "/run/lambdock"), *_name_files(places)]
    host = _host_config(HOLDER_MEMORY_MB, mounts, has_swappiness=has_swappiness) | _own_network(owner)
    # It never uses it, but the engine's own work at a start counts, too: a small share would double its time.
    host["CpuQuota"] = CPU_PERIOD_US
    return {"Image": spec.holder_image, "Hostname": HOST_NAME, "HostConfig": host, **_common(labels)}


def foreign_config(
    spec: SandboxSpec, process: ProcessSpec, owner: Owner, places: Places, *, holder_id: str, has_swappiness: bool
) -> dict[str, Any]:
    """Return the "create container" request of a foreign image: as isolated as ours, in the holder's network.

    Raises ValueError for an image with too many volumes.
    """
    labels = {**spec.labels, **owner.labels(spec.environment_id)}
    mounts = _name_files(places)
    host = _host_config(spec.memory_mb, mounts, has_swappiness=has_swappiness)
    _add_tmp(host, places.tmp, labels)
    mounts += [_read_only_volume(name, path, labels) for name, path in foreign_volumes(spec, owner).items()]
    host["NetworkMode"] = f"container:{holder_id}"
    # A name without "=" takes away what the engine would set by itself.
    unset = [] if "HOSTNAME" in process.env else ["HOSTNAME"]
    return {
        "Image": spec.image,
        # All of it here: the engine adds the image's own command only where no entry point is given.
        "Entrypoint": list(process.argv),
        "Cmd": [],
        "Env": [*(f"{name}={value}" for name, value in process.env.items()), *unset],
        "WorkingDir": process.cwd,
        "HostConfig": host,
        **_common(labels),
    }


def foreign_volumes(spec: SandboxSpec, owner: Owner) -> dict[str, str]:
    """Return the volumes that a foreign image's container has, by name, with their paths.

    Raises ValueError for an image with too many, and for paths that are not absolute: the engine takes them for others
    than ours, whatever they mean, and `../x` for one that lies over the read-only `/x`, writable.
    """
    relative = [path for path in spec.volumes if not path.startswith("/")]
    if relative:
        raise ValueError(f"the image declares the volume {relative[0][:200]!r}; a volume must be an absolute path")
    taken = {"/tmp", "/etc/hosts", "/etc/resolv.conf"}  # noqa: S108 - of the sandbox
    paths = sorted({posixpath.normpath(f"/{path.lstrip('/')}") for path in spec.volumes} - taken)
    if len(paths) > MAX_VOLUMES:
        raise ValueError(f"the image declares {len(paths)} volumes; at most {MAX_VOLUMES} are possible")
    name = container_name(owner, spec.environment_id)
    return {f"{name}-{number}": path for number, path in enumerate(paths)}


def _common(labels: dict[str, str]) -> dict[str, Any]:
    return {
        "User": f"{USER_ID}:{GROUP_ID}",
        "Labels": labels,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
    }


def _host_config(memory_mb: int, mounts: list[dict[str, Any]], *, has_swappiness: bool) -> dict[str, Any]:
    memory_bytes = memory_mb * MIB
    host: dict[str, Any] = {
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
        "CpuQuota": cpu_quota_us(memory_mb),
        "LogConfig": {"Type": "none", "Config": {}},
        # Runtimes expect not to be process 1: signals to themselves work, and orphans are reaped.
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "Mounts": mounts,
    }
    if has_swappiness:
        host["MemorySwappiness"] = 0
    return host


def _own_network(owner: Owner) -> dict[str, Any]:
    return {
        "NetworkMode": owner.network,
        "Sysctls": {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"},
    }


def _name_files(places: Places) -> list[dict[str, Any]]:
    return [_bind(places.hosts_file, "/etc/hosts"), _bind(places.resolv_file, "/etc/resolv.conf")]


def _add_tmp(host: dict[str, Any], tmp: LoopDevice | Tmpfs, labels: dict[str, str]) -> None:
    match tmp:
        case LoopDevice(device=device):
            host["Mounts"].append(_disk(device, labels))
        case Tmpfs(size_mb=size_mb):
            host["Tmpfs"] = {"/tmp": f"rw,exec,nosuid,nodev,size={size_mb}m,mode=1777"}  # noqa: S108 - of the sandbox


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


def _read_only_volume(name: str, target: str, labels: dict[str, str]) -> dict[str, Any]:
    # The engine makes a writable volume of every path that an image declares, unless it is told otherwise. This one is
    # filled from the image, too. Only volumes with names can be read-only, so it does not go with its container.
    return {
        "Type": "volume",
        "Source": name,
        "Target": target,
        "ReadOnly": True,
        "VolumeOptions": {"Labels": labels},
    }
