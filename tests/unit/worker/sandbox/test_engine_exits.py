from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from worker.sandbox import exits
from worker.sandbox.exits import EngineExits


def event(action: str, container: str, **attributes: str) -> dict[str, Any]:
    return {"Action": action, "Actor": {"ID": container, "Attributes": attributes}}


class Stream:
    """Gives its events; then breaks, or stays open until it is closed."""

    def __init__(self, *events: dict[str, Any], breaks: bool = False) -> None:
        self._events = events
        self._breaks = breaks
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self._events
        if self._breaks:
            raise ConnectionError("the engine went away")
        self._closed.wait(10)

    def close(self) -> None:
        self._closed.set()


async def test_subscription_survives_a_lost_connection_and_an_unreachable_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exits, "_RETRY_S", 0.001)
    answers: list[Any] = [
        Stream(event("die", "a", exitCode="3"), breaks=True),
        ConnectionError("no engine"),
        Stream(event("oom", "b"), event("die", "b", exitCode="137")),
    ]
    seen: list[object] = []
    done = asyncio.Event()

    def events(**_: Any) -> Stream:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def on_exit(container: str, code: int) -> None:
        seen.append((container, code))
        if container == "b":
            done.set()

    engine: Any = SimpleNamespace(client=SimpleNamespace(api=SimpleNamespace(events=events)))
    watched = EngineExits(engine, ["lambdock=test"], on_exit, seen.append, lambda: seen.append("subscribed"))

    await watched.ready(5)
    async with asyncio.timeout(5):
        await done.wait()
    watched.close()
    watched.close()

    assert seen == ["subscribed", ("a", 3), "subscribed", "b", ("b", 137)]
