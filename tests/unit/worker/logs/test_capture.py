from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from worker.logs.capture import LogCapture
from worker.logs.lines import Report
from worker.logs.pipe import LogPipe
from worker.logs.store import LogStore

LIMIT_BYTES = 2_000_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    store = LogStore(tmp_path / "logs", LIMIT_BYTES)
    await store.start()
    yield store
    await store.close()


@pytest.fixture
def uid() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "log")
    return tmp_path / "log"


@pytest.fixture
async def capture(fifo: Path, store: LogStore, uid: str) -> AsyncIterator[LogCapture]:
    capture = LogCapture(fifo, store=store, function_uid=uid, stream="s", now_ms=lambda: 1)
    capture.open()
    yield capture
    capture.close()


def report(request_id: str = "r") -> Report:
    return Report(request_id=request_id, duration_ms=1, memory_size_mb=128, max_memory_used_mb=1)


def write(fifo: Path, data: bytes) -> None:
    with fifo.open("wb") as file:
        file.write(data)


async def messages(store: LogStore, uid: str) -> list[str]:
    events, _ = await store.read(uid, None, 10_000_000)
    return [event.message for event in events]


async def test_the_tail_holds_what_the_invocation_wrote_and_the_platforms_lines(
    capture: LogCapture, store: LogStore, uid: str, fifo: Path
) -> None:
    write(fifo, b"before\n")
    capture.begin("r", "$LATEST")
    write(fifo, b"hello\nno end")
    tail = capture.end(report())
    last = "REPORT RequestId: r\tDuration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB\t"
    expected = ["START RequestId: r Version: $LATEST", "hello", "no end", "END RequestId: r", last]
    assert tail.decode().split("\n") == [*expected, ""]
    assert await messages(store, uid) == ["before", *expected]


async def test_the_tail_is_the_last_4_kb(capture: LogCapture, fifo: Path) -> None:
    capture.begin("r", "1")
    write(fifo, b"x" * 10_000 + b"\n")
    tail = capture.end(report())
    assert len(tail) == 4096
    assert tail.startswith(b"xxxx")
    assert b"END RequestId" in tail


async def test_lines_cut_by_the_pipe_are_joined(capture: LogCapture, store: LogStore, uid: str) -> None:
    for chunk in (b"a", b"b\nc", b"d", b"\n", b"e\n"):
        capture.write(chunk)
    assert await messages(store, uid) == ["ab", "cd", "e"]


async def test_a_line_without_end_is_kept_in_pieces(capture: LogCapture, store: LogStore, uid: str) -> None:
    for _ in range(20):
        capture.write(b"x" * 65_536)
        assert len(capture._partial) < 262_144
    capture.close()
    kept = await messages(store, uid)
    assert sum(map(len, kept)) == 20 * 65_536
    assert max(map(len, kept)) <= 262_144


async def test_output_is_complete_whenever_a_response_has_arrived(capture: LogCapture, fifo: Path) -> None:
    """The child writes, and signals only then: 1,000 times nothing may be missing."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    program = (
        "import socket,sys\n"
        "s=socket.socket(fileno=int(sys.argv[1]));log=open(sys.argv[2],'wb',buffering=0)\n"
        "while (n:=s.recv(16)):\n"
        " log.write(b'line of '+n+b'x'*1000+b'\\n'); log.write(b'last of '+n+b'\\n'); s.send(b'!')\n"
    )
    with theirs:
        child = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
            [sys.executable, "-c", program, str(theirs.fileno()), fifo], pass_fds=[theirs.fileno()]
        )
    loop = asyncio.get_running_loop()
    try:
        for number in range(1000):
            capture.begin(str(number), "1")
            async with asyncio.timeout(10):
                await loop.sock_sendall(ours, b"%d" % number)
                assert await loop.sock_recv(ours, 1) == b"!"
            tail = capture.end(report(str(number)))
            assert b"line of %dx" % number in tail
            assert b"last of %d\nEND" % number in tail
    finally:
        ours.close()
        assert child.wait(10) == 0


async def test_a_flood_stays_bounded_and_lets_the_loop_run(
    capture: LogCapture, store: LogStore, uid: str, fifo: Path, tmp_path: Path
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = 60_000_000
    program = (
        "import sys\n"
        "b=(b'flood'*20+b'\\n')*1000\n"
        f"with open(sys.argv[1],'wb',buffering=0) as f:\n for _ in range({size}//len(b)): f.write(b)\n"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(fifo))
    waiting = asyncio.ensure_future(child.wait())
    longest = 0.0
    try:
        while not waiting.done():
            started = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - started)
        assert await waiting == 0
    finally:
        if child.returncode is None:
            child.kill()
            await waiting
    capture.begin("r", "1")
    assert b"END RequestId: r" in capture.end(report())
    await store.flush()
    assert sum(path.stat().st_size for path in (tmp_path / "logs" / uid).iterdir()) <= LIMIT_BYTES + 600_000
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100_000  # KB
    assert longest < 0.5
    assert (await messages(store, uid))[-1].startswith("REPORT")


async def test_a_drain_takes_no_more_than_the_pipe_holds(fifo: Path) -> None:
    class Refilled:
        def __init__(self) -> None:
            self.taken = 0

        def write(self, data: bytes) -> None:
            self.taken += len(data)
            os.write(writer, data)

        def is_full(self) -> bool:
            return False

    sink = Refilled()
    pipe = LogPipe(fifo, sink)
    pipe.open()
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(writer, b"x" * 50_000)
        pipe.drain()
        assert pipe.capacity_bytes <= sink.taken <= pipe.capacity_bytes + 65_536
    finally:
        os.close(writer)
        pipe.close()
        pipe.close()


async def test_what_is_no_fifo_is_refused(tmp_path: Path, store: LogStore) -> None:
    (tmp_path / "file").write_text("")
    capture = LogCapture(tmp_path / "file", store=store, function_uid="u", stream="s", now_ms=lambda: 1)
    with pytest.raises(OSError, match="not a FIFO"):
        capture.open()
