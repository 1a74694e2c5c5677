from __future__ import annotations

import asyncio
from collections.abc import Callable


async def wait_until(predicate: Callable[[], object], description: str, timeout_s: float = 10.0) -> None:
    """Return when `predicate` holds; fail, naming what was waited for, when it does not in time."""
    try:
        async with asyncio.timeout(timeout_s):
            while not predicate():  # noqa: ASYNC110  # there is no event to wait for
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {description}") from None
