"""What every request passes before any route: request id, host, origin, size; and what every error becomes.

Pure ASGI, because responses and request bodies stream through unbuffered.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api import render
from controller.domain.errors import LambdaError, RequestTooLargeError

MAX_BODY_BYTES = 70 * 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class HostRefusedError(LambdaError):
    """The Host header names nothing that we serve: a web page may be rebinding its name to us."""

    code = "AccessDeniedException"
    status = 403
    message_key = "Message"


class OriginRefusedError(HostRefusedError):
    """A web page sends the request, and its origin is not allowed to."""


class RequestIdGuard:
    """Gives each request an id, in `scope["state"]["request_id"]` and in every response's headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-amzn-RequestId"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class ErrorGuard:
    """Renders whatever the guards and routes within raise; what happens after the response began is only logged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def watching_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watching_send)
        except LambdaError as error:
            response = render.refusal(error)
        except Exception as error:  # noqa: BLE001 - the boundary: logged with its traceback, answered with 500
            response = render.failure(error, scope["state"]["request_id"], scope["path"])
        else:
            return
        if not has_begun:
            if scope["method"] != "HEAD":
                # Unread bytes of the request would be taken for the next one on this connection.
                response.headers["Connection"] = "close"
            await response(scope, receive, send)


class AddressGuard:
    """Refuses hosts that are not ours and origins that are not allowed, before a byte of the body is read."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str], allowed_origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset((*_LOOPBACK, *(host.lower() for host in allowed_hosts)))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            self._check_host(headers.getlist("host"))
            for origin in headers.getlist("origin"):
                self._check_origin(origin)
        await self._app(scope, receive, send)

    def _check_host(self, hosts: list[str]) -> None:
        host = hosts[0] if len(hosts) == 1 else ""
        name = host.lower().rpartition(":")[0] if _has_port(host) else host.lower()
        if name not in self._hosts:
            raise HostRefusedError(
                f"The Host header {', '.join(hosts)!r} names no host that this controller serves. Add the host name to"
                " LAMBDOCK_ALLOWED_HOSTS if clients are meant to reach it by this name."
            )

    def _check_origin(self, origin: str) -> None:
        if origin.lower().rstrip("/") not in self._origins:
            raise OriginRefusedError(
                f"Requests by web pages of origin {origin!r} are refused. Add it to LAMBDOCK_ALLOWED_ORIGINS if its"
                " pages are meant to call this controller."
            )


class BodyGuard:
    """Refuses bodies over the limit: at once when the length is declared, else while they are read.

    Routes of `unlimited_paths` stream their bodies, and have limits of their own.
    """

    def __init__(
        self, app: ASGIApp, *, limit_bytes: int = MAX_BODY_BYTES, unlimited_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._unlimited_paths = unlimited_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http" or scope["path"] in self._unlimited_paths:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit() or int(declared) > self._limit_bytes:
            raise self._too_large()
        read_bytes = 0

        async def counting_receive() -> Message:
            nonlocal read_bytes
            message = await receive()
            if message["type"] == "http.request":
                read_bytes += len(message.get("body", b""))
                if read_bytes > self._limit_bytes:
                    raise self._too_large()
            return message

        await self._app(scope, counting_receive, send)

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(f"Request must be smaller than {self._limit_bytes} bytes")


class TrailingSlashGuard:
    """Takes `/functions/` for `/functions`: clients with older service models send the former."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        path = scope.get("path", "")
        if len(path) > 1 and path.endswith("/"):
            scope = {**scope, "path": path[:-1]}
        await self._app(scope, receive, send)


def _has_port(host: str) -> bool:
    port = host.rpartition(":")[2]
    return ":" in host and not host.endswith("]") and port.isascii() and port.isdigit()
