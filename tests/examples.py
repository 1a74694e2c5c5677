"""The examples as their readers use them: by the command, on a platform under test."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors

from runtimes.catalog import load_catalog
from tests.platform_under_test import Platform
from worker.engine import DockerEngine
from worker.images.runtime_images import RuntimeImages

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def call(platform: Platform, *arguments: str, expected: int = 0) -> str:
    """Run `lambdock` with these arguments, and return what it printed. Fails unless it ends as expected."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env=environment(platform),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == expected, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def deploy(platform: Platform, folder: Path, *options: str) -> dict[str, Any]:
    """`lambdock deploy FOLDER --json`."""
    deployment: dict[str, Any] = json.loads(call(platform, "deploy", str(folder), "--json", *options))
    return deployment


def invoke(platform: Platform, name: str, event: dict[str, Any]) -> Any:
    """`lambdock invoke NAME`, and its result."""
    return json.loads(call(platform, "invoke", name, "--payload", json.dumps(event)))


def environment(platform: Platform) -> dict[str, str]:
    """Return the variables of a shell in which the platform's endpoint and the project's commands are known."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LAMBDOCK_", "AWS_"))}
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    return inherited | {"LAMBDOCK_ENDPOINT": platform.endpoint, "PATH": path}


@contextmanager
def built_image(state_dir: Path) -> Iterator[str]:
    """Build the image of examples/image-function on the runtime image that the platform uses; yields its name."""
    with DockerEngine.connected() as engine:
        base = asyncio.run(RuntimeImages(engine, load_catalog(), state_dir).ensure("python3.11", "x86_64"))
    name = f"lambdock-test-{uuid.uuid4().hex[:12]}"
    client = docker.from_env()
    try:
        path = str(EXAMPLES / "image-function")
        client.images.build(path=path, tag=name, buildargs={"BASE": base}, rm=True, forcerm=True)
        yield name
    finally:
        client.close()
        remove_image(name)


def remove_image(name: str) -> None:
    """Remove what a test has built, if it came so far."""
    client = docker.from_env()
    try:
        with suppress(docker.errors.ImageNotFound):
            client.images.remove(name, force=True)
    finally:
        client.close()
