"""The settings of the controller's processes, from `LAMBDOCK_…` variables; read once, at the start."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contract.blobs.open import check_blob_url
from controller.domain.concurrency import MINIMUM_UNRESERVED
from controller.storage.sql.engine import driver_url

Names = Annotated[tuple[str, ...], NoDecode]


class SettingsError(ValueError):
    """A setting is impossible; the text begins with the variable's name."""


class ControllerSettings(BaseSettings):
    """What an operator may choose. Impossible values refuse to start, naming the variable."""

    model_config = SettingsConfigDict(
        env_prefix="LAMBDOCK_",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        # What is printed of a wrong setting would be all settings, with the secret ones.
        hide_input_in_errors=True,
    )

    #: Name of the installation; marks everything that it makes. The same for all its processes.
    cell: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    #: The Redis of the cell: `redis://`, `rediss://` (TLS) or `unix:///path`.
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(redis|rediss|unix)://")
    #: Where the defaults of database and blob store lie.
    state_dir: Path = Path(".lambdock")
    #: Empty: `file://{state_dir}/blobs`. Also `s3://bucket/prefix?endpoint=https://…` (docs/several-machines.md).
    blob_url: str = ""
    #: Empty: a SQLite file in `state_dir`. Also `postgresql://user@host/database` (docs/several-machines.md).
    database_url: str = ""
    #: The least level that is logged, as JSON lines on standard error.
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    #: Where the Lambda API listens: loopback, unless LAMBDOCK_PUBLISHED_ON_LOOPBACK vouches for it.
    listen: str = "127.0.0.1:4566"
    #: A listening socket inherited from the supervisor, which holds `listen` through restarts; None: open our own.
    listen_fd: int | None = None
    #: Host names, beside the loopback ones, by which clients reach the API.
    allowed_hosts: Names = ()
    #: Origins whose web pages may call the API.
    allowed_origins: Names = ()
    #: True inside a container whose port is published on the host's loopback only.
    published_on_loopback: bool = False
    #: Account of requests whose access key is not 12 digits.
    default_account: str = Field(default="000000000000", pattern=r"^[0-9]{12}$")
    #: Region of requests whose signature names none.
    default_region: str = Field(default="us-east-1", pattern=r"^[a-z]{2,5}(-[a-z]+)+-[0-9]$")
    #: Concurrent executions of an account in a region.
    account_concurrency: int = Field(default=1000, ge=1)
    #: The largest container image that is taken in or run: its layers together, unpacked, in MB.
    image_limit_mb: int = Field(default=10_240, ge=1)
    #: The S3-compatible server whose buckets packages may come from (S3Bucket, S3Key), for example
    #: `http://127.0.0.1:9000`. Empty: none, and code in S3 is refused.
    s3_endpoint: str = ""
    #: The region that its requests are signed for.
    s3_region: str = "us-east-1"
    #: Its access key. Empty: the credentials that boto3 finds (AWS_ACCESS_KEY_ID, a profile, a role).
    s3_access_key: str = ""
    #: The secret that belongs to LAMBDOCK_S3_ACCESS_KEY; both or neither.
    s3_secret_key: SecretStr = SecretStr("")
    #: Where workers fetch and deliver large bodies; port 0 takes a free one.
    transfer_listen: str = "127.0.0.1:0"
    #: The host name under which workers reach `transfer_listen`; empty: the address itself.
    transfer_host: str = ""

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("allowed_hosts")
    @classmethod
    def _plain_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if "/" in host or "*" in host:
                raise SettingsError(
                    f"LAMBDOCK_ALLOWED_HOSTS: {host!r} is no host name; list names such as lambda.example.org,"
                    " separated by commas"
                )
        return value

    @model_validator(mode="after")
    def _check(self) -> ControllerSettings:
        host, _ = split_address("LAMBDOCK_LISTEN", self.listen)
        split_address("LAMBDOCK_TRANSFER_LISTEN", self.transfer_listen)
        if not _is_loopback(host) and not self.published_on_loopback:
            raise SettingsError(
                f"LAMBDOCK_LISTEN: {self.listen} can be reached from other machines, and whoever reaches the API may"
                " run code. Listen on 127.0.0.1, behind a proxy that authenticates; or, inside a container whose port"
                " is published on the host's loopback only, set LAMBDOCK_PUBLISHED_ON_LOOPBACK=1"
            )
        if self.blob_url:
            check_blob_url(self.blob_url)
        driver_url(self.effective_database_url)
        _check_s3(self.s3_endpoint, self.s3_access_key, self.s3_secret_key.get_secret_value())
        if self.account_concurrency < MINIMUM_UNRESERVED:
            raise SettingsError(
                f"LAMBDOCK_ACCOUNT_CONCURRENCY: {self.account_concurrency} is less than the {MINIMUM_UNRESERVED} that"
                " must stay unreserved"
            )
        return self

    @property
    def effective_blob_url(self) -> str:
        """The blob store's URL, with the default filled in."""
        return self.blob_url or (self.state_dir / "blobs").as_uri()

    @property
    def effective_database_url(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'lambdock.db'}"

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return split_address("LAMBDOCK_LISTEN", self.listen)


def split_address(variable: str, address: str) -> tuple[str, int]:
    """Split `host:port` (`[::1]:4566` for IPv6). Raises SettingsError naming the variable."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{variable}: {address!r} is not host:port, for example 127.0.0.1:4566")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_s3(endpoint: str, access_key: str, secret_key: str) -> None:
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc):
        shown = endpoint.rpartition("@")[2]
        raise SettingsError(f"LAMBDOCK_S3_ENDPOINT: {shown!r} is no http(s) URL without credentials")
    if bool(access_key) != bool(secret_key):
        missing = "LAMBDOCK_S3_SECRET_KEY" if access_key else "LAMBDOCK_S3_ACCESS_KEY"
        raise SettingsError(f"{missing}: empty, while the other half of the credentials is set; set both or neither")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
