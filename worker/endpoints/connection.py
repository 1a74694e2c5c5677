"""One connection of a function to the Lambda API: bytes to requests that are passed on, and answers back to bytes.

Whoever is at the other end runs code of the function. Nothing of what arrives is believed, and nothing of it is
unbounded: heads, bodies (which pass through and are never held whole), answers that nobody reads, and the worker's
time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

import httptools
import httpx

from worker.endpoints.body import Body
from worker.endpoints.doors import DoorsClosedError
from worker.endpoints.request import (
    TOO_LARGE,
    UNAVAILABLE,
    Forward,
    Header,
    Refusal,
    answer_head,
    answer_headers,
    judge,
    refusal_answer,
)
from worker.time_share import TimeShare, piece_cost_s

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 65_536
MAX_HEADERS: Final = 128
#: Lambda's largest request, as the controller counts it.
MAX_BODY_BYTES: Final = 70 * 1024 * 1024
#: What a request costs the worker, beside its pieces; generously.
_REQUEST_COST_S: Final = 0.002
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_REQUEST: Final = Refusal(status=400, code="BadRequestException", message="The request is no HTTP/1.1 request.")


class Sender(Protocol):
    """Passes requests on: `Doors`."""

    async def send(self, request: Forward, function_arn: str, body: AsyncIterator[bytes] | None) -> httpx.Response:
        """Return the answer, to be closed by the caller. Raises DoorsClosedError."""
        ...


class _Parser(Protocol):
    """The part of httptools.HttpRequestParser that is used here."""

    def feed_data(self, data: bytes) -> None: ...

    def get_method(self) -> bytes: ...

    def get_http_version(self) -> str: ...

    def should_keep_alive(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Callers:
    """What the connections of one sandbox share."""

    sender: Sender
    #: In whose name all their requests are made.
    function_arn: str
    loop: asyncio.AbstractEventLoop
    open: set[FunctionConnection] = field(default_factory=set)
    share: TimeShare = field(init=False)

    def __post_init__(self) -> None:
        self.share = TimeShare(self.loop, self._update_all)

    def close(self) -> None:
        """Drop all connections, with what they wait for."""
        self.share.close()
        for connection in tuple(self.open):
            connection.abort()

    def _update_all(self) -> None:
        for connection in tuple(self.open):
            connection.update_reading()


class FunctionConnection(asyncio.Protocol):
    """Serves one connection, one request at a time."""

    def __init__(self, callers: Callers, on_end: Callable[[], None]) -> None:
        """`on_end` is called when the connection is gone."""
        self._callers = callers
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._parser = cast(_Parser, httptools.HttpRequestParser(self))
        self._body: Body | None = None  # of the request under way
        #: What came behind a request before its answer had ended.
        self._early = b""
        #: Why the connection is about to end.
        self._last_words = _BAD_REQUEST
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._body_bytes = 0
        self._has_head = False
        self._keep_alive = True

    def abort(self) -> None:
        """Drop the connection, now, and with it what the function waits for."""
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    def update_reading(self) -> None:
        """Read, or leave what arrives where it is. Idempotent."""
        if self._transport is None or self._transport.is_closing():
            return
        is_full = self._body is not None and self._body.is_full
        if is_full or self._early or self._callers.share.is_held or not self._writable.is_set():
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast(asyncio.Transport, transport)
        self._callers.open.add(self)
        self.update_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what the function no longer waits for."""
        self._transport = None
        self._callers.open.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()
        self._on_end()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the `on_…` methods."""
        if self._body is not None and self._body.is_whole:
            # Whoever has read an answer to its end may ask again before the worker has done with it.
            self._early += data
            self.update_reading()
            return
        began_s = time.thread_time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self._hang_up()
        else:
            self.update_reading()
        self._callers.share.charge(time.thread_time() - began_s + piece_cost_s(len(data)))

    def pause_writing(self) -> None:
        """The function doesn't read its answer: neither does the worker, nor take further requests."""
        self._writable.clear()
        self.update_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()
        self.update_reading()

    # httptools

    def on_message_begin(self) -> None:
        """A request begins; none may before the one before is answered."""
        if self._body is not None:
            raise ValueError("a request follows one that waits")
        self._begin()

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._count_head(len(url))
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect the headers; what comes behind the body is of no use."""
        self._count_head(len(name) + len(value) + 4)
        if not self._has_head:
            self._headers.append((name.lower(), value))
            if len(self._headers) > MAX_HEADERS:
                raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        """Decide about the request, and begin to pass it on."""
        self._has_head = True
        if self._parser.get_http_version() != "1.1":
            raise ValueError("not HTTP/1.1")
        decision = judge(self._parser.get_method(), self._target, self._headers)
        self._callers.share.charge(_REQUEST_COST_S)
        self._keep_alive = self._parser.should_keep_alive()
        if any(name == b"expect" for name, _ in self._headers):
            if isinstance(decision, Refusal):
                # It will not come, or not be read.
                self._last_words = decision
                raise ValueError(decision.message)
            self._write(_CONTINUE)
        self._body = Body(self.update_reading)
        self._task = self._callers.loop.create_task(self._serve(decision, self._body))

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._last_words = TOO_LARGE
            raise ValueError("the body is too large")
        if self._body is not None:
            self._body.add(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self._body is not None:
            self._body.end()

    # one request

    async def _serve(self, decision: Forward | Refusal, body: Body) -> None:
        try:
            if isinstance(decision, Refusal):
                await self._refuse(decision, body)
            else:
                await self._pass_on(decision, body)
        except (TimeoutError, httpx.TransportError) as error:
            # It stood still, or its answer ended half-way: that can be told only by an end of the connection.
            log.debug("a function's request ended early", extra={"error": str(error)})
            self.abort()
        except Exception:
            log.exception("a function's request to the Lambda API failed")
            self.abort()
        finally:
            self._body = None
            self._task = None
            self._go_on()

    async def _pass_on(self, request: Forward, body: Body) -> None:
        content = body.pieces() if request.has_body else None
        try:
            response = await self._callers.sender.send(request, self._callers.function_arn, content)
        except DoorsClosedError as error:
            log.warning(
                "a function could not reach the Lambda API",
                extra={"function_arn": self._callers.function_arn, "error": str(error)},
            )
            await self._refuse(UNAVAILABLE, body)
            return
        try:
            # The controller may have answered before it has read all.
            body.drop()
            await body.whole()
            await self._answer(response)
        finally:
            await response.aclose()
        self._end_answer()

    async def _answer(self, response: httpx.Response) -> None:
        headers = answer_headers(response.headers.raw)
        length = response.headers.get("content-length")
        has_body = response.status_code not in (204, 304)
        is_chunked = has_body and length is None
        if is_chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        elif has_body and length is not None:
            headers.append((b"content-length", length.encode()))
        if not self._keep_alive:
            headers.append((b"connection", b"close"))
        self._write(answer_head(response.status_code, headers))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        async for piece in response.stream:
            if piece and has_body:
                self._callers.share.charge(piece_cost_s(len(piece)))
                self._write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
                await self._writable.wait()
        if is_chunked:
            self._write(b"0\r\n\r\n")

    async def _refuse(self, refusal: Refusal, body: Body) -> None:
        body.drop()
        # Answered only now: unread bytes of the body would be taken for the next request, or lose the answer.
        await body.whole()
        self._write(refusal_answer(refusal, keep_alive=self._keep_alive))
        self._end_answer()

    def _end_answer(self) -> None:
        if self._transport is not None and not self._keep_alive:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _go_on(self) -> None:
        early, self._early = self._early, b""
        if early and self._transport is not None and not self._transport.is_closing():
            self.data_received(early)
        self.update_reading()

    def _hang_up(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._write(refusal_answer(self._last_words, keep_alive=False))
        if self._transport is not None:
            self._transport.close()

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the request's head is too long")
