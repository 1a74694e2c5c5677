"""A function, as far as its worker's endpoints see one: bytes over a socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.fakes.played_runtime import launch_spec
from worker.endpoints.request import Forward
from worker.endpoints.server import FunctionEndpoints, SandboxEndpoints
from worker.endpoints.setting import EndpointPlan, Target

SIGNED = "AWS4-HMAC-SHA256 Credential=1/20260101/us-east-1/lambda/aws4_request, Signature=x"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection of the function's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(10):
            await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readline(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(lines[0].split()[1]), headers, body)

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def rest(self) -> bytes:
        """Wait for the worker to hang up; return what it still said."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@dataclass
class Api:
    """Plays the Lambda API: keeps what arrives, answers as told."""

    answer: Callable[[Forward, bytes], httpx.Response] = lambda _request, body: httpx.Response(200, content=body)
    requests: list[Forward] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    cancelled: int = 0
    #: Called with each piece of a body as it comes.
    on_piece: Callable[[bytes], object] | None = None
    #: Waited for before anything is answered.
    gate: asyncio.Event | None = None

    async def send(self, request: Forward, function_arn: str, body: AsyncIterator[bytes] | None) -> httpx.Response:
        self.requests.append(request)
        self.callers.append(function_arn)
        try:
            if self.gate is not None:
                await self.gate.wait()
            whole = b""
            if body is not None:
                async for piece in body:
                    whole += piece
                    if self.on_piece is not None:
                        self.on_piece(piece)
            self.bodies.append(whole)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.answer(request, whole)


@dataclass
class Sandbox:
    """What one sandbox has open."""

    served: SandboxEndpoints
    ports: list[int]
    connections: list[Connection] = field(default_factory=list)

    async def connect(self, which: int = 0) -> Connection:
        """Connect to the Lambda API, or to the n-th of the endpoints."""
        made = Connection(*await asyncio.open_connection("127.0.0.1", self.ports[which], limit=2**24))
        self.connections.append(made)
        return made


@asynccontextmanager
async def sandbox(api: Api, *targets: Target) -> AsyncIterator[Sandbox]:
    """A sandbox of function `f` of account 111111111111."""
    plan = EndpointPlan(pipes={("127.0.100.1", number): target for number, target in enumerate(targets)})
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in plan.listeners]
    for listener in listeners:
        listener.setblocking(False)
    ports = [listener.getsockname()[1] for listener in listeners]
    served = FunctionEndpoints(plan, api).serve(listeners, launch_spec(account="111111111111"))
    made = Sandbox(served, ports)
    try:
        yield made
    finally:
        served.close()
        for connection in made.connections:
            connection.writer.close()
            await asyncio.gather(connection.writer.wait_closed(), return_exceptions=True)


def request(
    path: str = "/2015-03-31/functions",
    body: bytes | None = None,
    method: str = "",
    *,
    signed: bool = True,
    **more: str,
) -> bytes:
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", "Host: 127.0.0.1:9002"]
    lines += [f"Authorization: {SIGNED}"] if signed else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")
