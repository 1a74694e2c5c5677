"""The settings of a worker, from `LAMBDOCK_…` variables; read once, at the start."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.endpoints.setting import FunctionEndpoint, parse_endpoints


class WorkerSettings(BaseSettings):
    """What an operator may choose for a worker. Impossible values refuse to start, naming the variable."""

    model_config = SettingsConfigDict(
        env_prefix="LAMBDOCK_",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        env_ignore_empty=True,
        # URLs may hold passwords.
        hide_input_in_errors=True,
    )

    #: Name of the installation; marks everything that it makes. The same for all its processes.
    cell: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    #: The Redis of the cell: `redis://`, `rediss://` (TLS) or `unix:///path`.
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(redis|rediss|unix)://")
    #: Unpacked code, `/tmp` disks, logs, and what sandboxes and the worker share.
    state_dir: Path = Path(".lambdock")
    #: Empty: `file://{state_dir}/blobs`. Also `s3://bucket/prefix?endpoint=https://…` (docs/several-machines.md).
    blob_url: str = ""
    #: The least level that is logged, as JSON lines on standard error.
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    #: Must be this worker's alone, and stay the same through its restarts.
    worker_id: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    #: What the engine calls `state_dir`; empty: found by asking the engine about this container, else the same.
    host_state_dir: str = ""
    #: Memory for environments, in MB; 0: three quarters of the machine's.
    memory_mb: int = Field(default=0, ge=0)
    #: How long an unused environment is kept, in seconds.
    idle_timeout_s: float = Field(default=600.0, gt=0)
    #: Sandboxes being started at a time; more only queue inside the engine.
    max_starts: int = Field(default=3, ge=1)
    #: Private networks that functions may reach all the same.
    allow_networks: Annotated[tuple[IPv4Network, ...], NoDecode] = ()
    #: Services that functions reach through their worker: `s3=http://minio:9000,dynamodb=https://db.internal:8000`, or
    #: the same as JSON. They find each in `AWS_ENDPOINT_URL_…`, and reach exactly that host and port.
    function_endpoints: Annotated[tuple[FunctionEndpoint, ...], NoDecode] = ()
    #: Runtime to image, for runtimes that can't be built here: `{"python3.12": "my/image"}`.
    runtime_images: dict[str, str] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("LAMBDOCK_RUNTIME_IMAGES", "LAMBDA_RUNTIME_IMAGE_MAPPING", "runtime_images"),
    )
    #: Where images of functions are pulled from instead: `{"public.ecr.aws/": "mirror:5000/ecr/"}`, and with `*` for a
    #: part of a name `{"*.dkr.ecr.*.amazonaws.com/": "mirror:5000/"}`. The longest prefix that fits counts.
    image_prefix_map: dict[str, str] = Field(default_factory=dict)
    #: The largest container image that is taken in or run: its layers together, unpacked, in MB.
    image_limit_mb: int = Field(default=10_240, ge=1)
    #: How many days an image of a function stays on the engine after its last cold start.
    image_keep_days: float = Field(default=14.0, ge=0.1)
    #: How much of each function's log is kept on this worker, in MB.
    log_limit_mb: int = Field(default=16, ge=1)
    #: How long running invocations may go on when the worker is told to stop, in seconds.
    drain_s: float = Field(default=20.0, ge=0)

    @field_validator("allow_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(IPv4Network(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("function_endpoints", mode="before")
    @classmethod
    def _parse_endpoints(cls, value: object) -> object:
        return parse_endpoints(value) if isinstance(value, str) else value

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def blobs(self) -> str:
        """The blob store's URL, with its default filled in."""
        return self.blob_url or f"file://{self.state_dir / 'blobs'}"

    @property
    def memory_total_mb(self) -> int:
        """Memory for environments, with its default filled in."""
        if self.memory_mb:
            return self.memory_mb
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4 // 2**20
