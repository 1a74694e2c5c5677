"""Serves the exchange to workers, on an address of its own that clients of the API never see."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from contract.side_door import PREFIX
from controller.transfer.door import SideDoor
from controller.transfer.exchange import Exchange

#: The largest answer of a function (6 MiB and 100 bytes).
_ANSWER_LIMIT_BYTES: Final = 6_291_556
#: Longer than workers keep idle connections.
_KEEP_ALIVE_S: Final = 30


def transfer_app(exchange: Exchange) -> Starlette:
    """Return the application: `GET /{token}` a payload, `PUT /{token}` an answer."""

    async def fetch(request: Request) -> Response:
        payload = exchange.fetch(request.path_params["token"])
        return Response(status_code=404) if payload is None else Response(payload)

    async def put(request: Request) -> Response:
        channel = exchange.expects(request.path_params["token"])
        if channel is None:
            return Response(status_code=404)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _ANSWER_LIMIT_BYTES:
                return Response(status_code=413)
        channel.take(bytes(body))
        return Response(status_code=204)

    return Starlette(routes=[Route("/{token}", fetch, methods=["GET"]), Route("/{token}", put, methods=["PUT"])])


@asynccontextmanager
async def serve_transfer(
    exchange: Exchange, door: SideDoor, host: str, port: int, advertised_host: str
) -> AsyncIterator[None]:
    """Serve exchange and side door while the context lasts; sets the `base_url`. Raises OSError for a taken port."""
    listener = socket.create_server((host, port), backlog=128)
    exchange.base_url = f"http://{advertised_host or host}:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        _parted(door, transfer_app(exchange)),
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="transfer")
    try:
        yield
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        listener.close()


def _parted(door: SideDoor, transfers: ASGIApp) -> ASGIApp:
    """Return an application that has the side door below its prefix, and transfers everywhere else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_at_door = scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/")
        await (door if is_at_door else transfers)(scope, receive, send)

    return app


class _Server(uvicorn.Server):
    """Leaves signals to the process's main server."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield
