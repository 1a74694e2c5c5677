from __future__ import annotations

import asyncio
from typing import Any

from contract.launch import LaunchSpec
from contract.messages import PrepareReply, PrepareRequest
from controller.domain.function import PreparationFailure
from controller.preparation.asking import LISTENER, PreparationAsker
from tests.fakes.played_runtime import launch_spec
from tests.fakes.recording_operations import RecordingBus
from tests.waiting import wait_until


class World:
    def __init__(self) -> None:
        self.bus = RecordingBus()
        self.found: dict[str, dict[str, str]] = {}
        self.target: LaunchSpec | None = launch_spec()
        self.questions: list[tuple[str, PrepareRequest]] = []
        self.finished: list[tuple[str, str, str, PreparationFailure | None]] = []
        self.failure: Exception | None = None
        parts: Any = (self, self)
        self.asker = PreparationAsker(*parts)

    async def preparation_target(self, *_: str) -> LaunchSpec | None:
        return self.target

    async def workers(self) -> dict[str, dict[str, str]]:
        return self.found

    async def ask(self, instance: str, kind: str, header: bytes, launch: bytes) -> None:
        assert kind == "prepare"
        assert LaunchSpec.from_json(launch) == self.target
        self.questions.append((instance, PrepareRequest.from_json(header)))

    async def finish_preparation(self, *told: Any) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.finished.append(told)  # type: ignore[arg-type]

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
    assert world.finished == [("u", "1", "r", None), ("u", "2", "s", failure)]
    assert ("XTRIM", world.bus.keys.reply(LISTENER), "MINID", b"2-1") in world.bus.commands


async def test_an_answer_that_can_t_be_taken_down_does_not_end_the_listening() -> None:
    world = World()
    world.failure = RuntimeError("bug")
    world.reply(b"u 1 r", reply())
    world.reply(b"not a token", b"{")
    world.reply(b"u 2 r", reply())
    await world.listen(1)
    assert world.finished == [("u", "2", "r", None)]
