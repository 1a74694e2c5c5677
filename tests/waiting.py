"""Waiting for something to become true, instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def wait_until(predicate: Callable[[], bool | Awaitable[bool]], description: str, *, within_s: float = 5) -> None:
    """Poll until the predicate holds; fail with the description when it does not in time."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s:g} s: {description}"
        await asyncio.sleep(0.002)
