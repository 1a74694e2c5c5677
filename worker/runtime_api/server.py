"""The Runtime API of one environment, on the socket that listens inside its sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from worker.runtime_api.exchange import Exchange
from worker.runtime_api.protocol import Connections, RuntimeProtocol
from worker.runtime_api.types import ReportedError, RuntimeEvent, RuntimeOutcome

#: A runtime needs one or two; a function that opens more harms nobody but itself.
MAX_CONNECTIONS = 64
_BACKLOG = 16
#: What the kernel holds for a connection that isn't read now (it doubles this); by itself it would go up to 6 MB.
_RECEIVE_BUFFER_BYTES = 131_072
_CLOSE_TIMEOUT_S = 1.0


class RuntimeApiServer:
    """Serves `listener`, which it owns from `start` on. Make it in the event loop that it is used in.

    Order: `start`, then `invoke` and await its outcome, again and again, then `close`. It never watches the sandbox:
    when that exits, call `close`, which cancels what is pending.
    """

    def __init__(self, listener: socket.socket, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._max_connections = max_connections
        self._exchange = Exchange(self._loop)
        self._connections = Connections(self._loop)
        self._server: asyncio.AbstractServer | None = None

    @property
    def ready(self) -> asyncio.Future[None]:
        """Done when the runtime has asked for its first event; cancelled by `close`."""
        return self._exchange.ready

    @property
    def init_error(self) -> asyncio.Future[ReportedError]:
        """Done when the runtime has reported that its initialisation failed; cancelled by `close`."""
        return self._exchange.init_error

    async def start(self) -> None:
        """Begin to serve. Takes well under a millisecond."""
        self._listener.setblocking(False)
        # Inherited by every connection.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._server = await self._loop.create_server(self._connect, sock=self._listener, backlog=_BACKLOG)

    def invoke(self, event: RuntimeEvent) -> asyncio.Future[RuntimeOutcome]:
        """Hand `event` to the runtime as soon as it asks; the future holds its answer.

        It stays pending when the runtime hangs or dies, until cancelled (by its owner or `close`). Raises
        InvocationInProgressError while the runtime has not answered the event before.
        """
        return self._exchange.invoke(event)

    @property
    def is_event_untaken(self) -> bool:
        """Whether the runtime has not asked for the event of the last `invoke` yet; False after `close`."""
        return self._exchange.is_event_untaken

    async def close(self) -> None:
        """Stop serving, drop all connections, cancel pending futures. Idempotent."""
        self._exchange.close()
        server, self._server = self._server, None
        if server is None:
            self._listener.close()
            return
        server.close()
        for connection in tuple(self._connections.open):
            connection.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await server.wait_closed()
                if self._connections.open:
                    await self._connections.gone.wait()

    def _connect(self) -> RuntimeProtocol:
        return RuntimeProtocol(self._exchange, self._connections, self._max_connections)
