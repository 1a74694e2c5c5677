from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.messages import LogsReply, LogsRequest, PrepareReply, PrepareRequest
from tests.fakes.played_runtime import launch_spec
from worker.code.cache import CodeUnavailableError
from worker.images.errors import RuntimeUnavailableError
from worker.logs.store import Cursor, LogStore
from worker.preparation import Preparation, format_cursor, parse_cursor


class World:
    def __init__(self, logs: Any = None) -> None:
        self.failure: Exception | None = None
        self.replies: list[tuple[str, str, bytes, bytes]] = []
        parts: Any = (self, self, self, logs)
        self.preparation = Preparation(*parts)

    async def ensure(self, *_: str) -> str:
        if self.failure is not None:
            raise self.failure
        return "made"

    async def reply(self, controller: str, token: str, header: bytes, payload: bytes) -> None:
        self.replies.append((controller, token, header, payload))


@given(
    st.builds(
        Cursor,
        segment=st.integers(0, 10**17),
        offset=st.integers(0, 10**17),
        line=st.integers(0, 10**17),
    )
)
def test_a_cursor_comes_back_as_it_was(cursor: Cursor) -> None:
    assert parse_cursor(format_cursor(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.3.4", "a.b.c", "1.2.-3", "1.1.\u00b2", "9" * 5000 + ".1.1"])
def test_a_cursor_of_somebody_else_s_making_is_the_beginning(text: str) -> None:
    assert parse_cursor(text) is None
    assert format_cursor(None) == ""


async def test_a_version_that_can_be_launched_is_ready() -> None:
    world = World()
    await world.preparation.prepare(PrepareRequest(token="t", controller="c"), launch_spec())
    ((controller, token, header, _),) = world.replies
    assert (controller, token, PrepareReply.from_json(header).is_ready) == ("c", "t", True)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (RuntimeUnavailableError("no image"), "InvalidRuntime"),
        (CodeUnavailableError("broken zip"), "InvalidZipFileException"),
        (ZeroDivisionError("bug"), "InternalError"),
    ],
)
async def test_a_version_that_can_t_be_launched_says_why(failure: Exception, code: str) -> None:
    world = World()
    world.failure = failure
    await world.preparation.prepare(PrepareRequest(token="t", controller="c"), launch_spec())
    reply = PrepareReply.from_json(world.replies[0][2])
    assert (reply.is_ready, reply.reason_code) == (False, code)
    assert str(failure) in reply.reason


async def test_who_asks_for_no_answer_gets_none() -> None:
    world = World()
    await world.preparation.prepare(PrepareRequest(token="t", controller=""), launch_spec())
    assert world.replies == []


async def test_logs_are_read_page_by_page_and_forgotten_with_their_function(tmp_path: Path) -> None:
    logs = LogStore(tmp_path / "logs", 1_000_000)
    await logs.start()
    world = World(logs)
    logs.append("uid", "s", 5, b"a\nb\nc\n")

    async def page(cursor: str, since_ms: int = 0) -> tuple[list[str], str]:
        request = LogsRequest(token="t", controller="c", function_uid="uid", cursor=cursor, limit=2, since_ms=since_ms)
        await world.preparation.read_logs(request)
        _, _, header, payload = world.replies.pop()
        return [event["message"] for event in orjson.loads(payload)], LogsReply.from_json(header).cursor

    first, cursor = await page("")
    second, _ = await page(cursor)
    assert (first, second) == (["a", "b"], ["c"])
    assert (await page("", since_ms=6))[0] == []
    await world.preparation.forget("uid")
    assert (await page(""))[0] == []
    await logs.close()
