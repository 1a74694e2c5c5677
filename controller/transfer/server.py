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

from controller.transfer.exchange import Exchange

#: The largest answer of a function (6 MiB and 100 bytes).
_ANSWER_LIMIT_BYTES: Final = 6_291_556


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
async def serve_transfer(exchange: Exchange, host: str, port: int, advertised_host: str) -> AsyncIterator[None]:
    """Serve the exchange for as long as the context lasts; sets its `base_url`. Raises OSError for a taken port."""
    listener = socket.create_server((host, port), backlog=128)
    exchange.base_url = f"http://{advertised_host or host}:{listener.getsockname()[1]}"
    config = uvicorn.Config(transfer_app(exchange), log_config=None, access_log=False, lifespan="off")
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="transfer")
    try:
        yield
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        listener.close()


class _Server(uvicorn.Server):
    """Leaves signals to the process's main server."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield
