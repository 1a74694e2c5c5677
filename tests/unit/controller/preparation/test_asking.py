from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from contract.launch import LaunchSpec
from contract.messages import PrepareReply, PrepareRequest
from controller.domain.function import PreparationFailure
from controller.domain.release import FoundImage
from controller.preparation.asking import LISTENER, PreparationAsker
from controller.resources.functions.ports import Unprepared
from tests.fakes.played_runtime import launch_spec
from tests.fakes.recording_operations import RecordingBus
from tests.waiting import wait_until


class World:
    def __init__(self) -> None:
        self.bus = RecordingBus()
        self.found: dict[str, dict[str, str]] = {}
        self.target: LaunchSpec | None = launch_spec()
        self.questions: list[tuple[str, PrepareRequest]] = []
        self.finished: list[tuple[str, str, str, PreparationFailure | None, FoundImage | None]] = []
        self.current: LaunchSpec | None = None
        self.unprepared: list[Unprepared] = []
        self.failure: Exception | None = None
        parts: Any = (self, self)
        self.asker = PreparationAsker(*parts)

    async def preparation_target(self, *_: str) -> LaunchSpec | None:
        return self.target

    async def current_launch(self, *_: str) -> LaunchSpec | None:
        return self.current

    async def list_unprepared(self) -> list[Unprepared]:
        return self.unprepared

    async def workers(self) -> dict[str, dict[str, str]]:
        return self.found

    async def ask(self, instance: str, kind: str, header: bytes, launch: bytes) -> None:
        assert kind == "prepare"
        assert LaunchSpec.from_json(launch) == (self.target or self.current)
        self.questions.append((instance, PrepareRequest.from_json(header)))

    async def finish_preparation(self, *told: Any) -> bool:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        is_news = told not in self.finished
        self.finished.append(told)  # type: ignore[arg-type]
        return is_news

    def reply(self, token: bytes, reply: bytes) -> None:
        self.bus.push(self.bus.keys.reply(LISTENER), b"i", token, b"h", reply, b"p", b"")

    async def listen(self, count: int) -> None:
        task = asyncio.create_task(self.asker.listen())
        try:
            await wait_until(lambda: len(self.finished) == count, "the answers are taken down")
            await wait_until(lambda: self.bus._stream(self.bus.keys.reply(LISTENER)).empty(), "all are read")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def reply(**values: Any) -> bytes:
    return PrepareReply(**({"token": "u 1 r", "is_ready": True} | values)).to_json()


async def test_one_worker_answers_and_all_live_ones_get_ready() -> None:
    world = World()
    world.found = {
        "full@1": {"state": "live", "placeable": "0"},
        "free@1": {"state": "live", "placeable": "1"},
        "gone@1": {"state": "fenced", "placeable": "1"},
    }
    assert await world.asker.ask("u", "1", "r")
    assert [(instance, asked.controller) for instance, asked in world.questions] == [
        ("free@1", LISTENER),
        ("full@1", ""),
    ]


async def test_without_a_live_worker_somebody_must_ask_again() -> None:
    world = World()
    world.found = {"gone@1": {"state": "fenced"}}
    assert not await world.asker.ask("u", "1", "r")


async def test_what_is_obsolete_is_not_asked_for() -> None:
    world = World()
    world.found = {"w@1": {"state": "live", "placeable": "1"}}
    world.target = None
    assert await world.asker.ask("u", "1", "r")
    assert world.questions == []


async def test_answers_are_taken_down_and_trimmed() -> None:
    world = World()
    world.reply(b"u 1 r", reply())
    world.reply(b"u 2 s", reply(is_ready=False, reason_code="InvalidRuntime", reason="no image"))
    await world.listen(2)

    failure = PreparationFailure(reason_code="InvalidRuntime", reason="no image")
    assert world.finished == [("u", "1", "r", None, None), ("u", "2", "s", failure, None)]
    assert ("XTRIM", world.bus.keys.reply(LISTENER), "MINID", b"2-1") in world.bus.commands


async def test_an_answer_that_can_t_be_taken_down_does_not_end_the_listening() -> None:
    world = World()
    world.failure = RuntimeError("bug")
    world.reply(b"u 1 r", reply())
    world.reply(b"not a token", b"{")
    world.reply(b"u 2 r", reply())
    await world.listen(1)
    assert world.finished == [("u", "2", "r", None, None)]


PINNED = f"host/app@sha256:{'a' * 64}"
WORKERS = {name: {"state": "live", "placeable": "1"} for name in ("a@1", "b@1")}


async def test_an_image_by_tag_is_looked_up_by_one_worker_alone() -> None:
    world = World()
    world.found = WORKERS
    world.target = replace(launch_spec(), image_uri="host/app:1")

    await world.asker.ask("u", "1", "r")

    assert [(instance, asked.controller) for instance, asked in world.questions] == [("a@1", LISTENER)]


async def test_an_image_by_digest_is_prepared_by_all_at_once() -> None:
    world = World()
    world.found = WORKERS
    world.target = replace(launch_spec(), image_uri=PINNED)

    await world.asker.ask("u", "1", "r")

    assert [instance for instance, _ in world.questions] == ["a@1", "b@1"]


async def test_what_the_first_has_found_is_stored_and_then_prepared_by_all() -> None:
    world = World()
    world.found = WORKERS
    world.target = replace(launch_spec(), image_uri="host/app:1")
    await world.asker.ask("u", "1", "r")
    _, asked = world.questions.pop()
    world.target, world.current = None, replace(launch_spec(), image_uri=PINNED)

    world.reply(asked.token.encode(), reply(image_uri=PINNED, image_bytes=7))
    await world.listen(1)

    assert world.finished == [("u", "1", "r", None, FoundImage(uri=PINNED, size_bytes=7))]
    assert [(instance, asked.controller) for instance, asked in world.questions] == [("a@1", ""), ("b@1", "")]


async def test_the_same_answer_once_more_asks_nobody() -> None:
    """Whoever pulls for minutes is asked again and again, and answers as often."""
    world = World()
    world.found = WORKERS
    world.target, world.current = None, replace(launch_spec(), image_uri=PINNED)
    for _ in range(3):
        world.reply(b"u 1 r first", reply(image_uri=PINNED))
    await world.listen(3)

    assert [instance for instance, _ in world.questions] == ["a@1", "b@1"]


async def test_versions_that_waited_for_the_head_s_image_are_asked_for_at_once() -> None:
    world = World()
    world.found = {"a@1": {"state": "live", "placeable": "1"}}
    world.target = replace(launch_spec(), image_uri=PINNED)
    since = datetime(2026, 1, 31, tzinfo=UTC)
    world.unprepared = [
        Unprepared(function_uid=uid, version="1", revision_id="s", since=since) for uid in ("u", "other")
    ]

    world.reply(b"u $LATEST r first", reply(image_uri=PINNED))
    await world.listen(1)

    assert [asked.token for _, asked in world.questions] == ["u 1 s"]


async def test_a_failure_of_the_first_asks_nobody_else() -> None:
    world = World()
    world.found = WORKERS
    world.reply(b"u 1 r first", reply(is_ready=False, reason_code="ImageAccessDenied", reason="no"))
    await world.listen(1)

    failure = PreparationFailure(reason_code="ImageAccessDenied", reason="no")
    assert world.finished == [("u", "1", "r", failure, None)]
    assert world.questions == []
