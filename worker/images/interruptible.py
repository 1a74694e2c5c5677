"""Cancellation for long blocking calls on the engine."""

import threading
from collections.abc import Callable
from typing import TypeVar

from worker.engine import DockerEngine

T = TypeVar("T")


async def interruptible(engine: DockerEngine, fn: Callable[..., T], *args: object) -> T:
    """Call `fn(*args, stop)` in a thread of the engine's; cancelling sets `stop`, which `fn` looks at."""
    stop = threading.Event()
    try:
        return await engine.call(fn, *args, stop)
    finally:
        stop.set()
