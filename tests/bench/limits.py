"""What this machine can do at best: the same runtime containers, answered by a bare loop that does nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtimes.catalog import load_catalog
from worker.engine import DockerEngine

BODY = b'{"name":"Ada"}'
HANDLER = "def handler(event, context):\n    return {'hello': 'world'}\n"
LABEL = {"lambdock": "bench"}
_NEXT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 1\r\n"
    b"Lambda-Runtime-Deadline-Ms: 9999999999999\r\n"
    b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:bare\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Bare:
    """Counts what the bare loop does."""

    latencies_ms: list[float] = field(default_factory=list)
    responses: int = 0
    first_response: asyncio.Event = field(default_factory=asyncio.Event)
    connections: list[asyncio.Transport] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    """Answers every GET with an event, and every POST with 202; nothing is parsed but where a request ends."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._bare.connections.append(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = 0
            if (at := head.find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            if head.startswith(b"get"):
                self._sent_at = time.perf_counter()
                self._transport.write(_NEXT)
            else:
                self._bare.responses += 1
                self._bare.latencies_ms.append((time.perf_counter() - self._sent_at) * 1000)
                self._bare.first_response.set()
                self._transport.write(_ACCEPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Figures of one run."""

    warm_p50_ms: float
    throughput_per_s: float
    cold_ms: float


async def measure_limits(image: str, *, containers: int = 8, seconds: float = 3.0, colds: int = 5) -> Limits:
    """Measure bare warm latency, throughput with several containers, and bare cold starts."""
    with DockerEngine.connected() as engine, tempfile.TemporaryDirectory(prefix="lambdock-bench-") as folder:
        code = _code_in(Path(folder))
        cold_ms = []
        for _ in range(colds):
            began = time.perf_counter()
            async with _bare_containers(engine, image, code, 1) as bare:
                await asyncio.wait_for(bare.first_response.wait(), 30)
                cold_ms.append((time.perf_counter() - began) * 1000)
        async with _bare_containers(engine, image, code, 1) as bare:
            await asyncio.wait_for(bare.first_response.wait(), 30)
            bare.latencies_ms.clear()
            await asyncio.sleep(seconds)
            warm = statistics.median(bare.latencies_ms)
        async with _bare_containers(engine, image, code, containers) as bare:
            await asyncio.wait_for(bare.first_response.wait(), 30)
            await asyncio.sleep(3.0)
            before, began = bare.responses, time.perf_counter()
            await asyncio.sleep(seconds)
            throughput = (bare.responses - before) / (time.perf_counter() - began)
    return Limits(warm_p50_ms=warm, throughput_per_s=throughput, cold_ms=statistics.median(cold_ms))


def _code_in(folder: Path) -> Path:
    folder.chmod(0o755)
    (folder / "app.py").write_text(HANDLER)
    return folder


@asynccontextmanager
async def _bare_containers(engine: DockerEngine, image: str, code: Path, count: int) -> AsyncIterator[Bare]:
    bare = Bare()
    loop = asyncio.get_running_loop()
    api = engine.client.api
    subnet = (await engine.call(api.inspect_network, "bridge"))["IPAM"]["Config"][0]["Subnet"]
    gateway = str(next(ipaddress.ip_network(subnet).hosts()))
    server = await loop.create_server(lambda: _Connection(bare), gateway, 0)
    port = server.sockets[0].getsockname()[1]
    ids: list[str] = []

    async def run() -> None:
        created = await engine.call(api.create_container, **_config(api, image, code, f"{gateway}:{port}"))
        ids.append(created["Id"])
        await engine.call(api.start, created["Id"])

    try:
        for _ in range(count):
            await run()
        yield bare
    finally:
        for container in ids:
            with contextlib.suppress(Exception):
                await engine.call(api.remove_container, container, force=True)
        server.close()
        for connection in bare.connections:
            connection.abort()
        # They are closed in the loop's next round.
        await asyncio.sleep(0)


def _config(api: Any, image: str, code: Path, runtime_api: str) -> dict[str, Any]:
    entry = load_catalog()["python3.11"]
    host = api.create_host_config(
        mem_limit="1769m",
        memswap_limit="1769m",
        cpu_period=100_000,
        cpu_quota=100_000,
        pids_limit=1024,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "size=512m"},
        binds=[f"{code}:/var/task:ro"],
        log_config={"type": "none", "config": {}},
        network_mode="bridge",
    )
    return {
        "image": image,
        "entrypoint": list(entry.bootstrap_argv),
        "user": "993:990",
        "labels": LABEL,
        "host_config": host,
        "environment": {
            **entry.default_env,
            "_HANDLER": "app.handler",
            "LAMBDA_TASK_ROOT": "/var/task",
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "AWS_LAMBDA_FUNCTION_NAME": "bare",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "AWS_LAMBDA_LOG_GROUP_NAME": "bare",
            "AWS_LAMBDA_LOG_STREAM_NAME": "bare",
            "AWS_REGION": "us-east-1",
        },
    }
