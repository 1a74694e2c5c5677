"""The HTTP face of published versions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from controller.api.identity import CallerReader
from controller.api.operations import serve
from controller.api.params import marker_of, page_limit_of, unqualified_function_of
from controller.api.wire import json_response, read_body
from controller.resources.functions.answers import configuration
from controller.resources.functions.service import page_size
from controller.resources.versions.schemas import PublishVersionRequest, version_page
from controller.resources.versions.service import VersionService


def versions_router(service: VersionService, callers: CallerReader) -> APIRouter:
    """Serve the operations on published versions."""
    router = APIRouter(tags=["versions"])

    @serve(router, "PublishVersion", PublishVersionRequest)
    async def publish_version(request: Request) -> Response:
        caller = callers.read(request)
        name = unqualified_function_of(request, caller)
        body = await read_body(request, PublishVersionRequest)
        found = await service.publish(caller.account, caller.region, name, body.to_publication())
        return json_response(configuration(found), 201)

    @serve(router, "ListVersionsByFunction")
    async def list_versions(request: Request) -> Response:
        caller, limit, after = callers.read(request), page_limit_of(request), marker_of(request) or ("", -1)
        name = unqualified_function_of(request, caller)
        function, versions = await service.list(caller.account, caller.region, name, after=after[1], limit=limit)
        return json_response(version_page(function, versions, page_size(limit)))

    return router
