"""From a function's socket through worker and side door to an application, over real connections."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from controller.api.identity import CallerReader
from controller.transfer.door import SideDoor
from controller.transfer.exchange import Exchange
from controller.transfer.server import serve_transfer
from tests.fakes.played_runtime import launch_spec
from tests.unit.worker.endpoints.function import Connection, request
from tests.unit.worker.waiting import wait_until
from worker.endpoints.doors import Doors
from worker.endpoints.server import FunctionEndpoints
from worker.endpoints.setting import EndpointPlan

INVOKE = "/2015-03-31/functions/g/invocations"
TOKEN = "the cell's"
CALLERS = CallerReader(default_account="000000000000", default_region="us-east-1")


@dataclass
class Controller:
    """One controller's side door, with an API behind it that tells what it was asked."""

    name: str
    exchange: Exchange = field(default_factory=Exchange)
    calls: int = 0
    #: How many bytes of bodies have arrived.
    received: int = 0
    ended: int = 0
    #: Requests whose caller went away before all had arrived.
    left: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.calls += 1
        try:
            async for piece in request.stream():
                self.received += len(piece)
        except ClientDisconnect:
            self.left += 1
            return
        if "stream" in request.query_params:
            await StreamingResponse(self._pieces())(scope, receive, send)
        else:
            told = {"by": self.name, "account": CALLERS.read(request).account, "size": self.received}
            await JSONResponse(told)(scope, receive, send)
        self.ended += 1

    async def _pieces(self) -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d;" % number

    @asynccontextmanager
    async def serving(self, token: str = TOKEN) -> AsyncIterator[str]:
        door = SideDoor(self)
        door.token = token
        async with serve_transfer(self.exchange, door, "127.0.0.1", 0, ""):
            yield self.exchange.base_url


class Directory:
    """What Redis says."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def doors(self, *, retry_s: float = 1.0) -> tuple[list[str], str]:
        return self.addresses, TOKEN


@asynccontextmanager
async def function(*addresses: str) -> AsyncIterator[Connection]:
    """A connection of a function of account 111111111111 to its worker."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    doors = Doors(Directory(*addresses), patience_s=0.0)
    served = FunctionEndpoints(EndpointPlan(), doors).serve([listener], launch_spec(account="111111111111"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    try:
        yield Connection(reader, writer)
    finally:
        served.close()
        await doors.close()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def dead_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def test_every_request_arrives_once_although_most_controllers_are_dead() -> None:
    alive = Controller("alive")
    async with alive.serving() as address, function(dead_address(), address, dead_address()) as caller:
        for number in range(1, 30):
            answer = await caller.ask(request(INVOKE, bytes(1000)))
            told = json.loads(answer.body)
            assert (told["by"], told["account"], told["size"]) == ("alive", "111111111111", number * 1000)
    assert alive.calls == 29


async def test_with_all_controllers_dead_the_function_is_told_to_try_again() -> None:
    async with function(dead_address(), dead_address()) as caller:
        assert (await caller.ask(request(INVOKE, bytes(100_000)))).status == 503


async def test_a_request_that_a_dying_controller_has_seen_is_not_sent_again() -> None:
    seen: list[bytes] = []

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"{}"))
        writer.transport.abort()

    other = Controller("other")
    server = await asyncio.start_server(die, "127.0.0.1", 0)
    dying = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, other.serving() as alive, function(dying, alive) as caller:
        for _ in range(200):
            answer = await caller.ask(request(INVOKE, b"{}"))
            assert answer.status == (503 if seen else 200)
            if seen:
                break
    assert len(seen) == 1


async def test_bodies_of_50_mb_pass_in_both_directions() -> None:
    controller = Controller("one")
    async with controller.serving() as address, function(address) as caller:
        answer = await caller.ask(request("/2015-03-31/functions", bytes(50 * 2**20)))
        assert json.loads(answer.body)["size"] == 50 * 2**20

        streamed = await caller.ask(request(INVOKE + "?stream=1", b""))

        assert streamed.headers["transfer-encoding"] == "chunked"
        assert streamed.body == b"".join(b"%d;" % number for number in range(100))


async def test_a_function_that_goes_away_lets_go_of_the_controller() -> None:
    controller = Controller("one")
    async with controller.serving() as address, function(address) as caller:
        # Half of a body, so that the controller notices the end by itself.
        await caller.send(request(INVOKE, bytes(200_000))[:-1])
        await wait_until(lambda: controller.received == 199_999, "it has come so far")

        caller.writer.transport.abort()

        await wait_until(lambda: controller.left == 1, "the controller hears of it")


@pytest.mark.parametrize("size", [0, 1, 65_536, 6 * 2**20])
async def test_connections_are_used_again(size: int) -> None:
    controller = Controller("one")
    async with controller.serving() as address, function(address) as caller:
        for _ in range(3):
            assert (await caller.ask(request(INVOKE, bytes(size)))).status == 200
    assert controller.ended == 3


async def test_a_wrong_token_is_a_reason_to_try_again_later() -> None:
    controller = Controller("one")
    async with controller.serving("another") as address, function(address) as caller:
        assert (await caller.ask(request(INVOKE, b"{}"))).status == 503
    assert controller.calls == 0
