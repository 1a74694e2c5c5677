"""Which installation this folder drives: `.env`, then the process's own environment, as compose reads them."""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from deploy.console import ROOT, GivingUpError

EXAMPLE = ROOT / ".env.example"
#: The default of docker-compose.yml.
VERSION = "0.1.0"

_CELL = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PASSWORD = "LAMBDOCK_REDIS_PASSWORD"  # noqa: S105 - the name of the setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What has to be known outside compose."""

    project: str
    cell: str
    port: int
    #: Tag of the platform's own images.
    version: str
    #: Runtimes whose images are made ahead.
    runtimes: tuple[str, ...]
    #: The bases that the operator chose; None: find out.
    base: str | None
    redis_base: str | None
    #: The settings that compose reads; need not exist.
    env_file: Path
    #: For compose and everything else that is called.
    environment: dict[str, str] = field(repr=False)

    @property
    def endpoint(self) -> str:
        """Where clients find the platform."""
        return f"http://127.0.0.1:{self.port}"

    def compose(self, *arguments: str) -> list[str]:
        """Return the command that runs compose for this installation."""
        named = ["--env-file", str(self.env_file)] if self.env_file.exists() else []
        return ["bash", str(ROOT / "deploy/compose.sh"), *named, "-p", self.project, *arguments]


def env_file() -> Path:
    """Return this installation's file of settings: LAMBDOCK_ENV_FILE (a second one of this folder), else `.env`."""
    return Path(os.environ.get("LAMBDOCK_ENV_FILE") or ROOT / ".env").absolute()


def read() -> Installation:
    """Read the installation's settings; `.env` need not exist. Raises: GivingUpError naming a bad setting."""
    file = env_file()
    values = {**_parse(file.read_text(encoding="utf-8") if file.exists() else ""), **os.environ}
    project = values.get("COMPOSE_PROJECT_NAME") or "lambdock"
    cell = values.get("LAMBDOCK_CELL") or "lambdock"
    port = values.get("LAMBDOCK_PORT") or "4566"
    if not _CELL.fullmatch(cell):
        raise GivingUpError(
            f"LAMBDOCK_CELL is {cell!r}; it takes 1-32 lower-case letters, digits and '-', like 'home-2'"
        )
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise GivingUpError(f"LAMBDOCK_PORT is {port!r}; it takes a port number from 1 to 65535")
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": project, "LAMBDOCK_CELL": cell, "LAMBDOCK_PORT": port}
    # Compose refuses the file without a password, also to take a platform down whose .env is gone.
    environment[_PASSWORD] = values.get(_PASSWORD) or "unknown"
    return Installation(
        project=project,
        cell=cell,
        port=int(port),
        version=values.get("LAMBDOCK_VERSION") or VERSION,
        runtimes=_runtimes_to_make(values),
        base=values.get("LAMBDOCK_BASE") or None,
        redis_base=values.get("LAMBDOCK_REDIS_BASE") or None,
        env_file=file,
        environment=environment,
    )


def make_env_file() -> bool:
    """See that `.env` exists and holds a password; return whether it was changed. Nothing in it is overwritten."""
    file = env_file()
    text = (file if file.exists() else EXAMPLE).read_text(encoding="utf-8")
    if file.exists() and _parse(text).get(_PASSWORD):
        return False
    text = text.rstrip("\n") + f"\n{_PASSWORD}={secrets.token_hex(24)}\n"
    draft = file.with_name(f"{file.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
    return True


def _runtimes_to_make(values: dict[str, str]) -> tuple[str, ...]:
    """The runtimes to make ahead, without those for which the operator has images."""
    try:
        supplied = json.loads(values.get("LAMBDOCK_RUNTIME_IMAGES") or "{}")
    except ValueError as error:
        raise GivingUpError(
            f"LAMBDOCK_RUNTIME_IMAGES is no JSON ({error}); it takes an object such as "
            '{"python3.12": "registry.example.org/py312:1"}'
        ) from None
    return tuple(name for name in (values.get("LAMBDOCK_UP_RUNTIMES") or "python3.11").split() if name not in supplied)


def _parse(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}
