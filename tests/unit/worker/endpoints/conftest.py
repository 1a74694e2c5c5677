from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Workers run uvloop, whose transports differ from asyncio's in what a protocol sees first."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
