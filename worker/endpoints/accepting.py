"""Takes connections from a sandbox's listener, no more at a time than it may have."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final

from worker.time_share import TimeShare

log = logging.getLogger(__name__)

#: Returns the protocol of a new connection; it is given what to call when that has ended.
Make = Callable[[Callable[[], None]], asyncio.Protocol]

_BURST: Final = 16
_REST_S: Final = 0.5
#: What a connection costs the worker, also one that ends at once: a task, a protocol, mostly a further connection.
_CONNECTION_COST_S = 0.0003


class Acceptor:
    """Makes a protocol for each connection to one of its listeners, which it owns.

    Connections over the limit wait in the kernel's queues, which are bounded too, until one ends; and so do those of
    whoever connects again and again, for its share of the worker's time. Beginning costs a few microseconds, so that
    every sandbox can have one whether or not its function ever connects.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listeners: Sequence[tuple[socket.socket, Make]], *, limit: int
    ) -> None:
        """`limit` holds for the connections to all listeners together."""
        self._loop = loop
        self._listeners = list(listeners)
        self._limit = limit
        self._count = 0
        self._is_open = True
        self._is_listening = False
        #: Nothing can be taken at the moment.
        self._is_resting = False
        self._share = TimeShare(loop, self._update)
        self._tasks: set[asyncio.Task[None]] = set()
        self._update()

    def close(self) -> None:
        """Take no more, and close the listeners. What has been taken is its protocols' to end. Idempotent."""
        self._is_open = False
        self._share.close()
        self._update()
        for task in self._tasks:
            task.cancel()
        for listener, _make in self._listeners:
            listener.close()

    def _update(self) -> None:
        can_take = not self._is_resting and not self._share.is_held
        wanted = self._is_open and can_take and self._count < self._limit
        for listener, make in self._listeners:
            if wanted and not self._is_listening:
                self._loop.add_reader(listener, self._on_connection, listener, make)
            elif self._is_listening and not wanted:
                self._loop.remove_reader(listener)
        self._is_listening = wanted

    def _go_on(self) -> None:
        self._is_resting = False
        self._update()

    def _on_connection(self, listener: socket.socket, make: Make) -> None:
        for _ in range(min(_BURST, self._limit - self._count)):
            try:
                accepted, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError as error:
                # No descriptor is free: the kernel would tell of the same connection again and again.
                log.warning("connections of a sandbox wait", extra={"error": str(error)})
                self._is_resting = True
                self._loop.call_later(_REST_S, self._go_on)
                break
            self._count += 1
            self._share.charge(_CONNECTION_COST_S)
            task = self._loop.create_task(self._attach(accepted, make))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if self._share.is_held:
                break
        self._update()

    async def _attach(self, accepted: socket.socket, make: Make) -> None:
        accepted.setblocking(False)
        has_ended = False

        def ended() -> None:
            nonlocal has_ended
            if not has_ended:
                has_ended = True
                self._count -= 1
                self._update()

        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: make(ended), accepted)
        except BaseException as error:
            accepted.close()
            ended()
            if not isinstance(error, OSError):
                raise
