"""One connection of a runtime: bytes to the exchange's methods, and its answers to bytes.

Whoever is at the other end runs code of the function, so that nothing of what arrives is believed or unbounded: heads,
bodies, what is buffered for all connections together, answers that nobody reads, and the worker's time.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import socket
import time
from dataclasses import dataclass, field
from typing import Protocol, cast

import httptools

from worker.runtime_api import rendering
from worker.runtime_api.exchange import Exchange, WrongRequestIdError
from worker.runtime_api.fatal_errors import MAX_RESPONSE_BYTES, FatalErrorType, response_too_large_error
from worker.runtime_api.routes import Endpoint, resolve
from worker.runtime_api.state import IllegalStepError, RuntimeStep
from worker.runtime_api.types import ReportedError, ResponseTooLarge, RuntimeEvent, RuntimeOutcome, RuntimeResponse
from worker.time_share import TimeShare

#: A head, or what else arrives without adding to a body. Error reports may come in headers of 32 KB or so.
MAX_HEAD_BYTES = 262_144
#: All connections of one environment together may make us hold so much of unfinished bodies.
MAX_BUFFERED_BYTES = 4 * MAX_RESPONSE_BYTES
#: What is read of a body that is already known to be refused, so that its sender sees the answer.
MAX_DISCARDED_BYTES = 268_435_456
#: AWS's own clients send about ten; each costs us a call.
MAX_HEADERS = 128
#: Requests that may arrive at once on a connection. Nobody has a reason to send the next before the answer.
MAX_PIPELINED = 16
#: From this size on, a payload isn't copied to be sent in one piece with its head.
_SEPARATE_PAYLOAD_BYTES = 65_536

_STEPS = {
    Endpoint.RESPONSE: RuntimeStep.RESPONSE,
    Endpoint.ERROR: RuntimeStep.ERROR,
    Endpoint.INIT_ERROR: RuntimeStep.INIT_ERROR,
}
_ERROR_TYPE = b"lambda-runtime-function-error-type"
_ERROR_BODY = b"lambda-runtime-function-error-body"
_KEPT_HEADERS = frozenset((b"content-type", b"expect", _ERROR_TYPE, _ERROR_BODY))


class _Parser(Protocol):
    """The part of httptools.HttpRequestParser that is used here."""

    def feed_data(self, data: bytes) -> None: ...

    def get_method(self) -> bytes: ...

    def should_keep_alive(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Connections:
    """What the connections of one environment share."""

    loop: asyncio.AbstractEventLoop
    open: set[RuntimeProtocol] = field(default_factory=set)
    buffered_bytes: int = 0
    #: Set while there are none.
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    #: What they may take of the worker's time; while it is held, nothing is read from any of them.
    share: TimeShare = field(init=False)

    def __post_init__(self) -> None:
        self.share = TimeShare(self.loop, self._update_all)

    def _update_all(self) -> None:
        for connection in tuple(self.open):
            connection.update_reading()


class RuntimeProtocol(asyncio.Protocol):
    """Serves one connection. Answers in order: while `next` waits, nothing more may be asked on its connection."""

    def __init__(self, exchange: Exchange, connections: Connections, max_connections: int) -> None:
        self._exchange = exchange
        self._connections = connections
        self._max_connections = max_connections
        self._transport: asyncio.Transport | None = None
        self._parser = cast(_Parser, httptools.HttpRequestParser(self))
        self._waiting = False
        self._idle_bytes = 0  # fed since the parser last got anywhere
        self._advanced = False
        self._pipelined = 0
        self._is_unread = False  # our answers are
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._head_bytes = 0
        # Not a list of the pieces, which may be of one byte each.
        self._body = bytearray()
        self._body_bytes = 0
        self._endpoint = Endpoint.UNKNOWN_PATH
        self._request_id = ""
        self._refusal: bytes | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept, or hang up when there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connections.open) >= self._max_connections:
            self._transport.abort()
            return
        self._connections.open.add(self)
        self._connections.gone.clear()
        accepted = transport.get_extra_info("socket")
        if accepted is not None and accepted.family in (socket.AF_INET, socket.AF_INET6):
            # Not left to the event loop, which does so only for sockets that were made with an explicit protocol.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.update_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what the connection waited for, and what it had sent of a body."""
        if self._refusal is rendering.TOO_LARGE:
            self._finish_too_large()
        self._transport = None
        self._connections.open.discard(self)
        if not self._connections.open:
            self._connections.gone.set()
        self._release_body()
        self._exchange.forget(self)

    def eof_received(self) -> bool:
        """The runtime has hung up: at once, not when the transport comes to it, stop delivering to it."""
        self._exchange.forget(self)
        return False

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the `on_…` methods."""
        if self._waiting:
            # Not one byte may follow a `next` before its answer; it would be answered out of turn.
            self._hang_up()
            return
        began_s = time.thread_time()
        self._feed(data)
        self._connections.share.charge(time.thread_time() - began_s)

    def _feed(self, data: bytes) -> None:
        self._advanced = False
        self._pipelined = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._hang_up(rendering.BAD_REQUEST)
        except (httptools.HttpParserError, ValueError):
            self._hang_up(rendering.BAD_REQUEST)
        else:
            self._idle_bytes = 0 if self._advanced else self._idle_bytes + len(data)
            if self._idle_bytes > MAX_HEAD_BYTES:
                self._hang_up(rendering.BAD_REQUEST)

    def pause_writing(self) -> None:
        """Read no further requests of a runtime that doesn't read our answers."""
        self._is_unread = True
        self.update_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_unread = False
        self.update_reading()

    def update_reading(self) -> None:
        """Read, or leave what arrives where it is. Idempotent."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_unread or self._connections.share.is_held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # httptools

    def on_message_begin(self) -> None:
        """A request begins; none may after a `next` that has no answer yet."""
        if self._waiting:
            raise ValueError("a request follows one that waits")
        self._pipelined += 1
        if self._pipelined > MAX_PIPELINED:
            raise ValueError("too many requests at once")
        self._begin()

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few headers, and trailers, that matter."""
        self._header_count += 1
        if self._header_count > MAX_HEADERS:
            raise ValueError("too many headers")
        self._count_head(len(name) + len(value) + 4)
        lower = name.lower()
        if lower in _KEPT_HEADERS:
            self._headers[lower] = value

    def on_headers_complete(self) -> None:
        """Find the endpoint, and decide whether the body is wanted."""
        self._advanced = True
        self._endpoint, self._request_id = resolve(self._parser.get_method(), self._target)
        step = _STEPS.get(self._endpoint)
        if step is not None:
            self._refusal = self._why_not(step)
        if b"expect" in self._headers and self._transport is not None:
            self._transport.write(rendering.CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Hold the body while it is wanted, and only count it from where it is not."""
        self._advanced = True
        self._body_bytes += len(body)
        if self._body_bytes > MAX_DISCARDED_BYTES:
            raise ValueError("the body has no end")
        if self._refusal is not None or self._endpoint not in _STEPS:
            return
        if self._body_bytes > MAX_RESPONSE_BYTES:
            self._release_body()
            self._refusal = rendering.TOO_LARGE
        elif self._connections.buffered_bytes + len(body) > MAX_BUFFERED_BYTES:
            self._release_body()
            self._refusal = rendering.TOO_MUCH_AT_ONCE
        else:
            self._connections.buffered_bytes += len(body)
            self._body += body

    def on_message_complete(self) -> None:
        """Answer, or let `next` wait."""
        self._advanced = True
        match self._endpoint:
            case Endpoint.NEXT:
                self._ask_next()
            case Endpoint.UNKNOWN_PATH:
                self._answer(rendering.NOT_FOUND)
            case Endpoint.WRONG_METHOD:
                self._answer(rendering.WRONG_METHOD)
            case _:
                self._answer(self._finish())
        self._release_body()

    # NextWaiter

    def deliver(self, event: RuntimeEvent) -> None:
        """Answer the waiting `next` with the event, in one write."""
        self._waiting = False
        if self._transport is None:
            return
        head = rendering.event_head(event)
        if len(event.payload) < _SEPARATE_PAYLOAD_BYTES:
            self._transport.write(head + event.payload)
        else:
            self._transport.writelines((head, event.payload))
        if not self._parser.should_keep_alive():
            self._transport.close()

    def supersede(self) -> None:
        """Answer the waiting `next` that another one has replaced it."""
        self._waiting = False
        self._answer(rendering.SUPERSEDED)

    def abort(self) -> None:
        """Drop the connection, now."""
        if self._transport is not None:
            self._transport.abort()

    def _ask_next(self) -> None:
        self._waiting = True
        try:
            self._exchange.ask_next(self)
        except IllegalStepError as error:
            self._waiting = False
            self._answer(rendering.illegal_step(error))

    def _finish(self) -> bytes:
        step = _STEPS[self._endpoint]
        if self._refusal is rendering.TOO_LARGE:
            return self._finish_too_large()
        if self._refusal is not None:
            return self._refusal
        try:
            if step is RuntimeStep.INIT_ERROR:
                self._exchange.fail_init(ReportedError(body=bytes(self._body), error_type=self._error_type()))
            else:
                self._exchange.finish(step, self._request_id, self._outcome(step))
        except WrongRequestIdError:
            return rendering.INVALID_REQUEST_ID
        except IllegalStepError as error:
            return rendering.illegal_step(error)
        return rendering.ACCEPTED

    def _finish_too_large(self) -> bytes:
        """The function has answered, if not what it wanted: also when it hung up on the way."""
        self._refusal = None
        step = _STEPS[self._endpoint]
        try:
            if step is RuntimeStep.INIT_ERROR:
                too_large = FatalErrorType.FUNCTION_RESPONSE_TOO_LARGE
                self._exchange.fail_init(ReportedError(body=response_too_large_error(), error_type=too_large))
            else:
                self._exchange.finish(step, self._request_id, ResponseTooLarge(size_bytes=self._body_bytes))
        except WrongRequestIdError:
            return rendering.INVALID_REQUEST_ID
        except IllegalStepError as error:
            return rendering.illegal_step(error)
        return rendering.TOO_LARGE

    def _outcome(self, step: RuntimeStep) -> RuntimeOutcome:
        body = bytes(self._body)
        error_type = self._error_type()
        if step is RuntimeStep.ERROR:
            return ReportedError(body=body, error_type=error_type)
        if error_type:
            # A stream that failed half-way says so in its trailers.
            return ReportedError(body=_decoded(self._headers.get(_ERROR_BODY, b"")), error_type=error_type)
        return RuntimeResponse(body=body, content_type=_text(self._headers.get(b"content-type", b"")))

    def _error_type(self) -> str:
        return _text(self._headers.get(_ERROR_TYPE, b""))

    def _why_not(self, step: RuntimeStep) -> bytes | None:
        try:
            self._exchange.check(step, self._request_id)
        except WrongRequestIdError:
            return rendering.INVALID_REQUEST_ID
        except IllegalStepError as error:
            return rendering.illegal_step(error)
        return None

    def _answer(self, answer: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(answer)
        if not self._parser.should_keep_alive():
            self._transport.close()

    def _hang_up(self, answer: bytes = b"") -> None:
        self._exchange.forget(self)
        self._waiting = False
        if self._transport is not None:
            if answer:
                self._transport.write(answer)
            self._transport.close()

    def _release_body(self) -> None:
        self._connections.buffered_bytes -= len(self._body)
        self._body = bytearray()

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the request's head is too long")


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _decoded(value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return value
