"""What must hold when the parts run in containers of their own, with a network between them."""

from __future__ import annotations

import base64
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from installation_under_test import Installation

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

KNOCK = """
import concurrent.futures, socket

def knock(target):
    host, port = target
    try:
        socket.create_connection((host, port), 2).close()
    except OSError:
        return None
    return f"{host}:{port} answered"

def handler(event, context):
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        return [found for found in pool.map(knock, event["targets"]) if found]
"""
#: The API, the transfer channel, Redis.
PORTS = (4566, 4567, 6379)


def unique(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


def test_a_function_reaches_no_part_of_the_platform(running: Installation) -> None:
    name = unique("knock")
    running.create(name, KNOCK)
    gateways = [
        network["Gateway"]
        for service in ("controller", "worker")
        for network in running.inspect(running.service(service))["NetworkSettings"]["Networks"].values()
        if network["Gateway"]
    ]
    hosts = [address for service in ("controller", "redis", "worker") for address in running.addresses(service)]
    names = ["redis", "controller", "worker", "background"]
    targets = [(host, port) for host in [*hosts, *gateways, *names] for port in (*PORTS, running.port)]

    reached = running.invoke(name, {"targets": targets})

    assert len(hosts) == 5
    assert reached == []


def test_bodies_of_megabytes_travel_both_ways(running: Installation) -> None:
    name = unique("echo")
    running.create(name, "def handler(event, context): return event")
    text = secrets.token_hex(2_500_000)

    assert running.invoke(name, text) == text
    # What travels over the direct channel is not in Redis: neither kept nor ever written to its log.
    (redis,) = running.containers("redis")
    size = int(running.docker("exec", redis, "sh", "-c", "du -sk /data | cut -f1")[0])
    assert size < len(text) // 1024


def test_a_function_calls_another_through_its_worker(running: Installation) -> None:
    callee, caller = unique("callee"), unique("caller")
    running.create(callee, "def handler(event, context): return event")
    running.create(
        caller,
        """
import boto3, json
def handler(event, context):
    answer = boto3.client("lambda").invoke(FunctionName=event["callee"], Payload=json.dumps(event))
    return json.load(answer["Payload"])
""",
    )
    event = {"callee": callee, "text": "x" * 300_000}

    assert running.invoke(caller, event) == event


def test_the_log_of_an_invocation_comes_with_it_and_stays(running: Installation) -> None:
    name = unique("talk")
    running.create(name, "def handler(event, context): print('said', event)")
    word = secrets.token_hex(8)

    answer = running.client().invoke(FunctionName=name, LogType="Tail", Payload=json.dumps(word).encode())

    assert f"said {word}" in base64.b64decode(answer["LogResult"]).decode()
    assert f"said {word}" in running.lambdock("logs", name).stdout
    running.kill("worker")
    running.wait_until(lambda: word in running.lambdock("logs", name).stdout, "the log is there after a restart")


def test_the_aws_command_works_with_nothing_but_an_endpoint(running: Installation, tmp_path: Path) -> None:
    name = unique("cli")
    running.create(name, "def handler(event, context): return event['a'] + 1")
    answer = tmp_path / "answer.json"
    credentials = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}

    done = running.run(
        *(".venv/bin/aws", "--endpoint-url", running.endpoint, "lambda", "invoke", "--function-name", name),
        *("--payload", '{"a": 1}', str(answer)),
        **credentials,
    )

    assert done.returncode == 0, done.stdout
    assert answer.read_text() == "2"


@pytest.mark.parametrize("service", ["worker", "controller", "background", "redis"])
def test_a_part_that_was_killed_comes_back(service: str, running: Installation) -> None:
    name = unique("after")
    running.create(name, "def handler(event, context): return 'well'")
    before = running.inspect(running.service(service))["State"]["StartedAt"]
    # For some seconds after its death a worker still counts as one.
    dead = set(running.health()["workers"]) if service == "worker" else set()

    running.kill(service)

    running.wait_until(
        lambda: (
            bool(running.containers(service))
            and running.inspect(running.service(service))["State"]["StartedAt"] != before
        ),
        f"{service} is started again",
    )
    running.wait_until(lambda: running.is_ready() and not dead & set(running.health()["workers"]), "every part is well")
    assert running.invoke(name, {}) == "well"
    # What needs the background process, too.
    running.create(unique("new"), "def handler(event, context): return 'well'")


def test_a_second_worker_joins_serves_and_leaves(running: Installation) -> None:
    name = unique("scaled")
    running.create(name, "import time\ndef handler(event, context):\n    time.sleep(event)\n    return 'well'")

    running.compose("up", "-d", "--no-build", "--no-recreate", "--scale", "worker=2")
    running.wait_until(lambda: running.is_ready(workers=2), "two workers serve")

    ids = {worker.partition("@")[0] for worker in running.health()["workers"]}
    assert len(ids) == 2
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: running.invoke(name, 3), range(4))) == ["well"] * 4
    # The one that was here before has environments of other functions, and may get fewer of these.
    assert running.sandboxes_of(name).keys() == ids

    running.compose("up", "-d", "--no-build", "--no-recreate", "--scale", "worker=1")
    running.wait_until(running.is_ready, "one worker serves")
    assert running.invoke(name, 0) == "well"
    running.wait_until(lambda: len(running.sandboxes_of(name)) == 1, "the sandboxes of the other one are gone")


def test_health_checks_pass(running: Installation) -> None:
    for service in ("redis", "controller", "background", "worker"):
        running.wait_until(
            lambda service=service: running.inspect(running.service(service))["State"]["Health"]["Status"] == "healthy",
            f"{service} is healthy",
        )
