"""The controllers' side doors, as a worker uses them: finds them, opens one, tries another when one is gone."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

import httpx

from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.side_door import CLOSED, FUNCTION_HEADER, PREFIX, TOKEN_HEADER
from worker.endpoints.request import Forward

log = logging.getLogger(__name__)

#: How long what Redis said of the doors is believed. A door that has closed shows by itself; a new one may wait.
_BELIEVED_S: Final = 5.0
_CONNECT_S: Final = 2.0
#: How long a request waits for a controller when none can be reached: as long as one takes to start again.
_PATIENCE_S: Final = 8.0
_PAUSE_S: Final = 0.25
#: Longer than the longest function and its cold start: it is the caller, or the caller's own end, that ends a call.
_ANSWER_S: Final = 1000.0
#: A controller that takes no further byte for so long has stopped.
_WRITE_S: Final = 60.0
#: Below the time after which the doors close idle connections, so that no request meets one that is being closed.
_IDLE_S: Final = 15.0
_MAX_IDLE: Final = 32


class DoorsClosedError(Exception):
    """The request has not been answered: no controller could be reached, or the connection to it broke."""


class DoorDirectory(Protocol):
    """The one operation of the bus that is needed here."""

    async def doors(self, *, retry_s: float = 1.0) -> tuple[list[str], str]:
        """Return the addresses of the side doors, and the cell's token. Raises what the bus raises."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    addresses: tuple[str, ...]
    token: str
    until_s: float


class Doors:
    """Passes requests on to live controllers. One per worker; used in one event loop."""

    def __init__(
        self,
        directory: DoorDirectory,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """`transport` replaces the network, for tests."""
        self._directory = directory
        self._patience_s = patience_s
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_MAX_IDLE, keepalive_expiry=_IDLE_S)
        self._transport = transport or httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        self._known = _Known((), "", 0.0)
        self._asking: asyncio.Task[_Known] | None = None

    async def send(self, request: Forward, function_arn: str, body: AsyncIterator[bytes] | None) -> httpx.Response:
        """Pass a request on in the name of a function; return the answer, whose body is read and closed by the caller.

        Tries one controller after the other for as long as none has taken the connection, and for some seconds again;
        what may have begun to arrive is never sent twice. Raises DoorsClosedError.
        """
        deadline_s = asyncio.get_running_loop().time() + self._patience_s
        response = await self._try_all(await self._doors(is_fresh=False), request, function_arn, body)
        while response is None:
            response = await self._try_all(await self._doors(is_fresh=True), request, function_arn, body)
            if response is None:
                if asyncio.get_running_loop().time() >= deadline_s:
                    raise DoorsClosedError("no controller can be reached")
                await asyncio.sleep(_PAUSE_S)
        return response

    async def close(self) -> None:
        """Close all connections."""
        if self._asking is not None:
            self._asking.cancel()
        await self._transport.aclose()

    async def _try_all(
        self, known: _Known, request: Forward, function_arn: str, body: AsyncIterator[bytes] | None
    ) -> httpx.Response | None:
        for address in random.sample(known.addresses, len(known.addresses)):
            try:
                return await self._send(address, known.token, request, function_arn, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self._pass_by(address, error)
        return None

    async def _send(
        self, address: str, token: str, request: Forward, function_arn: str, body: AsyncIterator[bytes] | None
    ) -> httpx.Response:
        timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S, write=_WRITE_S, pool=None)
        asked = httpx.Request(
            request.method,
            f"{address}{PREFIX}{request.target}",
            headers=[
                *request.headers,
                (b"accept-encoding", b"identity"),
                (TOKEN_HEADER.encode(), token.encode()),
                (FUNCTION_HEADER.encode(), function_arn.encode()),
            ],
            content=body,
            extensions={"timeout": timeout.as_dict()},
        )
        try:
            response = await self._transport.handle_async_request(asked)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.TransportError as error:
            raise DoorsClosedError(f"{address} did not answer: {type(error).__name__} {error}") from error
        if response.status_code == CLOSED:
            # Redis has lost the token that we know, and the cell has another one.
            await response.aclose()
            self._known = _Known((), "", 0.0)
            raise DoorsClosedError(f"{address} does not take our token for the cell's")
        return response

    def _pass_by(self, address: str, error: Exception) -> None:
        """Leave out a controller that takes no connection until Redis is asked again."""
        if address in self._known.addresses:
            log.info("a controller can't be reached", extra={"address": address, "error": str(error)})
            left = tuple(each for each in self._known.addresses if each != address)
            self._known = replace(self._known, addresses=left)

    async def _doors(self, *, is_fresh: bool) -> _Known:
        if not is_fresh and asyncio.get_running_loop().time() < self._known.until_s:
            return self._known
        if self._asking is None:
            # One question for all that wait, which goes on when one of them is cancelled.
            self._asking = asyncio.create_task(self._ask(), name="doors")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> _Known:
        try:
            addresses, token = await self._directory.doors()
            until_s = asyncio.get_running_loop().time() + _BELIEVED_S
            self._known = _Known(tuple(addresses), token, until_s)
        except (RedisUnavailableError, RedisReplyError) as error:
            # Controllers do not go away with Redis: the addresses may be good, and asking again is due at once.
            log.warning("the controllers' side doors can't be looked up", extra={"error": str(error)})
        finally:
            self._asking = None
        return self._known
