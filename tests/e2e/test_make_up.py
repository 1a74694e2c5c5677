"""`make up`, `make down` and `make purge`, as a newcomer types them."""

from __future__ import annotations

import socket

import pytest
from installation_under_test import SERVICES, Installation

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]


def test_up_again_ends_with_an_invocation_and_leaves_what_runs_alone(running: Installation) -> None:
    before = {name: running.service(name) for name in SERVICES}

    printed = running.up()

    assert "Hello, Ada!" in printed
    assert "REPORT RequestId:" in printed
    assert f"Lambdock is up at {running.endpoint}" in printed
    to_try = [line.strip() for line in printed.splitlines() if line.startswith("    ") and running.endpoint in line]
    assert len(to_try) == 3
    assert {name: running.service(name) for name in SERVICES} == before


def test_the_commands_that_up_suggests_work(running: Installation) -> None:
    printed = running.up()

    to_try = [line.strip() for line in printed.splitlines() if line.startswith("    ") and running.endpoint in line]
    for line in to_try:
        done = running.run("bash", "-c", line.removesuffix(" --follow"))
        assert done.returncode == 0, f"{line}\n{done.stdout}"


def test_down_leaves_nothing_of_a_killed_worker_and_keeps_functions_until_purge(running: Installation) -> None:
    running.create("kept", "def handler(event, context): return 'still here'")
    assert running.invoke("kept", {}) == "still here"
    assert running.sandboxes()
    # So that it stays dead: what it made is `make down`'s to find.
    running.docker("container", "update", "--restart=no", running.service("worker"))
    running.kill("worker")

    done = running.make("down")

    assert done.returncode == 0, done.stdout
    assert running.leftovers() == {}
    volumes = running.state_volumes()
    assert volumes

    running.up()

    assert running.invoke("kept", {}) == "still here"

    done = running.make("purge")

    assert done.returncode == 0, done.stdout
    assert all(volume in done.stdout for volume in volumes)
    assert running.state_volumes() == []
    assert running.leftovers() == {}
    assert running.make("purge").returncode == 0


def test_a_taken_port_is_named_with_its_holder(installation: Installation) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])

        # Another project, so that it can't be ours that listens.
        done = installation.make("up", LAMBDOCK_PORT=port, COMPOSE_PROJECT_NAME=f"{installation.name}-none")

    assert done.returncode != 0
    assert f"port {port}" in done.stdout
    assert "(pid " in done.stdout
    assert "LAMBDOCK_PORT" in done.stdout


def test_only_loopback_is_listened_on_and_nothing_is_privileged(running: Installation) -> None:
    for name in SERVICES:
        described = running.inspect(running.service(name))
        bindings = [
            entry for entries in (described["NetworkSettings"]["Ports"] or {}).values() for entry in entries or []
        ]
        assert {entry["HostIp"] for entry in bindings} <= {"127.0.0.1"}
        assert described["HostConfig"]["Privileged"] is False
        assert described["HostConfig"]["CapDrop"] == ["ALL"]
