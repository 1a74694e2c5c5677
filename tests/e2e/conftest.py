"""An installation of its own for `make up` and its kin: project, cell, port, settings and image tag are its alone."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation_under_test import UP_DEADLINE_S, Installation


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that may or may not run; purged in the end."""
    name = f"lambdock-e2e-{secrets.token_hex(4)}"
    foreign = ("LAMBDOCK_", "COMPOSE_", "AWS_", "MAKE", "MFLAGS")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder: Path = tmp_path_factory.mktemp("installation")
    here = Installation(
        name=name,
        port=port,
        environment={
            **{key: value for key, value in os.environ.items() if not key.startswith(foreign)},
            "COMPOSE_PROJECT_NAME": name,
            "LAMBDOCK_ENV_FILE": str(folder / "env"),
            "LAMBDOCK_CELL": name,
            "LAMBDOCK_PORT": str(port),
            "LAMBDOCK_VERSION": name,
        },
    )
    # Under a tag that outlives the run: removing an installation's images would remove their layers, too.
    ahead = here.run(".venv/bin/python", "-m", "deploy.images_ahead", timeout_s=UP_DEADLINE_S, LAMBDOCK_VERSION="test")
    assert ahead.returncode == 0, ahead.stdout
    try:
        yield here
    finally:
        done = here.make("purge")
        assert done.returncode == 0, done.stdout


@pytest.fixture
def running(installation: Installation) -> Installation:
    """The same, up."""
    installation.see_that_it_runs()
    return installation
