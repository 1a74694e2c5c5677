"""Puts the HTTP application together from values that somebody else made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from contract.blobs.store import BlobStore
from controller.api import render
from controller.api.code_links import CodeLinks, code_router
from controller.api.guards import AddressGuard, BodyGuard, ErrorGuard, RequestIdGuard, TrailingSlashGuard
from controller.api.health import Members, Probe, health_router
from controller.api.identity import CallerReader
from controller.core import Core
from controller.domain.errors import LambdaError, MethodNotAllowedError, UnknownOperationError
from controller.images.routes import IMAGES_PATH, images_router
from controller.resources.account.routes import account_router
from controller.resources.concurrency.routes import concurrency_router
from controller.resources.functions.routes import functions_router
from controller.resources.layers.routes import layers_router
from controller.resources.versions.routes import versions_router

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the application serves."""

    core: Core
    callers: CallerReader
    links: CodeLinks
    blobs: BlobStore
    #: A directory for packages on their way to callers.
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    probes: Mapping[str, Probe] = field(default_factory=dict)
    workers: Members | None = None
    controllers: Members | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    #: Routers of other parts, mounted at the root beside those of the resources.
    routers: tuple[APIRouter, ...] = ()
    #: Runs around the time in which the application serves.
    lifespan: Lifespan | None = None


def create_app(services: Services) -> FastAPI:
    """Return the ASGI application. Creates nothing that needs closing."""
    app = FastAPI(
        title="Lambdock",
        openapi_url="/_lambdock/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=services.lifespan,
        middleware=[
            Middleware(RequestIdGuard),
            Middleware(ErrorGuard),
            Middleware(AddressGuard, allowed_hosts=services.allowed_hosts, allowed_origins=services.allowed_origins),
            Middleware(BodyGuard, unlimited_paths=frozenset({IMAGES_PATH})),
            Middleware(TrailingSlashGuard),
        ],
        exception_handlers={HTTPException: _unknown, LambdaError: _refused},
    )
    core, callers = services.core, services.callers
    for router in (
        # The first that matches serves: invocations come before everything else.
        *services.routers,
        functions_router(core.functions, core.versions, callers, services.links),
        versions_router(core.versions, callers),
        concurrency_router(core.concurrency, callers),
        account_router(core.account, callers),
        layers_router(core.layers, callers, services.links),
        images_router(core.images, callers),
        code_router(services.links, services.blobs, services.scratch),
        health_router(services.probes, services.workers, services.controllers),
    ):
        app.include_router(router)
    return app


async def _refused(_request: Request, error: Exception) -> Response:
    # Within the guards, so that the rest of the request's body is read and the connection stays open.
    return render.refusal(error) if isinstance(error, LambdaError) else _raise(error)


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    if status == 405:
        text = f"{request.url.path} does not support the method {request.method}."
        return render.refusal(MethodNotAllowedError(text))
    text = f"{request.method} {request.url.path} is no operation that this controller serves."
    return render.refusal(UnknownOperationError(text))


def _raise(error: Exception) -> Response:
    raise error
