"""An installation of its own for `make up` and its kin: another project, cell, port and image tag than anybody's."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator

import pytest
from installation_under_test import UP_DEADLINE_S, Platform


@pytest.fixture(scope="session")
def stopped() -> Iterator[Platform]:
    """An installation that may or may not run; purged in the end."""
    name = f"lambdock-e2e-{secrets.token_hex(4)}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    platform = Platform(
        name=name,
        port=port,
        environment={
            **os.environ,
            "COMPOSE_PROJECT_NAME": name,
            "LAMBDOCK_CELL": name,
            "LAMBDOCK_PORT": str(port),
            "LAMBDOCK_VERSION": name,
        },
    )
    try:
        yield platform
    finally:
        done = platform.make("purge")
        assert done.returncode == 0, done.stdout


@pytest.fixture
def platform(stopped: Platform) -> Platform:
    """An installation that runs."""
    done = stopped.make("up", timeout_s=UP_DEADLINE_S)
    assert done.returncode == 0, done.stdout
    return stopped
