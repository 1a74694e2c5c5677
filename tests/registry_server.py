"""An image registry of a test's own: the distribution's `docker-registry`, on loopback, where engines need no TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_AUTH = """\
auth:
  htpasswd: {{realm: test, path: {passwords}}}
"""
#: Who may pull from a private one. Below, as a line of `htpasswd -B`.
USER, SECRET = "user", "secret"
_PASSWORDS = "user:$2b$05$NviDv6V30.u03IhiAKuaiOKg5jLHKWaBM99HMfNLG4/hfrcNjOy3G\n"


@dataclass(frozen=True, slots=True)
class Registry:
    """Where it is: repositories are `{address}/name`."""

    address: str
    directory: Path

    def push(self, client: Any, image: str, repository: str, tag: str = "latest") -> str:
        """Push an image of the engine as `repository:tag`; return its pinned reference. Its name here is removed."""
        name = f"{self.address}/{repository}"
        assert client.api.tag(image, name, tag)
        try:
            for event in client.api.push(name, tag=tag, stream=True, decode=True):
                assert "error" not in event, event
        finally:
            # Both names that pushing leaves on the engine.
            pinned = next(
                item for item in client.api.inspect_image(f"{name}:{tag}")["RepoDigests"] if item.startswith(f"{name}@")
            )
            for reference in (f"{name}:{tag}", pinned):
                with suppress(Exception):
                    client.api.remove_image(reference)
        return str(pinned)

    def forget(self, repository: str) -> None:
        """Remove a repository with all its images.

        Manifests and layers: some engines remember a manifest for a while, and would go on pulling by it.
        """
        shutil.rmtree(self.directory / "images/docker/registry/v2/repositories" / repository)


@contextmanager
def running_registry(directory: Path, *, port: int = 0, is_private: bool = False) -> Iterator[Registry]:
    """Start a registry that keeps its images below `directory`; end it on leaving the block."""
    program = shutil.which("docker-registry")
    if program is None:
        raise RuntimeError("docker-registry is missing: bash deploy/ensure-engine.sh registry")
    directory.mkdir(parents=True, exist_ok=True)
    port = port or _free_port()
    config = _CONFIG.format(root=directory / "images", port=port)
    if is_private:
        (directory / "passwords").write_text(_PASSWORDS)
        config += _AUTH.format(passwords=directory / "passwords")
    (directory / "config.yml").write_text(config)
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [program, "serve", str(directory / "config.yml")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait(process, port, directory / "log")
        yield Registry(f"127.0.0.1:{port}", directory)
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/v2/", timeout=2).status_code in (200, 401):
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"docker-registry does not serve:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
