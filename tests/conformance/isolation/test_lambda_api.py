"""What a function can make of its way to the Lambda API, when it does not mean to call Lambda."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.conformance.calls import call, deploy, log_messages
from tests.conformance.isolation.attacker import Attacker, address_of
from tests.conformance.isolation.test_network import CONNECT
from tests.platform_under_test import Platform

OTHER_ACCOUNT = "111111111111"
#: Sends what a test gives it to the Lambda API's listener, byte for byte, and returns what comes back.
SEND = """
import socket
with socket.create_connection(("127.0.0.1", 9002), timeout=10) as s:
    s.sendall(event["sent"].encode("latin-1"))
    result = ""
    try:
        while data := s.recv(65536):
            result += data.decode("latin-1")
            if "\\r\\n\\r\\n" in result and not event.get("until_closed"):
                break
    except OSError as error:
        result += repr(error)
"""
AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=000000000000/20260101/us-east-1/lambda/aws4_request, Signature=x"


@pytest.fixture(scope="module")
def bystander(platform: Platform) -> str:
    """A function that has nothing to do with all this."""
    return deploy(platform, "def handler(event, context):\n    return event")


@pytest.mark.parametrize(
    "target",
    [
        "/health",
        "/_localstack/health",
        "/_lambdock/openapi.json",
        "/_lambdock/images?name=x",
        "/_lambdock/logs/f",
        "/2015-03-31/../_lambdock/openapi.json",
        "/2015-03-31/%2e%2e/_lambdock/openapi.json",
        "/2015-03-31/%252e%252e/_lambdock/openapi.json",
        "/2015-03-31/..%2f_lambdock%2fopenapi.json",
        "/2015-03-31/functions/..%2f..%2f..%2fhealth",
        "//_lambdock/openapi.json",
        "/lambda/2015-03-31/functions",
        "/",
    ],
)
def test_other_paths_are_refused(attacker: Attacker, target: str) -> None:
    sent = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {AUTHORIZATION}\r\nConnection: close\r\n\r\n"

    said = attacker.see(SEND, sent=sent, until_closed=True)

    assert said.startswith("HTTP/1.1 404 ")
    assert "UnknownOperationException" in said


@pytest.mark.parametrize(
    "sent",
    [
        f"GET http://127.0.0.1:4566/health HTTP/1.1\r\nAuthorization: {AUTHORIZATION}\r\n\r\n",
        "CONNECT 127.0.0.1:6379 HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /2015-03-31/functions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST /2015-03-31/functions HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "*1\r\n$4\r\nPING\r\n",
    ],
)
def test_what_is_no_request_for_the_lambda_api_is_refused(attacker: Attacker, sent: str) -> None:
    said = attacker.see(SEND, sent=sent)

    assert said.startswith(("HTTP/1.1 400 ", "HTTP/1.1 404 "))
    assert "PONG" not in said


def test_headers_of_the_platform_s_own_are_not_passed_on(
    attacker: Attacker, platform: Platform, bystander: str
) -> None:
    """Names an account, a token, a host and an origin; none is heard."""
    headers = {
        "Host": "evil.example.org",
        "Origin": "http://evil.example.org",
        "X-Forwarded-Host": "evil.example.org",
        "X-Lambdock-Function": f"arn:aws:lambda:us-east-1:{OTHER_ACCOUNT}:function:f",
        "X-Lambdock-Account": OTHER_ACCOUNT,
        "X-Lambdock-Token": "x",
        "Connection": "close, X-Lambdock-Token",
        "Authorization": AUTHORIZATION.replace("000000000000", OTHER_ACCOUNT),
    }
    lines = [
        f"GET /2015-03-31/functions/{bystander}/configuration HTTP/1.1",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]

    said = attacker.see(SEND, sent="\r\n".join(lines) + "\r\n\r\n", until_closed=True)

    assert said.startswith("HTTP/1.1 200 ")
    assert f"arn:aws:lambda:us-east-1:000000000000:function:{bystander}" in said
    assert "x-lambdock" not in said.lower()


def test_the_door_itself_is_not_reached_by_clients_of_the_api(platform: Platform) -> None:
    with platform.redis() as redis:
        token = redis.get(platform.key("door-token")).decode()
        addresses = [address.decode() for address in redis.zrange(platform.key("doors"), 0, -1)]
    assert token
    assert addresses
    headers = {
        "X-Lambdock-Token": token,
        "X-Lambdock-Function": f"arn:aws:lambda:us-east-1:{OTHER_ACCOUNT}:function:f",
    }
    public = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=10)
    try:
        public.request("GET", "/2015-03-31/functions?MaxItems=1", headers=headers)
        answer = public.getresponse()
        functions = json.loads(answer.read())["Functions"]
        public.request("GET", "/lambda/2015-03-31/functions", headers=headers)
        assert public.getresponse().status == 404
    finally:
        public.close()
    assert all(":000000000000:" in function["FunctionArn"] for function in functions)

    for address in addresses:
        door = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
        try:
            door.request("GET", "/lambda/2015-03-31/functions", headers=headers | {"X-Lambdock-Token": token[:-1]})
            assert door.getresponse().status == 421
        finally:
            door.close()


def test_another_function_s_listeners_and_the_doors_are_not_reached(platform: Platform, attacker: Attacker) -> None:
    victim = Attacker(platform)
    victim.see("result = 1")
    attacker.see("result = 1")
    other = address_of(victim.container())
    with platform.redis() as redis:
        doors = [address.decode().rpartition(":")[2] for address in redis.zrange(platform.key("doors"), 0, -1)]
    (network,) = attacker.container()["NetworkSettings"]["Networks"].values()
    targets = [(other, 9002), *((host, int(port)) for host in (network["Gateway"], "127.0.0.1") for port in doors)]

    ends = attacker.see(CONNECT, targets=targets)

    assert "connected" not in ends.values(), ends


def test_its_own_listener_answers_nobody_else(platform: Platform, attacker: Attacker) -> None:
    """From the host, the sandbox's own address is no way to it either: it listens on loopback."""
    attacker.see("result = 1")
    address = address_of(attacker.container())
    connection = http.client.HTTPConnection(address, 9002, timeout=1)
    with pytest.raises(OSError, match=r"refused|timed out"):
        connection.request("GET", "/2015-03-31/functions")
    connection.close()


def test_a_flood_of_calls_leaves_the_worker_to_others(platform: Platform, attacker: Attacker, bystander: str) -> None:
    flood = """
import http.client, threading
ends = []
def run():
    c = http.client.HTTPConnection("127.0.0.1", 9002, timeout=20)
    for _ in range(20):
        c.request("GET", "/2015-03-31/functions?MaxItems=1", headers={"Authorization": event["authorization"]})
        r = c.getresponse(); r.read(); ends.append(r.status)
    c.close()
threads = [threading.Thread(target=run) for _ in range(20)]
[t.start() for t in threads]
[t.join() for t in threads]
result = sorted(set(ends)), len(ends)
"""
    assert attacker.see(flood, authorization=AUTHORIZATION) == [[200], 400]
    assert call(platform, bystander, {}).error is None
    assert not [line for line in log_messages(platform, bystander) if "Traceback" in line]
