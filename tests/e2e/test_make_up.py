"""`make up`, `make down` and `make purge`, as a newcomer types them."""

from __future__ import annotations

import socket

import pytest
from installation_under_test import UP_DEADLINE_S, Platform

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]


def test_up_ends_with_the_answer_of_a_real_invocation(platform: Platform) -> None:
    done = platform.make("up", timeout_s=UP_DEADLINE_S)

    assert done.returncode == 0, done.stdout
    assert "Hello, Ada!" in done.stdout
    assert "REPORT RequestId:" in done.stdout
    assert platform.endpoint in done.stdout
    assert (
        len([line for line in done.stdout.splitlines() if line.startswith("    .venv/bin/") or " --endpoint" in line])
        >= 2
    )


def test_up_twice_leaves_the_running_platform_alone(platform: Platform) -> None:
    before = {name: platform.service(name) for name in ("redis", "controller", "background", "worker")}

    done = platform.make("up", timeout_s=UP_DEADLINE_S)

    assert done.returncode == 0, done.stdout
    assert {name: platform.service(name) for name in before} == before


def test_down_keeps_functions_for_the_next_up(platform: Platform) -> None:
    assert platform.make("down").returncode == 0
    assert platform.leftovers() == {}

    done = platform.make("up", timeout_s=UP_DEADLINE_S)

    assert done.returncode == 0, done.stdout
    # `make up` deploys hello anew, but as the function that is there already.
    assert "created" not in platform.lambdock("deploy", "examples/hello").stdout.lower()


def test_down_removes_the_sandboxes_of_a_worker_that_was_killed(platform: Platform) -> None:
    assert platform.lambdock("invoke", "hello").returncode == 0
    assert platform.sandboxes()
    platform.docker("container", "update", "--restart=no", platform.service("worker"))
    platform.docker("container", "kill", "--signal=KILL", platform.service("worker"))

    done = platform.make("down")

    assert done.returncode == 0, done.stdout
    assert platform.leftovers() == {}
    assert platform.state_volumes()


def test_a_taken_port_is_named_with_its_holder(stopped: Platform) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])

        # Another project, so that it can't be ours that listens.
        done = stopped.make("up", timeout_s=UP_DEADLINE_S, LAMBDOCK_PORT=port, COMPOSE_PROJECT_NAME="lambdock-e2e-none")

    assert done.returncode != 0
    assert f"port {port}" in done.stdout
    assert "(pid " in done.stdout
    assert "LAMBDOCK_PORT" in done.stdout


def test_only_loopback_is_listened_on_and_nothing_is_privileged(platform: Platform) -> None:
    for name in ("redis", "controller", "background", "worker"):
        described = platform.inspect(platform.service(name))
        bindings = [
            entry for entries in (described["NetworkSettings"]["Ports"] or {}).values() for entry in entries or []
        ]
        assert {entry["HostIp"] for entry in bindings} <= {"127.0.0.1"}
        assert described["HostConfig"]["Privileged"] is False
        assert described["HostConfig"]["CapDrop"] == ["ALL"]


def test_purge_says_what_it_removes_and_removes_it(platform: Platform) -> None:
    volumes = platform.state_volumes()

    done = platform.make("purge")

    assert done.returncode == 0, done.stdout
    assert volumes
    assert all(volume in done.stdout for volume in volumes)
    assert platform.state_volumes() == []
    assert platform.leftovers() == {}
