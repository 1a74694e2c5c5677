"""User code talks to its own Runtime API as it likes: it harms itself, and nobody else."""

from __future__ import annotations

import base64
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conformance.isolation.attacker import Attacker
from tests.conformance.isolation.test_resources import (
    NEIGHBOUR_LIMIT_S,
    WORKER_LIMIT_KB,
    attack,
    resident_kb,
    slowest_s,
)
from tests.platform_under_test import Platform

ASK = """
import json, socket
def ask(raw):
    with socket.create_connection(("127.0.0.1", 9001)) as s:
        s.settimeout(3)
        s.sendall(raw)
        try:
            return int(s.recv(65536).split(b" ")[1])
        except (OSError, IndexError):
            return "hung up"
def post(path, body=b"{}"):
    head = f"POST /2018-06-01/runtime/{path} HTTP/1.1\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
    return head.encode() + body
"""
#: Forty connections of four processes send the payload for as long as they are let.
FLOOD = """
import os, socket, threading
for _ in range(2):
    os.fork()
def flood():
    while True:
        try:
            with socket.create_connection(("127.0.0.1", 9001), timeout=1) as s:
                while payload:
                    s.sendall(payload)
        except OSError:
            pass
for _ in range(40): threading.Thread(target=flood, daemon=True).start()
threading.Event().wait()
"""
PAYLOADS = {
    "connections": 'payload = b""',
    "pipelined requests": 'payload = b"GET /x HTTP/1.1\\r\\n\\r\\n" * 12_000',
    "headers": 'payload = b"GET /x HTTP/1.1\\r\\n" + b"a:\\r\\n" * 60_000',
    "tiny pieces of a body": (
        'payload = b"POST /2018-06-01/runtime/init/error HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"'
        ' + b"2\\r\\nxx\\r\\n" * 800_000'
    ),
}


def test_requests_that_are_not_its_own_are_refused_and_it_goes_on(attacker: Attacker) -> None:
    statuses = attacker.see(
        ASK
        + """
other = "8f0e1a7c-0000-4000-8000-123456789012"
result = [
    ask(post(f"invocation/{other}/response")), ask(post(f"invocation/{other}/error")), ask(post("init/error")),
    ask(post("invocation/../../x/response")), ask(post("invocation//response")),
    ask(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n\\r\\n"),
    ask(b"DELETE /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n\\r\\n"),
    ask(b"GET /2018-06-01/functions HTTP/1.1\\r\\n\\r\\n"), ask(b"\\0\\1\\2 nonsense\\r\\n\\r\\n"),
]
"""
    )

    assert statuses == [400, 400, 403, 404, 404, 403, 405, 404, 400]
    assert attacker.see("result = 'goes on'") == "goes on"


def test_another_invocations_id_answers_nothing(attacker: Attacker, victim: Attacker) -> None:
    """The victim's own id, learned while it runs: identity comes from the socket, not from knowing a number."""
    with attack(victim, "import time; open('/tmp/id', 'w').write(invocation.aws_request_id); time.sleep(1.5); "
                        "result = 'mine'") as answers:  # fmt: skip
        victims_id = ""
        # The attacker is even told the id, which it could not find out.
        root = Path("/proc") / str(victim.container()["State"]["Pid"]) / "root/tmp/id"

        def is_known() -> bool:
            nonlocal victims_id
            with suppress(OSError):
                victims_id = root.read_text()
            return bool(victims_id)

        attacker.platform.wait_until(is_known, "the victim runs")
        statuses = attacker.see(
            ASK
            + """
result = [ask(post("invocation/" + event["id"] + end, b'"forged"')) for end in ("/response", "/error")]
""",
            id=victims_id,
        )

    assert statuses == [400, 400]
    assert answers[0].value == "mine"


@pytest.mark.parametrize("name", list(PAYLOADS))
def test_a_flood_takes_little_of_the_workers_time_and_memory(platform: Platform, victim: Attacker, name: str) -> None:
    flood = Attacker(platform, Timeout=2, MemorySize=1024)
    flood.see("result = 1")
    victim.see("result = 1")
    worker = platform.part_pid("worker")

    with attack(flood, PAYLOADS[name] + FLOOD) as answers:
        worst = slowest_s(victim, 1.5)

    assert answers[0].error == "Unhandled"
    assert worst < NEIGHBOUR_LIMIT_S
    assert resident_kb(worker) < WORKER_LIMIT_KB
    assert platform.part_pid("worker") == worker
    assert flood.see("result = 'again'") == "again"


def test_stealing_its_own_log_hurts_only_itself(platform: Platform, victim: Attacker) -> None:
    thief = Attacker(platform, Timeout=10)

    thief.see("""
import fcntl, os, threading
kept["log"] = log = os.open("/run/lambdock/log", os.O_RDWR | os.O_NONBLOCK)
fcntl.fcntl(log, 1031, 4096)
def steal():
    while True:
        try:
            os.read(log, 1 << 20)
        except BlockingIOError:
            pass
threading.Thread(target=steal, daemon=True).start()
print("stolen, perhaps")
""")

    assert thief.see("result = 'still served'") == "still served"
    tail = platform.client().invoke(FunctionName=victim.name, LogType="Tail", Payload=b'{"code": "print(\'kept\')"}')
    assert b"kept\n" in base64.b64decode(tail["LogResult"])
