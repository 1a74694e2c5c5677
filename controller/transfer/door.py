"""The side door: the Lambda API for functions, by way of their workers, on the transfer server's address."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import DOOR_MS, Operations
from contract.side_door import CLOSED, FUNCTION_HEADER, OWN_HEADERS, PREFIX, TOKEN_HEADER, api_target
from controller.api.identity import CALLING_FUNCTION, Caller

log = logging.getLogger(__name__)

#: Several times within the time for which a door is announced: it must not vanish because Redis was slow once.
_ANNOUNCE_S: Final = DOOR_MS / 1000 / 4
_FUNCTION = re.compile(r"arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):function:[A-Za-z0-9_-]+")


class SideDoor:
    """Lets workers into the API in the name of their functions; nobody else into anything.

    What it lets in has exactly the account that the worker vouches for: the API reads it from the scope, which no
    request can write to.
    """

    def __init__(self, api: ASGIApp) -> None:
        self._api = api
        #: Empty: closed to everybody.
        self.token = ""
        self._passing = 0
        self._empty = asyncio.Event()
        self._empty.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request below `PREFIX`."""
        headers = Headers(scope=scope)
        if not self._is_key(headers.getlist(TOKEN_HEADER)):
            await PlainTextResponse("This is not the cell's token.", CLOSED)(scope, receive, send)
            return
        function = _calling_function(headers.getlist(FUNCTION_HEADER))
        target = api_target(scope["raw_path"].removeprefix(PREFIX.encode()))
        if function is None or target is None:
            await PlainTextResponse("No worker asks for this.", 400)(scope, receive, send)
            return
        log.debug("a function calls", extra={"function_arn": headers[FUNCTION_HEADER], "path": scope["path"]})
        self._passing += 1
        self._empty.clear()
        try:
            await self._api(_inner_scope(scope, function), receive, send)
        finally:
            self._passing -= 1
            if not self._passing:
                self._empty.set()

    async def drain(self, limit_s: float) -> None:
        """Wait until nobody is inside any more, `limit_s` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._empty.wait()

    def _is_key(self, tokens: list[str]) -> bool:
        given = tokens[0] if len(tokens) == 1 else ""
        return bool(self.token) and hmac.compare_digest(given.encode(), self.token.encode())


@asynccontextmanager
async def announced(operations: Operations, door: SideDoor, address: str, *, drain_s: float) -> AsyncIterator[None]:
    """Tell the cell's workers of the door, and keep its token the cell's, while the context lasts.

    On leaving, nobody is sent to it any more, and whoever is inside has `drain_s` to finish.
    """
    # The cell's, if it has none yet.
    proposed = secrets.token_urlsafe(32)
    task = asyncio.create_task(_announce(operations, door, address, proposed), name="announce-door")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Without Redis the announcement runs out by itself.
        with contextlib.suppress(RedisUnavailableError, RedisReplyError):
            await operations.announce(address, proposed, is_open=False, retry_s=1.0)
        await door.drain(drain_s)


async def _announce(operations: Operations, door: SideDoor, address: str, proposed: str) -> None:
    while True:
        try:
            door.token = await operations.announce(address, proposed)
        except (RedisUnavailableError, RedisReplyError) as error:
            # The token stays: workers that know it go on.
            log.warning("the side door can't be announced", extra={"error": str(error)})
        await asyncio.sleep(_ANNOUNCE_S)


def _calling_function(arns: list[str]) -> Caller | None:
    """Return whose function it is, None for what is no function's ARN."""
    found = _FUNCTION.fullmatch(arns[0]) if len(arns) == 1 else None
    return Caller(account=found["account"], region=found["region"]) if found else None


def _inner_scope(scope: Scope, function: Caller) -> Scope:
    """Return the request as the API is to see it: its path, its own state, and no word between worker and door."""
    headers = [
        (name, value) for name, value in scope["headers"] if name != b"host" and not name.startswith(OWN_HEADERS)
    ]
    return {
        **scope,
        "path": scope["path"].removeprefix(PREFIX),
        "raw_path": scope["raw_path"].removeprefix(PREFIX.encode()),
        "root_path": "",
        "headers": [*headers, (b"host", b"localhost")],
        "state": {CALLING_FUNCTION: function},
    }
