"""What callers get for each way in which dispatching can go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from contract.bus.connection import RedisUnavailableError
from contract.bus.operations import Dispatch, InvocationRequest, Verdict
from contract.messages import INLINE_LIMIT_BYTES, InvokeHeader, ReplyHeader
from controller.api.identity import Caller
from controller.domain.arn import FunctionIdentifier
from controller.domain.errors import PlatformError, ResourceConflictError, TooManyRequestsError
from controller.domain.function import State
from controller.invocation.invoker import Dispatcher, Invoker, InvokeResult
from controller.invocation.payload import InvocationType, InvokeParameters
from controller.invocation.replies import Replies
from controller.resources.functions.resolver import ResolvedFunction
from controller.transfer.exchange import Exchange
from tests.fakes.played_runtime import launch_spec

CALLER = Caller(account="000000000000", region="us-east-1")
NAME = FunctionIdentifier(name="f")
PARAMETERS = InvokeParameters(
    type=InvocationType.REQUEST_RESPONSE, wants_tail=True, client_context='{"a":1}', trace_id="Root=1-2-3"
)


class World:
    """Plays versions, heads and Redis: answers with `verdicts` one after the other, the last one for ever."""

    def __init__(
        self, *verdicts: Verdict | Exception, state: State = State.ACTIVE, reason: str = "", **limits_s: float
    ) -> None:
        self.verdicts = list(verdicts)
        self.reason = reason
        self.state = state
        self.requests: list[InvocationRequest] = []
        self.forgotten = 0
        self.published: list[str] = []
        self.answer: Callable[[InvocationRequest], tuple[ReplyHeader, bytes] | None] = lambda _: (
            ReplyHeader(executed_version="$LATEST"),
            b"1",
        )
        self.exchange = Exchange()
        self.exchange.base_url = "http://controller"
        played: Any = self
        self.replies = Replies(played, "c1")
        self.invoker = Invoker(Dispatcher(played, played, played, self.replies), self.exchange, **limits_s)

    async def invoke(self, payload: bytes = b"{}") -> InvokeResult:
        return await self.invoker.invoke(CALLER, NAME, "r1", PARAMETERS, payload)

    async def resolve(self, _caller: Caller, _name: FunctionIdentifier) -> ResolvedFunction:
        launch = launch_spec()
        return ResolvedFunction(
            launch=launch, launch_json=b"launch", function_arn="arn:f", executed_version="$LATEST", state=self.state
        )

    def forget(self, _caller: Caller, _name: FunctionIdentifier) -> None:
        self.forgotten += 1

    async def publish_current(self, function_uid: str) -> None:
        self.published.append(function_uid)

    async def dispatch(self, request: InvocationRequest, *, last_reply: bytes) -> Dispatch:
        assert last_reply == b""
        self.requests.append(request)
        verdict = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        if isinstance(verdict, Exception):
            raise verdict
        if verdict is Verdict.DISPATCHED:
            asyncio.get_running_loop().call_soon(self._reply, request)
        return Dispatch(verdict=verdict, reason=self.reason)

    def _reply(self, request: InvocationRequest) -> None:
        answer = self.answer(request)
        if answer is not None:
            self.replies._pending[request.id].reply.set_result((answer[0].to_json(), answer[1]))


async def test_a_dispatched_invocation_returns_what_the_worker_replied() -> None:
    world = World(Verdict.DISPATCHED)

    result = await world.invoke(b'{"a": 2}')

    assert (result.payload, result.header.executed_version) == (b"1", "$LATEST")
    (request,) = world.requests
    assert (request.payload, request.launch, request.controller) == (b'{"a": 2}', b"launch", "c1")
    header = InvokeHeader.from_json(request.header)
    assert (header.request_id, header.client_context, header.trace_id) == ("r1", '{"a":1}', "Root=1-2-3")
    assert (header.wants_tail, header.invoked_function_arn, header.payload_url) == (True, "arn:f", "")


async def test_a_stale_view_is_reloaded_and_a_forgotten_function_published() -> None:
    world = World(Verdict.STALE, Verdict.UNKNOWN, Verdict.PAUSED, Verdict.DISPATCHED)

    await world.invoke()

    assert len(world.requests) == 4
    assert world.forgotten == 2
    assert world.published == ["uid"]


async def test_a_throttle_carries_its_reason_and_when_to_come_back() -> None:
    world = World(Verdict.THROTTLED, reason="ReservedFunctionConcurrentInvocationLimitExceeded")

    with pytest.raises(TooManyRequestsError) as caught:
        await world.invoke()

    assert caught.value.members == {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"}
    assert int(caught.value.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("state", [State.PENDING, State.FAILED])
async def test_a_function_that_is_not_active_is_not_dispatched(state: State) -> None:
    world = World(Verdict.DISPATCHED, state=state)

    with pytest.raises(ResourceConflictError, match=f"following state: {state}$"):
        await world.invoke()

    assert world.requests == []


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Verdict.NO_WORKERS, "no worker is running"),
        (Verdict.PAUSED, "still reconciling"),
        (Verdict.STALE, "could not be settled"),
    ],
)
async def test_a_cell_that_stays_unable_is_told_after_a_while(verdict: Verdict, reason: str) -> None:
    with pytest.raises(PlatformError, match=f"r1 was not accepted within .*{reason}"):
        await World(verdict, patience_s=0.06).invoke()


async def test_a_redis_that_is_away_is_a_failure_of_the_platform() -> None:
    with pytest.raises(PlatformError, match="r1: away"):
        await World(RedisUnavailableError("away")).invoke()


async def test_a_failure_of_the_worker_is_a_failure_of_the_platform() -> None:
    world = World(Verdict.DISPATCHED)
    world.answer = lambda _: (ReplyHeader(platform_error="the disk is full"), b"")

    with pytest.raises(PlatformError, match="r1: the disk is full"):
        await world.invoke()


async def test_a_worker_that_never_answers_keeps_nobody_for_ever() -> None:
    world = World(Verdict.DISPATCHED, start_allowance_s=-2.95)
    world.answer = lambda _: None

    with pytest.raises(PlatformError, match="no worker has answered"):
        await world.invoke()

    assert world.replies._pending == {}


async def test_large_bodies_travel_beside_redis_and_leave_nothing_behind() -> None:
    payload = b'"' + b"x" * INLINE_LIMIT_BYTES + b'"'
    world = World(Verdict.DISPATCHED)
    fetched: list[bytes | None] = []

    def worker(request: InvocationRequest) -> tuple[ReplyHeader, bytes]:
        header = InvokeHeader.from_json(request.header)
        token = re.sub(r"^http://controller/", "", header.payload_url)
        fetched.extend([world.exchange.fetch(token), world.exchange.fetch(token)])
        channel = world.exchange.expects(header.answer_url.rpartition("/")[2])
        assert channel is not None
        channel.take(b"large answer")
        return ReplyHeader(is_transferred=True), b""

    world.answer = worker

    result = await world.invoke(payload)

    assert result.payload == b"large answer"
    assert world.requests[0].payload == b""
    assert fetched == [payload, None]
    assert (world.exchange._offers, world.exchange._answers) == ({}, {})


async def test_an_announced_answer_that_did_not_arrive_is_a_failure_of_the_platform() -> None:
    world = World(Verdict.DISPATCHED)
    world.answer = lambda _: (ReplyHeader(is_transferred=True), b"")

    with pytest.raises(PlatformError, match="did not arrive"):
        await world.invoke()
