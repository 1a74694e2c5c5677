"""A warm invocation costs two Redis scripts and no SQL (docs/SPECIFICATION.md). Whoever adds one must fail here."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
import redis
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from contract.bus.redis_bus import load_scripts
from controller.app import create_app
from controller.process import open_api
from controller.settings import ControllerSettings
from tests.platform_under_test import Platform

pytestmark = pytest.mark.docker

INVOCATIONS = 100
#: Of each kind of heartbeats, leases, claims and connections of all processes in the seconds that this takes. What
#: comes with an invocation comes more often than that.
BACKGROUND_LIMIT = INVOCATIONS // 2
CODE = "def handler(event, context):\n    return event\n"


async def test_a_warm_invocation_runs_two_scripts_and_no_sql(platform: Platform) -> None:
    name = platform.create(CODE)
    with platform.redis() as server:
        async with controller_beside(platform, server) as client:
            # The first finds the function, the second proves that it is warm.
            for _ in range(2):
                await invoke(client, name)
            with counted_sql() as statements, counted_commands(server) as commands:
                for _ in range(INVOCATIONS):
                    await invoke(client, name)
    platform.client().delete_function(FunctionName=name)

    assert statements == []
    assert (commands["dispatch"], commands["complete"]) == (INVOCATIONS, INVOCATIONS)
    others = {what: count for what, count in commands.items() if what not in {"dispatch", "complete", "XREAD"}}
    assert max(others.values(), default=0) < BACKGROUND_LIMIT, others
    # The worker's inbox and the controller's replies: at most one wake-up each.
    assert commands["XREAD"] <= 2 * INVOCATIONS + BACKGROUND_LIMIT


@asynccontextmanager
async def controller_beside(platform: Platform, server: redis.Redis) -> AsyncIterator[httpx.AsyncClient]:
    """One more controller of the platform, in this process, so that its SQL can be counted."""
    settings = ControllerSettings(
        cell=platform.cell,
        redis_url=f"unix://{server.connection_pool.connection_kwargs['path']}",
        state_dir=platform.state_dir,
    )
    async with open_api(settings) as services:
        app = create_app(services)
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client,
        ):
            yield client


async def invoke(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post(f"/2015-03-31/functions/{name}/invocations", content=b'{"a": 1}')
    assert (response.status_code, response.content) == (200, b'{"a": 1}'), response.text


@contextmanager
def counted_sql() -> Iterator[list[str]]:
    """Every statement that this process sends to a database."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    listener: Callable[..., None] = note
    sa.event.listen(Engine, "before_cursor_execute", listener)
    try:
        yield statements
    finally:
        sa.event.remove(Engine, "before_cursor_execute", listener)


@contextmanager
def counted_commands(server: redis.Redis) -> Iterator[Counter[str]]:
    """Every command that any process sends to the server: scripts by their names, not what is called within them."""
    names = {hashlib.sha1(text).hexdigest(): name for name, text in load_scripts().items()}
    counts: Counter[str] = Counter()
    end = f"end-{id(counts)}"
    with server.monitor() as monitor:
        yield counts
        server.echo(end)
        while True:
            seen = monitor.next_command()
            if end in seen["command"]:
                return
            if seen["client_type"] != "lua":
                words = seen["command"].split(maxsplit=2)
                counts[names.get(words[1], words[1]) if words[0].upper() == "EVALSHA" else words[0].upper()] += 1
