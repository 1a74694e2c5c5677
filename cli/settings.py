"""What the command reads from its environment; no other module of `cli` does.

Plain dataclasses: a settings library would add 0.3 s to every `lambdock invoke`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.errors import UsageError

DEFAULT_ENDPOINT = "http://127.0.0.1:4566"
DEFAULT_LISTEN = "127.0.0.1:4566"
DEFAULT_REGION = "us-east-1"
#: Of each kind; a machine that could use more has room for a second platform.
MOST_PROCESSES = 64

#: The first of these that is set names the endpoint.
ENDPOINT_VARIABLES = ("LAMBDOCK_ENDPOINT", "AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Where the platform is."""

    endpoint: str = DEFAULT_ENDPOINT

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> ClientSettings:
        """Take the settings from `environment`, by default the process's own. Empty values count as unset."""
        env = os.environ if environment is None else environment
        named = next((env[name] for name in ENDPOINT_VARIABLES if env.get(name)), DEFAULT_ENDPOINT)
        return cls(endpoint=named.rstrip("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What `lambdock serve` takes from its environment; options of the command win."""

    state_dir: Path
    listen: str = DEFAULT_LISTEN
    #: None: generated once, and kept in the state directory.
    cell: str | None = None
    #: None: a private Redis is started.
    redis_url: str | None = None
    blob_url: str | None = None
    worker_id: str | None = None
    workers: int = 1
    controllers: int = 1
    #: Where short-lived sockets may go when the state directory's path is too long for one.
    runtime_dir: Path = Path("/tmp")  # noqa: S108 - a private directory is made in it, and its owner checked
    docker_host: str = "unix:///var/run/docker.sock"
    search_path: str = os.defpath
    #: The whole environment, handed on to the parts.
    inherited: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> ServeSettings:
        """Take the settings from `environment`, by default the process's own. Empty values count as unset."""
        env = {name: value for name, value in (os.environ if environment is None else environment).items() if value}
        data_home = Path(env.get("XDG_DATA_HOME") or Path(env.get("HOME") or Path.home()) / ".local/share")
        return cls(
            state_dir=Path(env.get("LAMBDOCK_STATE_DIR") or data_home / "lambdock"),
            listen=env.get("LAMBDOCK_LISTEN", DEFAULT_LISTEN),
            cell=env.get("LAMBDOCK_CELL"),
            redis_url=env.get("LAMBDOCK_REDIS_URL"),
            blob_url=env.get("LAMBDOCK_BLOB_URL"),
            worker_id=env.get("LAMBDOCK_WORKER_ID"),
            workers=_count(env, "LAMBDOCK_WORKERS"),
            controllers=_count(env, "LAMBDOCK_CONTROLLERS"),
            runtime_dir=Path(env.get("XDG_RUNTIME_DIR") or "/tmp"),  # noqa: S108 - as above
            docker_host=env.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
            search_path=env.get("PATH", os.defpath),
            inherited=env,
        )


def _count(env: Mapping[str, str], name: str) -> int:
    written = env.get(name, "1")
    if not written.isascii() or not written.isdigit() or not 1 <= int(written) <= MOST_PROCESSES:
        raise UsageError(f"{name} is {written!r}; it takes a number of processes, 1 to {MOST_PROCESSES}")
    return int(written)
