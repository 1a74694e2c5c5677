"""Connections from a sandbox to one of the operator's endpoints: bytes through the worker, both ways."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from worker.endpoints.setting import Target
from worker.time_share import TimeShare, piece_cost_s

log = logging.getLogger(__name__)

_CONNECT_S: Final = 10.0


class Reachability:
    """Logs when an endpoint stops or begins to answer: once, not for each connection of each function."""

    def __init__(self) -> None:
        self._failing: set[Target] = set()

    def failed(self, target: Target, error: Exception) -> None:
        """A connection could not be made."""
        if target not in self._failing:
            self._failing.add(target)
            log.warning(
                "an endpoint of LAMBDOCK_FUNCTION_ENDPOINTS can't be reached by this worker",
                extra={"host": target.host, "port": target.port, "error": str(error) or type(error).__name__},
            )

    def worked(self, target: Target) -> None:
        """A connection has been made."""
        if target in self._failing:
            self._failing.discard(target)
            log.info("an endpoint is reached again", extra={"host": target.host, "port": target.port})


@dataclass(slots=True, eq=False)
class Pipes:
    """What the pipes of one sandbox share."""

    loop: asyncio.AbstractEventLoop
    reachability: Reachability
    open: set[Pipe] = field(default_factory=set)
    share: TimeShare = field(init=False)

    def __post_init__(self) -> None:
        self.share = TimeShare(self.loop, self._update_all)

    def close(self) -> None:
        """Drop all of them."""
        self.share.close()
        for pipe in tuple(self.open):
            pipe.abort()

    def _update_all(self) -> None:
        for pipe in tuple(self.open):
            pipe.update()


class Pipe:
    """One connection of a function and its continuation to `target`.

    It ends when either side breaks, and when both have said that they send no more.
    """

    def __init__(self, pipes: Pipes, target: Target, on_end: Callable[[], None]) -> None:
        self._pipes = pipes
        self._target = target
        self._on_end = on_end
        self._connecting: asyncio.Task[None] | None = None
        self.is_over = False
        #: What the function said before the endpoint was there; reading can't be paused before a first piece has come.
        self._early = bytearray()
        self.function = End(self)
        self.endpoint = End(self)

    def begin(self) -> None:
        """The function has connected: connect to the endpoint."""
        self._pipes.open.add(self)
        self._connecting = self._pipes.loop.create_task(self._connect())

    def abort(self) -> None:
        """Break both connections. Idempotent."""
        if self.is_over:
            return
        self.is_over = True
        self._pipes.open.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        for end in (self.function, self.endpoint):
            end.abort()
        self._on_end()

    def moved(self, source: End, data: bytes) -> None:
        """Pass on what one end has sent."""
        if self.endpoint.is_connected:
            (self.endpoint if source is self.function else self.function).write(data)
        else:
            self._early += data
            self.update()
        self._pipes.share.charge(piece_cost_s(len(data)))

    def ended(self, source: End) -> None:
        """One end sends no more."""
        if self.endpoint.is_connected:
            (self.endpoint if source is self.function else self.function).write_eof()
        if self.function.has_ended and self.endpoint.has_ended:
            # Both have said all; what is on its way arrives.
            for end in (self.function, self.endpoint):
                end.close()

    def joined(self) -> None:
        """The endpoint is there: pass on what has waited for it."""
        if self._early:
            self.endpoint.write(bytes(self._early))
            self._early.clear()
        if self.function.has_ended:
            self.endpoint.write_eof()
        self.update()

    def lost(self, error: Exception | None) -> None:
        """One connection is gone: what one side breaks is broken for the other."""
        is_whole = error is None and self.function.has_ended and self.endpoint.has_ended
        if not is_whole or not (self.function.is_connected or self.endpoint.is_connected):
            self.abort()

    def update(self) -> None:
        """Read from each end as long as the other one takes it."""
        is_held = self._pipes.share.is_held or not self.endpoint.is_connected
        self.function.read(not is_held and self.endpoint.is_writable)
        self.endpoint.read(not is_held and self.function.is_writable)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await self._pipes.loop.create_connection(lambda: self.endpoint, self._target.host, self._target.port)
        except (OSError, TimeoutError) as error:
            self._pipes.reachability.failed(self._target, error)
            self.abort()
        else:
            self._pipes.reachability.worked(self._target)
        finally:
            self._connecting = None


class End(asyncio.Protocol):
    """One of a pipe's two connections."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._transport: asyncio.Transport | None = None
        self.is_connected = False
        self.is_writable = True
        self.has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self.is_connected = True
        if self._pipe.is_over:
            self._transport.abort()
            return
        if self is self._pipe.function:
            self._pipe.begin()
            self._pipe.update()
        else:
            self._pipe.joined()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the pipe decide about the other one."""
        self._transport = None
        self.is_connected = False
        self._pipe.lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        self._pipe.moved(self, data)

    def eof_received(self) -> bool:
        """Pass on, too, and keep the way back open."""
        self.has_ended = True
        self._pipe.ended(self)
        return True

    def pause_writing(self) -> None:
        """It is slower than the other end."""
        self.is_writable = False
        self._pipe.update()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.is_writable = True
        self._pipe.update()

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        """Send no more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def read(self, is_wanted: bool) -> None:
        """Read, or leave what arrives where it is. Idempotent."""
        if self._transport is None or self._transport.is_closing():
            return
        if is_wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        """End once what has been written is gone."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()
