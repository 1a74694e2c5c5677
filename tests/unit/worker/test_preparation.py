from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.launch import LaunchSpec
from contract.messages import LogsReply, LogsRequest, PrepareReply, PrepareRequest
from tests.fakes.played_runtime import function_image, launch_spec
from worker.code.cache import CodeUnavailableError
from worker.images.errors import ImageUnavailableError, RuntimeUnavailableError
from worker.images.inspected import FunctionImage
from worker.logs.store import Cursor, LogStore
from worker.preparation import Preparation, format_cursor, parse_cursor


@dataclass
class Images:
    world: World

    async def ensure(self, runtime: str, architecture: str) -> str:
        self.world.fail()
        return f"{runtime}:{architecture}"


@dataclass
class Trees:
    world: World

    async def ensure(self, wanted: str | list[str]) -> Path | None:
        self.world.fail()
        return Path("/trees", *([wanted] if isinstance(wanted, str) else wanted)) if wanted else None


@dataclass
class FunctionsImages:
    world: World

    async def ensure(self, launch: LaunchSpec) -> FunctionImage:
        self.world.fail()
        return function_image(uri=f"{launch.image_uri}@sha256:1", size_bytes=7)


class World:
    def __init__(self, logs: Any = None) -> None:
        self.failure: Exception | None = None
        self.replies: list[tuple[str, str, bytes, bytes]] = []
        self.function_images = FunctionsImages(self)
        parts: Any = (self, Images(self), Trees(self), Trees(self), self.function_images, logs)
        self.preparation = Preparation(*parts, holder_runtime="python3.11")

    def fail(self) -> None:
        if self.failure is not None:
            raise self.failure

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


async def test_an_image_that_can_be_launched_is_told_as_it_was_pinned() -> None:
    world = World()
    launch = launch_spec(image_uri="app:1", runtime="", code_sha256="")
    await world.preparation.prepare(PrepareRequest(token="t", controller="c"), launch)
    reply = PrepareReply.from_json(world.replies[0][2])
    assert (reply.is_ready, reply.image_uri, reply.image_bytes) == (True, "app:1@sha256:1", 7)


async def test_an_image_that_can_t_be_had_says_why_in_lambda_s_words() -> None:
    world = World()
    world.failure = ImageUnavailableError("ImageAccessDenied", "no access")
    launch = launch_spec(image_uri="app:1", runtime="", code_sha256="")
    await world.preparation.prepare(PrepareRequest(token="t", controller="c"), launch)
    reply = PrepareReply.from_json(world.replies[0][2])
    assert (reply.is_ready, reply.reason_code, reply.reason) == (False, "ImageAccessDenied", "no access")


async def test_an_archive_is_provided_with_its_code_and_layers() -> None:
    made = await World().preparation.provide(launch_spec(code_sha256="c", layers=["a", "b"]))
    assert (made.image, made.code_dir, made.layers_dir) == ("python3.11:x86_64", Path("/trees/c"), Path("/trees/a/b"))
    assert (made.holder_image, made.function_image) == ("", None)


async def test_an_image_is_provided_with_what_holds_its_network_and_nothing_of_ours() -> None:
    made = await World().preparation.provide(launch_spec(image_uri="app:1", runtime="", code_sha256=""))
    assert (made.image, made.holder_image) == ("sha256:0", "python3.11:x86_64")
    assert (made.code_dir, made.layers_dir) == (None, None)
    assert made.function_image is not None


async def test_what_takes_minutes_is_answered_once_however_often_it_is_asked_for() -> None:
    world = World()
    pulled = asyncio.Event()
    launch = launch_spec(image_uri="app:1", runtime="", code_sha256="")

    async def ensure(launch: LaunchSpec) -> FunctionImage:
        await pulled.wait()
        return function_image(uri=f"{launch.image_uri}@sha256:1", size_bytes=7)

    world.function_images.ensure = ensure  # type: ignore[method-assign]
    request = PrepareRequest(token="t", controller="c")
    first = asyncio.create_task(world.preparation.prepare(request, launch))
    await asyncio.sleep(0)
    for _ in range(3):
        await world.preparation.prepare(request, launch)
    other = asyncio.create_task(world.preparation.prepare(request, replace(launch, image_uri="app:2")))
    pulled.set()
    await first
    await other
    assert [PrepareReply.from_json(header).image_uri for _, _, header, _ in world.replies] == [
        "app:1@sha256:1",
        "app:2@sha256:1",
    ]

    # Whoever asks again after the answer has not got it.
    await world.preparation.prepare(request, launch)
    assert len(world.replies) == 3


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
