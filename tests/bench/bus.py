"""Measures the two scripts of an invocation: `python -m tests.bench.bus [callers] [pairs]`.

Prints pairs of dispatch and complete per second, and the CPU time that client and server spend on one pair.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import uvloop

from contract.bus.redis_bus import RedisBus
from contract.keys import Keys
from tests.integration.bus.cell import Cell
from tests.redis_fixture import RedisServer, binaries

#: Everything in a stream has been read.
END = b"9999999999999"


def cpu_s(pid: int) -> float:
    """CPU time of a process and all its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(server: RedisServer, callers: int, pairs: int) -> str:
    cell = Cell(RedisBus(server.url, Keys("bench")), server.url)
    await cell.open()
    worker = await cell.worker(memory_mb=callers * 128)
    # Heard of an hour from now, so that nobody need send heartbeats.
    await cell.silence(worker, -3_600_000)
    function = await cell.function(memory_mb=128)
    payload = b"x" * 1024

    async def call(prefix: str, count: int) -> None:
        for number in range(count):
            request = cell.request(function, f"{prefix}{number}", payload=payload)
            answer = await cell.operations.dispatch(request, last_reply=END)
            assert answer.instance, answer
            await cell.operations.complete(
                worker.instance,
                request.id,
                is_reusable=True,
                header=b"{}",
                payload=payload,
                last_inbox=END,
            )

    async def all_call(prefix: str, count: int) -> None:
        await asyncio.gather(*(call(f"{prefix}{number}-", count // callers) for number in range(callers)))

    await all_call("warm-up", callers * 2)
    began, client, redis = time.perf_counter(), time.process_time(), cpu_s(server.pid)
    await all_call("m", pairs)
    elapsed = time.perf_counter() - began
    client, redis = time.process_time() - client, cpu_s(server.pid) - redis
    cell.close()
    each = 1e6 / pairs
    return (
        f"{pairs / elapsed:8.0f} pairs/s, {elapsed * each * callers:6.0f} µs a pair; "
        f"CPU of client {client * each:5.1f} µs, of server {redis * each:5.1f} µs"
    )


def main() -> None:
    callers, pairs = (int(argument) for argument in (*sys.argv[1:], "32", "20000")[:2])
    for name, binary in sorted(binaries().items()):
        server = RedisServer(binary)
        try:
            server.start()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                print(f"{name:10} {callers} callers: {runner.run(measure(server, callers, pairs))}")
        finally:
            server.remove()


if __name__ == "__main__":
    main()
