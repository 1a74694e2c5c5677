"""Serves an application on the configured address."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

from controller.settings import ControllerSettings

_BACKLOG = 2048
#: How long running requests may take to finish after a signal; Lambda's longest function runs 900 s.
SHUTDOWN_GRACE_S = 910


def bind(settings: ControllerSettings, *, reuse_port: bool) -> socket.socket:
    """Return a listening socket; with `reuse_port` several processes share the address. Raises OSError.

    One that was inherited (`listen_fd`) is used as it is: its address is held while this process restarts.
    """
    if settings.listen_fd is not None:
        return socket.socket(fileno=settings.listen_fd)
    host, port = settings.listen_address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=reuse_port)


async def serve(app: ASGIApp, listener: socket.socket, *, log_level: str) -> None:
    """Serve until a signal asks to stop; running requests may finish first."""
    config = uvicorn.Config(
        app,
        loop="none",  # the caller's loop runs already
        http="httptools",
        access_log=False,
        server_header=False,
        log_level=log_level.lower(),
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
    )
    await uvicorn.Server(config).serve(sockets=[listener])
