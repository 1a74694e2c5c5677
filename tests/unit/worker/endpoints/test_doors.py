"""Finding a controller's side door, and what happens when one is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from contract.bus.connection import RedisUnavailableError
from tests.unit.worker.waiting import wait_until
from worker.endpoints import doors as settings
from worker.endpoints.doors import Doors, DoorsClosedError
from worker.endpoints.request import Forward

ARN = "arn:aws:lambda:us-east-1:111111111111:function:f"
REQUEST = Forward(
    method="POST", target="/2015-03-31/functions/g/invocations", headers=((b"x-amz-date", b"now"),), has_body=True
)


class Cell(httpx.AsyncBaseTransport):
    """Redis and the controllers, played. As on a network, a body is read only once a connection stands."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.token = "token"
        self.questions = 0
        self.is_redis_away = False
        self.dead: set[str] = set()
        self.failure: type[httpx.TransportError] = httpx.ConnectError
        self.attempts: list[str] = []
        self.asked: list[httpx.Request] = []
        self._doors = Doors(self, self, patience_s=0.0)

    async def doors(self, *, retry_s: float = 1.0) -> tuple[list[str], str]:
        self.questions += 1
        if self.is_redis_away:
            raise RedisUnavailableError("away")
        return self.addresses, self.token

    async def send(self, body: bytes = b"body") -> httpx.Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield body

        return await self._doors.send(REQUEST, ARN, pieces())

    @property
    def served_by(self) -> list[str]:
        return [_address(request) for request in self.asked]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.attempts.append(_address(request))
        if _address(request) in self.dead:
            raise self.failure("away")
        await request.aread()
        self.asked.append(request)
        if request.headers["x-lambdock-token"] != "token":
            return httpx.Response(421)
        return httpx.Response(200, content=request.content)


def _address(request: httpx.Request) -> str:
    return f"http://{request.url.netloc.decode()}"


async def test_a_request_carries_the_token_the_function_and_what_it_said() -> None:
    cell = Cell("http://one:1")

    answer = await cell.send()

    (asked,) = cell.asked
    assert (answer.status_code, asked.url) == (200, "http://one:1/lambda/2015-03-31/functions/g/invocations")
    assert asked.headers["x-lambdock-function"] == ARN
    assert asked.headers["x-amz-date"] == "now"
    assert asked.headers.get_list("host") == ["one:1"]
    assert asked.content == b"body"


async def test_redis_is_asked_once_in_a_while() -> None:
    cell = Cell("http://one:1")
    for _ in range(10):
        await cell.send()

    assert cell.questions == 1


async def test_controllers_share_the_requests() -> None:
    cell = Cell("http://one:1", "http://two:2")
    for _ in range(60):
        await cell.send()

    assert set(cell.served_by) == {"http://one:1", "http://two:2"}


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ConnectTimeout])
async def test_another_controller_is_asked_when_one_takes_no_connection(failure: type[httpx.TransportError]) -> None:
    cell = Cell("http://one:1", "http://two:2", "http://three:3")
    cell.dead = {"http://one:1", "http://two:2"}
    cell.failure = failure
    for _ in range(20):
        assert (await cell.send()).content == b"body"

    assert set(cell.served_by) == {"http://three:3"}


async def test_a_dead_controller_is_not_tried_for_every_request() -> None:
    cell = Cell("http://one:1", "http://two:2")
    cell.dead = {"http://one:1"}
    for _ in range(30):
        await cell.send()

    assert cell.attempts.count("http://one:1") <= 1


@pytest.mark.parametrize("failure", [httpx.ReadError, httpx.ReadTimeout, httpx.WriteError, httpx.RemoteProtocolError])
async def test_what_may_have_arrived_is_never_sent_twice(failure: type[httpx.TransportError]) -> None:
    cell = Cell("http://one:1", "http://two:2")
    cell.dead = {"http://one:1", "http://two:2"}
    cell.failure = failure

    with pytest.raises(DoorsClosedError, match="did not answer"):
        await cell.send()

    assert cell.asked == []


async def test_a_controller_that_has_just_come_is_found_when_all_others_are_gone() -> None:
    cell = Cell("http://one:1")
    await cell.send()
    cell.dead = {"http://one:1"}
    cell.addresses.append("http://two:2")

    await cell.send()

    assert (cell.served_by[-1], cell.questions) == ("http://two:2", 2)


async def test_a_request_waits_for_a_controller_that_starts_again() -> None:
    cell = Cell("http://one:1")
    cell.dead = {"http://one:1"}
    patient = Doors(cell, cell, patience_s=60.0)
    asking = asyncio.create_task(patient.send(REQUEST, ARN, None))
    await wait_until(lambda: cell.attempts, "it has been tried")

    cell.addresses = ["http://two:2"]

    assert (await asking).status_code == 200
    assert cell.served_by == ["http://two:2"]


async def test_without_any_controller_the_doors_are_closed() -> None:
    with pytest.raises(DoorsClosedError, match="no controller"):
        await Cell().send()


async def test_while_redis_is_away_the_known_doors_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell("http://one:1")
    await cell.send()
    monkeypatch.setattr(settings, "_BELIEVED_S", 0.0)
    cell.is_redis_away = True

    assert (await cell.send()).status_code == 200
    other = Cell("http://one:1")
    other.is_redis_away = True
    with pytest.raises(DoorsClosedError):
        await other.send()


async def test_a_token_that_redis_has_lost_is_asked_for_again() -> None:
    cell = Cell("http://one:1")
    cell.token = "old"
    with pytest.raises(DoorsClosedError, match="token"):
        await cell.send()
    cell.token = "token"

    assert (await cell.send()).status_code == 200
