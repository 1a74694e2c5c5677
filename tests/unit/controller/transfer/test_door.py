"""The side door: who gets in, in whose name, and what is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from contract.bus.connection import RedisUnavailableError
from contract.bus.operations import Operations
from controller.api.identity import CallerReader
from controller.transfer.door import SideDoor, announced
from controller.transfer.exchange import Exchange
from controller.transfer.server import serve_transfer
from tests.unit.worker.waiting import wait_until

ARN = "arn:aws:lambda:eu-west-1:111111111111:function:f"
KEY = {"x-lambdock-token": "token", "x-lambdock-function": ARN}
SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=222222222222/20260101/us-west-2/lambda/aws4_request, x"}
CALLERS = CallerReader(default_account="000000000000", default_region="us-east-1")


class Api:
    """Tells what the real API would see."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.gate: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        caller = CALLERS.read(request)
        seen = {
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode(),
            "query": request.url.query,
            "account": caller.account,
            "region": caller.region,
            "headers": {name: request.headers.getlist(name) for name in request.headers},
            "body": (await request.body()).decode(),
        }
        self.seen.append(seen)
        if self.gate is not None:
            await self.gate.wait()
        await JSONResponse(seen)(scope, receive, send)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def door(api: Api) -> SideDoor:
    door = SideDoor(api)
    door.token = "token"
    return door


@pytest.fixture
async def worker(door: SideDoor) -> AsyncIterator[httpx.AsyncClient]:
    """What reaches the transfer server's address."""
    exchange = Exchange()
    async with (
        serve_transfer(exchange, door, "127.0.0.1", 0, ""),
        httpx.AsyncClient(base_url=exchange.base_url) as client,
    ):
        yield client


async def test_a_function_s_account_is_its_own_whatever_it_signs_with(worker: httpx.AsyncClient) -> None:
    answer = await worker.post("/lambda/2015-03-31/functions/g?Qualifier=1", headers=KEY | SIGNED, content=b"{}")

    seen = answer.json()
    assert (seen["account"], seen["region"]) == ("111111111111", "us-west-2")
    assert (seen["path"], seen["query"]) == ("/2015-03-31/functions/g", "Qualifier=1")
    assert seen["raw_path"] == "/2015-03-31/functions/g"
    assert seen["body"] == "{}"
    assert seen["headers"]["host"] == ["localhost"]
    assert not [name for name in seen["headers"] if name.startswith("x-lambdock")]


async def test_a_signature_without_a_region_means_the_function_s_own(worker: httpx.AsyncClient) -> None:
    seen = (await worker.get("/lambda/2015-03-31/functions", headers=KEY)).json()

    assert (seen["account"], seen["region"]) == ("111111111111", "eu-west-1")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-lambdock-function": ARN},
        KEY | {"x-lambdock-token": ""},
        KEY | {"x-lambdock-token": "toke"},
        KEY | {"x-lambdock-token": "token2"},
        KEY | {"x-lambdock-token": "tok\u00e9n"},
    ],
)
async def test_without_the_cell_s_token_nothing_is_behind_the_door(
    worker: httpx.AsyncClient, api: Api, headers: dict[str, str]
) -> None:
    sent = [(name, value.encode("latin-1")) for name, value in headers.items()]

    answer = await worker.get("/lambda/2015-03-31/functions", headers=sent)

    assert (answer.status_code, api.seen) == (421, [])


async def test_two_tokens_are_none(worker: httpx.AsyncClient, api: Api) -> None:
    headers = [*KEY.items(), ("x-lambdock-token", "token")]

    assert (await worker.get("/lambda/2015-03-31/functions", headers=headers)).status_code == 421
    assert api.seen == []


async def test_a_door_without_a_token_is_closed(worker: httpx.AsyncClient, door: SideDoor) -> None:
    door.token = ""

    answer = await worker.get("/lambda/2015-03-31/functions", headers=KEY | {"x-lambdock-token": ""})

    assert answer.status_code == 421


@pytest.mark.parametrize("arn", ["", "f", ARN + ":1:2", "arn:aws:lambda:eu-west-1:1:function:f", ARN + "/x"])
async def test_a_request_in_nobody_s_name_is_refused(worker: httpx.AsyncClient, api: Api, arn: str) -> None:
    answer = await worker.get("/lambda/2015-03-31/functions", headers=KEY | {"x-lambdock-function": arn})

    assert (answer.status_code, api.seen) == (400, [])


@pytest.mark.parametrize(
    "path", ["/lambda/health", "/lambda/_lambdock/openapi.json", "/lambda/2015-03-31/%2e%2e/health", "/lambda/"]
)
async def test_behind_the_door_is_the_lambda_api_only(worker: httpx.AsyncClient, api: Api, path: str) -> None:
    answer = await worker.get("/", headers=KEY, extensions={"target": path.encode()})

    assert (answer.status_code, api.seen) == (400, [])


async def test_the_transfer_channel_is_beside_it(worker: httpx.AsyncClient) -> None:
    assert (await worker.get("/lambda", headers=KEY)).status_code == 404
    assert (await worker.get("/2015-03-31/functions", headers=KEY | SIGNED)).status_code == 404


async def test_a_client_s_own_state_is_nobody_s_account() -> None:
    """What the public server puts into the scope's state, and what a client sends, name no function."""
    scope = {"type": "http", "query_string": b"", "state": {}}
    headers = [(b"x-lambdock-function", ARN.encode()), (b"calling_function", ARN.encode())]

    assert CALLERS.read(Request({**scope, "headers": headers})).account == "000000000000"


class Bus:
    """A cell's announcements."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.token = ""
        self.is_away = False

    async def announce(self, address: str, token: str, *, is_open: bool = True, retry_s: float = 8.0) -> str:
        if self.is_away:
            raise RedisUnavailableError("away")
        self.open = self.open | {address} if is_open else self.open - {address}
        self.token = self.token or token
        return self.token


def operations(bus: Bus) -> Operations:
    return bus  # type: ignore[return-value]


async def test_doors_of_one_cell_have_one_token_and_a_closed_one_is_not_announced(api: Api) -> None:
    bus = Bus()
    one, two = SideDoor(api), SideDoor(api)
    async with announced(operations(bus), one, "one", drain_s=0):
        async with announced(operations(bus), two, "two", drain_s=0):
            await wait_until(lambda: bus.open == {"one", "two"}, "both are announced")
            assert one.token == two.token == bus.token
            assert len(bus.token) >= 32
        assert bus.open == {"one"}
    assert bus.open == set()


async def test_without_redis_a_door_stays_closed_and_ends(api: Api) -> None:
    bus = Bus()
    bus.is_away = True
    door = SideDoor(api)
    async with announced(operations(bus), door, "one", drain_s=0):
        pass
    assert door.token == ""


async def test_who_is_inside_may_finish(door: SideDoor, api: Api, worker: httpx.AsyncClient) -> None:
    bus, api.gate = Bus(), asyncio.Event()
    bus.token = "token"
    left = asyncio.Event()

    async def serve() -> None:
        async with announced(operations(bus), door, "one", drain_s=60):
            await wait_until(lambda: api.seen, "somebody is inside")
        left.set()

    serving = asyncio.create_task(serve())
    asking = asyncio.create_task(worker.get("/lambda/2015-03-31/functions", headers=KEY))
    await wait_until(lambda: api.seen and not bus.open, "the door is not announced any more")
    assert not left.is_set()

    api.gate.set()

    assert (await asking).status_code == 200
    await serving
