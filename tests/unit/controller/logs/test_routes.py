from __future__ import annotations

import base64
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from contract.messages import LogsReply, LogsRequest
from controller.api.identity import CallerReader
from controller.domain.errors import LambdaError
from controller.invocation.replies import Replies
from controller.logs import routes as routes_module
from controller.logs.routes import logs_router
from tests.fakes.recording_operations import RecordingBus
from tests.unit.controller.events.cast import resolved


class World:
    """Workers whose logs are lists of (time, message); `silent` ones never answer."""

    def __init__(self) -> None:
        self.bus = RecordingBus()
        self.logs: dict[str, list[tuple[int, str]]] = {}
        self.silent: set[str] = set()
        self.questions: list[LogsRequest] = []
        operations: Any = self
        self.replies = Replies(operations, "c1")
        resolver: Any = self
        callers = CallerReader(default_account="000000000000", default_region="us-east-1")
        self.app = FastAPI(exception_handlers={LambdaError: _refused})
        self.app.include_router(logs_router(operations, self.replies, resolver, callers))

    async def resolve(self, *_: Any) -> Any:
        return resolved()

    async def workers(self) -> dict[str, dict[str, str]]:
        return {instance: {"state": "live"} for instance in self.logs} | {"old@1": {"state": "fenced"}}

    async def ask(self, instance: str, kind: str, header: bytes) -> None:
        assert kind == "logs"
        question = LogsRequest.from_json(header)
        self.questions.append(question)
        if instance in self.silent:
            return
        start = int(question.cursor or 0)
        page = self.logs[instance][start : start + question.limit]
        reply = LogsReply(token=question.token, cursor=str(start + len(page)))
        payload = orjson.dumps([{"timestamp": at, "stream": "s", "message": text} for at, text in page])
        self.replies._pending[question.token].reply.set_result((reply.to_json(), payload))

    async def get(self, **query: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/_lambdock/logs/f", params=query)


async def _refused(_request: Request, error: Exception) -> Response:
    return Response(str(error), 400)


async def test_what_live_workers_have_kept_is_merged_by_time() -> None:
    world = World()
    world.logs = {"a@1": [(1, "one"), (4, "four")], "b@7": [(2, "two"), (3, "three")]}
    events = (await world.get()).json()["events"]
    assert [event["message"] for event in events] == ["one", "two", "three", "four"]


async def test_a_cursor_goes_on_where_the_page_before_ended() -> None:
    world = World()
    world.logs = {"a@1": [(1, "one"), (2, "two"), (3, "three")]}
    first = (await world.get(limit=2)).json()
    # A later life of the worker keeps the same log.
    world.logs = {"a@2": world.logs["a@1"]}
    second = (await world.get(cursor=first["cursor"])).json()
    assert [event["message"] for event in second["events"]] == ["three"]


async def test_a_worker_that_does_not_answer_is_left_out_and_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_module, "_ANSWER_S", 0.01)
    world = World()
    world.logs = {"a@1": [(1, "one")], "b@1": [(2, "two")]}
    world.silent = {"b@1"}
    first = (await world.get()).json()
    world.silent = set()
    second = (await world.get(cursor=first["cursor"])).json()
    assert [[event["message"] for event in page["events"]] for page in (first, second)] == [["one"], ["two"]]
    assert world.replies._pending == {}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"limit": "9" * 5000},
        {"since_ms": "-1"},
        {"cursor": "!"},
        {"cursor": base64.urlsafe_b64encode(b"[1]").decode()},
        {"cursor": base64.urlsafe_b64encode(b"{").decode()},
    ],
)
async def test_impossible_queries_are_the_caller_s_mistake(query: dict[str, str]) -> None:
    world = World()
    response = await world.get(**query)
    assert response.status_code == 400
    assert world.questions == []
