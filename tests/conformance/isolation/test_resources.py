"""A function takes what it has been given, and no more; the platform and its neighbours go on."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.isolation.attacker import Answer, Attacker
from tests.platform_under_test import Platform

#: Far above what any neighbour's invocation takes here, far below what a worker that is held up makes it.
NEIGHBOUR_LIMIT_S = 2.5
#: What a worker may grow by under any attack; it has about 60 MB.
WORKER_LIMIT_KB = 200 * 1024

FORK_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
#: 157 MB.
LOG_FLOOD = """
import os
for _ in range(2400):
    os.write(1, b"x" * 65535 + b"\\n")
result = "done"
"""


@contextmanager
def attack(attacker: Attacker, code: str) -> Iterator[list[Answer]]:
    """Run an attack meanwhile; the list holds its answer afterwards."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(attacker.try_to(code)))
    thread.start()
    try:
        yield answers
    finally:
        thread.join(60)
        assert not thread.is_alive(), "the attacker's invocation never ended"


def slowest_s(victim: Attacker, while_s: float) -> float:
    """Invoke a neighbour for a while; return its longest invocation."""
    slowest, until = 0.0, time.monotonic() + while_s
    while time.monotonic() < until:
        began = time.monotonic()
        assert victim.see("result = 7") == 7
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def resident_kb(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


def processes_of(container_id: str) -> list[str]:
    return [
        pid for pid in os.listdir("/proc") if pid.isdigit() and _mentions(Path(f"/proc/{pid}/cgroup"), container_id)
    ]


def _mentions(path: Path, text: str) -> bool:
    try:
        return text in path.read_text()
    except OSError:
        return False


def test_a_fork_bomb_harms_nobody_else_and_dies_at_the_time_out(platform: Platform, victim: Attacker) -> None:
    bomb = Attacker(platform, Timeout=3, MemorySize=512)
    bomb.see("result = 1")
    victim.see("result = 1")
    container = bomb.container()["Id"]
    with attack(
        bomb, "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    ) as answers:
        platform.wait_until(lambda: len(processes_of(container)) > 50, "the bomb has gone off")
        worst = slowest_s(victim, 1.5)
        most = len(processes_of(container))

    assert answers[0].error == "Unhandled"
    assert most <= 1024
    assert worst < NEIGHBOUR_LIMIT_S
    assert platform.is_serving()
    platform.wait_until(lambda: len(processes_of(container)) <= 1, "no process of the bomb is left")
    assert bomb.see("result = 'again'") == "again"


def test_a_memory_hog_is_killed_and_has_no_swap(platform: Platform, victim: Attacker) -> None:
    hog = Attacker(platform, MemorySize=128, Timeout=20)
    hog.see("result = 1")
    host = hog.container()["HostConfig"]

    with attack(hog, "held = []\nwhile True: held.append(bytearray(b'x') * (4 << 20))") as answers:
        worst = slowest_s(victim, 1)

    assert answers[0].error == "Unhandled"
    assert answers[0].value["errorType"] == "Runtime.OutOfMemory", answers[0].value
    assert worst < NEIGHBOUR_LIMIT_S
    assert host["Memory"] == host["MemorySwap"] == 128 << 20
    assert hog.see("result = 'again'") == "again"


def test_memory_that_hides_in_files_counts_too(platform: Platform) -> None:
    """Shared memory, and files that have no name: neither is a way round the limit."""
    hog = Attacker(platform, MemorySize=128, Timeout=20)

    answer = hog.try_to("""
import os
descriptor = os.memfd_create("hidden")
for _ in range(400):
    os.write(descriptor, bytes(1 << 20))
""")

    assert answer.error == "Unhandled"
    assert answer.value["errorType"] == "Runtime.OutOfMemory", answer.value


def test_a_full_tmp_is_full_and_the_machines_disk_is_not(platform: Platform, attacker: Attacker) -> None:
    before = shutil.disk_usage(platform.state_dir).free

    ends = attacker.see("""
import errno, os
def fill(directory):
    written, block = 0, bytes(1 << 20)
    try:
        with open(directory + "/big", "wb", buffering=0) as file:
            while written < 2000:
                written += file.write(block) >> 20
    except OSError as error:
        return [errno.errorcode[error.errno], written]
    return ["no end", written]
result = {"/tmp": fill("/tmp")}
result["/dev/shm"] = fill("/dev/shm")
os.unlink("/dev/shm/big")
files = 0
try:
    os.unlink("/tmp/big")
    while files < 100_000:
        os.close(os.open(f"/tmp/{files}", os.O_CREAT | os.O_WRONLY))
        files += 1
except OSError as error:
    result["inodes"] = [errno.errorcode[error.errno], files]
for number in range(files):
    os.unlink(f"/tmp/{number}")
""")

    taken = (before - shutil.disk_usage(platform.state_dir).free) >> 20
    assert ends["/tmp"][0] == "ENOSPC"
    assert 500 <= ends["/tmp"][1] <= 560
    assert ends["/dev/shm"] == ["ENOSPC", 64] or ends["/dev/shm"][1] <= 64
    assert ends["inodes"][0] == "ENOSPC"
    assert taken <= 700, f"{taken} MB of the machine's disk"


def test_a_log_flood_is_bounded_on_disk_and_in_memory(platform: Platform, victim: Attacker) -> None:
    flood = Attacker(platform, Timeout=20, MemorySize=1769)
    flood.see("result = 1")
    victim.see("result = 1")
    worker = platform.part_pid("worker")

    with attack(
        flood, "import os\nfor _ in range(2400): os.write(1, b'x' * 65535 + b'\\n')\nresult = 'done'"
    ) as answers:
        worst = slowest_s(victim, 2)

    assert answers[0] == Answer("done", None)
    assert worst < NEIGHBOUR_LIMIT_S
    assert resident_kb(worker) < WORKER_LIMIT_KB
    sizes = [path.stat().st_size for path in (platform.state_dir / "logs").rglob("*.log")]
    assert sizes
    assert sum(sizes) < 100 << 20, "157 MB were written"


def test_nothing_of_an_invocation_runs_on_after_its_time_out(platform: Platform) -> None:
    function = Attacker(platform, Timeout=2)
    function.see("result = 1")
    container = function.container()["Id"]

    answer = function.try_to('''
import os, subprocess, sys, time
code = """
import signal, time
for number in range(1, 32):
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
while True:
    open('/tmp/alive', 'a').write('x')
    time.sleep(.01)
"""
for _ in range(3):
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
time.sleep(60)
''')

    assert answer.error == "Unhandled"
    platform.wait_until(lambda: len(processes_of(container)) <= 2, "the orphans are gone")
    size = function.see("import os; result = os.path.getsize('/tmp/alive')")
    assert function.see("import os; result = os.path.getsize('/tmp/alive')") == size


def test_work_after_the_response_stays_within_its_own_environment(platform: Platform, victim: Attacker) -> None:
    function = Attacker(platform)
    function.see("""
import subprocess, sys
kept["child"] = subprocess.Popen([sys.executable, "-c", "while True: pass"])
""")
    container = function.container()["Id"]
    assert len(processes_of(container)) == 3, "init, runtime, child"

    assert slowest_s(victim, 1) < NEIGHBOUR_LIMIT_S

    platform.client().delete_function(FunctionName=function.name)
    platform.wait_until(lambda: not processes_of(container), "its processes went with the environment")


def test_a_flood_of_names_is_answered_without_holding_up_the_worker(platform: Platform, victim: Attacker) -> None:
    flood = Attacker(platform, Timeout=3, MemorySize=1769)
    flood.see("result = 1")
    victim.see("result = 1")

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{platform.part_pid('worker')}/fd"))

    # Warm environments of other tests hold some, too.
    before = descriptors()
    # An answer (not a query) about the root: no resolver passes it on anywhere.
    with attack(
        flood,
        """
import socket, threading
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        while True:
            s.sendto(b"\\0\\1\\x80" + bytes(9), ("127.0.0.1", 53))
held = [socket.create_connection(("127.0.0.1", 53)) for _ in range(200)]
for _ in range(3): threading.Thread(target=send, daemon=True).start()
threading.Event().wait()
""",
    ):
        worst = slowest_s(victim, 2)
        held = descriptors() - before

    assert worst < NEIGHBOUR_LIMIT_S
    # 64 queries and connections at a time, each with one to the resolver; and what the environment itself holds.
    assert held < 200
