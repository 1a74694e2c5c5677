"""Environments without an engine: a memory driver, runtimes that play a part, a log that remembers."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contract.launch import LaunchSpec
from runtimes.catalog import load_catalog
from tests.fakes.memory_driver import MemoryDriver, MemorySandbox
from worker.environments.environment import Environment, EnvironmentParts
from worker.images.inspected import FunctionImage

_RUNTIME = "/2018-06-01/runtime"
_NEXT = f"GET {_RUNTIME}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode()
CATALOG = load_catalog()


def launch_spec(**changes: Any) -> LaunchSpec:
    """A function version; name only what matters to the test."""
    values: dict[str, Any] = {
        "version_key": "uid:$LATEST:1",
        "function_uid": "uid",
        "generation": 1,
        "account": "000000000000",
        "region": "us-east-1",
        "function_name": "f",
        "version": "$LATEST",
        "runtime": "python3.11",
        "handler": "app.handler",
        "code_sha256": "00",
        "architecture": "x86_64",
        "memory_mb": 128,
        "timeout_s": 3,
        "ephemeral_storage_mb": 512,
    }
    return LaunchSpec(**(values | changes))


def function_image(**changes: Any) -> FunctionImage:
    """A container image as the engine has it; name only what matters to the test."""
    values: dict[str, Any] = {
        "image_id": "sha256:0",
        "uri": "app@sha256:0",
        "size_bytes": 1,
        "entry_point": (),
        "command": (),
        "environment": {},
        "working_directory": "",
        "volumes": (),
        "user": "",
    }
    return FunctionImage(**(values | changes))


class LogRecorder:
    """A log store that keeps all lines of all functions together."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def append(self, _uid: str, _stream: str, _at_ms: int, data: bytes) -> None:
        self.lines += data.decode().splitlines()

    def is_full(self, _uid: str) -> bool:
        return False


@dataclass
class Stage:
    """Environments whose runtimes do, life after life, what `parts` says; the last part is played for ever.

    Parts: `answer`, `error` (a reported one), `hang`, `exit`, `oom`, `too_large` (all at the first event),
    `init_exit`, `init_error`, `init_hang`, and `idle_exit` (right after it has asked for its first event).
    """

    folder: Path
    parts: deque[str] = field(default_factory=lambda: deque(["answer"]))
    logs: LogRecorder = field(default_factory=LogRecorder)
    answer: bytes = b'"answer"'
    #: Events that a runtime has been handed.
    events: list[bytes] = field(default_factory=list)
    _players: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.driver = MemoryDriver(self.folder, on_release=self._play)
        self.environment_parts = EnvironmentParts(
            driver=self.driver,
            log_store=self.logs,  # type: ignore[arg-type]
            starts=asyncio.Semaphore(3),
            init_limit_s=60.0,
        )

    def limit_init(self, limit_s: float) -> None:
        self.environment_parts = replace(self.environment_parts, init_limit_s=limit_s)

    def environment(self, **changes: Any) -> Environment:
        launch = launch_spec(**changes)
        return Environment(self.environment_parts, launch, CATALOG[launch.runtime], "reservation")

    async def close(self) -> None:
        for player in self._players:
            player.cancel()
        await asyncio.gather(*self._players, return_exceptions=True)

    def _play(self, released: MemorySandbox) -> None:
        part = self.parts.popleft() if len(self.parts) > 1 else self.parts[0]
        self._players.append(asyncio.create_task(self._life(released, part)))

    async def _life(self, released: MemorySandbox, part: str) -> None:
        sandbox = released.sandbox
        if part == "init_exit":
            self.driver.exit(sandbox, 1)
            return
        if part == "init_hang":
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.runtime_api_listener.getsockname()[1])
        try:
            if part == "init_error":
                writer.write(_post("init/error", b'{"errorType":"E","errorMessage":"m"}', "Runtime.ImportModuleError"))
                await reader.readuntil(b"\r\n\r\n")
                self.driver.exit(sandbox, 1)
                return
            while True:
                writer.write(_NEXT)
                if part == "idle_exit":
                    self.driver.exit(sandbox, 0)
                    return
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.events.append(await reader.readexactly(_number(r"content-length: (\d+)", head)))
                request_id = re.search(r"(?i)request-id: (\S+)", head)
                assert request_id is not None
                if not await self._answer(sandbox, part, request_id.group(1), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(
        self, sandbox: Any, part: str, request_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        match part:
            case "hang":
                return False
            case "exit":
                self.driver.exit(sandbox, 3)
                return False
            case "oom":
                self.driver.exit(sandbox, 137, oom_killed=True)
                return False
            case "error":
                path = f"invocation/{request_id}/error"
                writer.write(_post(path, b'{"errorType":"ValueError","errorMessage":"no"}', "ValueError"))
            case "too_large":
                path = f"{_RUNTIME}/invocation/{request_id}/response"
                writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 7000000\r\n\r\n".encode())
                for _ in range(70):
                    writer.write(bytes(100_000))
                    await writer.drain()
            case _:
                writer.write(_post(f"invocation/{request_id}/response", self.answer))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await reader.readexactly(_number(r"content-length: (\d+)", head))
        if part == "too_large":
            self.driver.exit(sandbox, 1)
        return part != "too_large"


def _post(path: str, body: bytes, error_type: str = "") -> bytes:
    extra = f"Lambda-Runtime-Function-Error-Type: {error_type}\r\n" if error_type else ""
    return f"POST {_RUNTIME}/{path} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _number(pattern: str, text: str) -> int:
    found = re.search(f"(?i){pattern}", text)
    return int(found.group(1)) if found else 0
