"""The invoke path beside the limits of this machine, measured in the same run. `make bench` prints the table."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from contract.bus.operations import RESIDENCY_MS
from runtimes.catalog import load_catalog
from tests.bench.limits import BODY, HANDLER, measure_limits
from tests.platform_under_test import RUNTIME, Platform
from worker.engine import DockerEngine
from worker.images.runtime_images import RuntimeImages

ROUNDS = 5
SECONDS = 4
COLDS = 7


@pytest.mark.timeout(600)
def test_the_invoke_path_beside_the_limits_of_this_machine(platform: Platform, tmp_path: Path) -> None:
    assert shutil.which("wrk"), "wrk is missing: `apt-get install wrk`"
    limits = asyncio.run(_limits(tmp_path))
    name = platform.create(HANDLER, MemorySize=1769)
    script = tmp_path / "invoke.lua"
    script.write_text(
        f"wrk.method='POST'; wrk.body='{BODY.decode()}'\n"
        "done = function(s, l) io.write(string.format('RESULT %f %f %f %d\\n', l:percentile(50)/1000,"
        " l:percentile(99)/1000, s.requests/(s.duration/1e6), s.errors.status+s.errors.connect+s.errors.read"
        "+s.errors.timeout)) end\n"
    )
    url = f"{platform.endpoint}/2015-03-31/functions/{name}/invocations"
    _load(script, url, connections=8, seconds=3)
    latency = [_load(script, url, connections=1, seconds=SECONDS) for _ in range(ROUNDS)]
    load = [_load(script, url, connections=8, seconds=SECONDS) for _ in range(ROUNDS)]
    p50, p99 = statistics.median(run[0] for run in latency), statistics.median(run[1] for run in latency)
    throughput = statistics.median(run[2] for run in load)
    errors = sum(run[3] for run in latency + load)
    cold = statistics.median(_cold(platform) for _ in range(COLDS))

    rows = [
        (
            "warm p50, concurrency 1",
            f"{p50:.2f} ms",
            f"{limits.warm_p50_ms:.2f} ms",
            f"{p50 / limits.warm_p50_ms:.1f}x",
        ),
        ("warm p99, concurrency 1", f"{p99:.2f} ms", f"{p50:.2f} ms (our p50)", f"{p99 / p50:.1f}x"),
        (
            "throughput, concurrency 8",
            f"{throughput:.0f}/s",
            f"{limits.throughput_per_s:.0f}/s",
            f"{100 * throughput / limits.throughput_per_s:.0f} %",
        ),
        ("cold start, small function", f"{cold:.0f} ms", f"{limits.cold_ms:.0f} ms", f"{cold / limits.cold_ms:.2f}x"),
        ("errors", f"{errors:.0f}", "0", ""),
    ]
    table = Table("what", "lambdock", "limit in this run", "ratio", title=f"lambdock serve, {RUNTIME}, 1769 MB")
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)
    assert errors == 0


async def _limits(state_dir: Path):  # type: ignore[no-untyped-def]
    with DockerEngine.connected() as engine:
        image = await RuntimeImages(engine, load_catalog(), state_dir).ensure(RUNTIME, "x86_64")
    return await measure_limits(image)


def _load(script: Path, url: str, *, connections: int, seconds: int) -> tuple[float, float, float, float]:
    """Return p50 and p99 in ms, requests per second, errors."""
    output = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url],
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
    ).stdout
    match = re.search(r"RESULT (\S+) (\S+) (\S+) (\S+)", output)
    assert match, output
    p50, p99, rate, errors = (float(group) for group in match.groups())
    return p50, p99, rate, errors


def _cold(platform: Platform) -> float:
    """First invocation of a new function, in ms, over HTTP."""
    name = platform.create(HANDLER, MemorySize=1769)
    client = platform.client()
    client.get_function(FunctionName=name)
    # Environments of the runs before may fill the worker, and none is evicted that has just served.
    time.sleep(RESIDENCY_MS / 1000 + 0.5)
    began = time.perf_counter()
    answer = client.invoke(FunctionName=name, Payload=BODY)
    elapsed = (time.perf_counter() - began) * 1000
    assert json.loads(answer["Payload"].read()) == {"hello": "world"}
    return elapsed
