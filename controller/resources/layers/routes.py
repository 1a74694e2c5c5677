"""The HTTP face of layers."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from controller.api.code_links import CodeLinks
from controller.api.identity import Caller, CallerReader
from controller.api.operations import serve
from controller.api.params import marker_of
from controller.api.wire import json_response, read_body
from controller.domain.layer import LayerName, LayerVersion, parse_layer_name
from controller.resources.layers import schemas
from controller.resources.layers.service import LayerService, page_size

#: The query that turns ListLayers' path into GetLayerVersionByArn's.
_BY_ARN = "LayerVersion"


def layers_router(service: LayerService, callers: CallerReader, links: CodeLinks) -> APIRouter:
    """Serve the operations on layers."""
    router = APIRouter(tags=["layers"])
    _mount_lists(router, service, callers, links)
    _mount_versions(router, service, callers, links)
    return router


def _mount_lists(router: APIRouter, service: LayerService, callers: CallerReader, links: CodeLinks) -> None:
    @serve(router, "GetLayerVersionByArn")
    async def get_layer_version_by_arn(request: Request) -> Response:
        caller = callers.read(request)
        version = await service.get_by_arn(caller.account, caller.region, request.query_params.get("Arn", ""))
        return json_response(_described(request, links, version))

    @serve(router, "ListLayers")
    async def list_layers(request: Request) -> Response:
        caller, query = callers.read(request), request.query_params
        if query.get("find") == _BY_ARN:
            return await get_layer_version_by_arn(request)
        limit, after = schemas.limit_of(query), marker_of(request) or ("", 0)
        found = await service.list(
            caller.account,
            caller.region,
            compatible=schemas.compatibility_of(query),
            after=after[0],
            limit=limit,
        )
        return json_response(schemas.layer_page(found, page_size(limit)))

    @serve(router, "ListLayerVersions")
    async def list_layer_versions(request: Request) -> Response:
        caller, query = callers.read(request), request.query_params
        limit, before = schemas.limit_of(query), marker_of(request)
        found = await service.list_versions(
            caller.account,
            caller.region,
            _layer_of(request, caller),
            compatible=schemas.compatibility_of(query),
            before=before[1] if before is not None else None,
            limit=limit,
        )
        return json_response(schemas.version_page(found, page_size(limit)))


def _mount_versions(router: APIRouter, service: LayerService, callers: CallerReader, links: CodeLinks) -> None:
    @serve(router, "PublishLayerVersion", schemas.PublishLayerVersionRequest)
    async def publish_layer_version(request: Request) -> Response:
        caller = callers.read(request)
        layer = _layer_of(request, caller)
        body = await read_body(request, schemas.PublishLayerVersionRequest)
        body.check()
        new = await asyncio.to_thread(body.to_new_version, layer)
        version = await service.publish(caller.account, caller.region, new)
        return json_response(_described(request, links, version), 201)

    @serve(router, "GetLayerVersion")
    async def get_layer_version(request: Request) -> Response:
        caller = callers.read(request)
        layer, number = _layer_of(request, caller), schemas.number_of(request)
        version = await service.get(caller.account, caller.region, layer, number)
        return json_response(_described(request, links, version))

    @serve(router, "DeleteLayerVersion")
    async def delete_layer_version(request: Request) -> Response:
        caller = callers.read(request)
        layer, number = _layer_of(request, caller), schemas.number_of(request)
        await service.delete(caller.account, caller.region, layer, number)
        return Response(status_code=204)


def _layer_of(request: Request, caller: Caller) -> LayerName:
    return parse_layer_name(request.path_params["LayerName"], account=caller.account, region=caller.region)


def _described(request: Request, links: CodeLinks, version: LayerVersion) -> dict[str, object]:
    return schemas.description_of(version, links.link(str(request.base_url), version.package.sha256))
