"""The HTTP face of functions."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from controller.api.code_links import CodeLinks
from controller.api.identity import CallerReader
from controller.api.operations import serve
from controller.api.params import function_of, marker_of, page_limit_of, unqualified_function_of
from controller.api.wire import json_response, read_body
from controller.domain.arn import check_new_name, parse_unqualified_name
from controller.domain.validation import check_members
from controller.resources.functions import answers, schemas
from controller.resources.functions.service import FunctionService, page_size
from controller.resources.versions.service import VersionService


def functions_router(
    service: FunctionService, versions: VersionService, callers: CallerReader, links: CodeLinks
) -> APIRouter:
    """Serve the operations on functions."""
    router = APIRouter(tags=["functions"])
    _mount_reads(router, service, callers, links)
    _mount_changes(router, service, versions, callers)
    return router


def _mount_reads(router: APIRouter, service: FunctionService, callers: CallerReader, links: CodeLinks) -> None:
    @serve(router, "GetFunction")
    async def get_function(request: Request) -> Response:
        caller = callers.read(request)
        found = await service.get(caller.account, caller.region, function_of(request, caller))
        base_url = str(request.base_url)
        return json_response(answers.description_of(found, lambda sha256: links.link(base_url, sha256)))

    @serve(router, "GetFunctionConfiguration")
    async def get_function_configuration(request: Request) -> Response:
        caller = callers.read(request)
        found = await service.get(caller.account, caller.region, function_of(request, caller))
        return json_response(answers.configuration(found))

    @serve(router, "ListFunctions")
    async def list_functions(request: Request) -> Response:
        caller, limit, after = callers.read(request), page_limit_of(request), marker_of(request) or ("", -1)
        wanted = request.query_params.get("FunctionVersion")
        check_members({"FunctionVersion": wanted})
        if wanted is None:
            functions = await service.list(caller.account, caller.region, after=after[0], limit=limit)
            rows = [(function, function.head) for function in functions]
        else:
            rows = list(await service.list_with_versions(caller.account, caller.region, after=after, limit=limit))
        return json_response(answers.function_page(rows, page_size(limit), is_qualified=wanted is not None))


def _mount_changes(
    router: APIRouter, service: FunctionService, versions: VersionService, callers: CallerReader
) -> None:
    @serve(router, "CreateFunction", schemas.CreateFunctionRequest)
    async def create_function(request: Request) -> Response:
        caller = callers.read(request)
        body = await read_body(request, schemas.CreateFunctionRequest)
        check_members(body.members(), required=("FunctionName", "Role", "Code"))
        name = parse_unqualified_name(body.FunctionName or "", account=caller.account, region=caller.region)
        check_new_name(name)
        new = await asyncio.to_thread(body.to_new_function, caller.account, caller.region, name.name)
        return json_response(answers.configuration(await service.create(new)), 201)

    @serve(router, "UpdateFunctionCode", schemas.UpdateFunctionCodeRequest)
    async def update_function_code(request: Request) -> Response:
        caller = callers.read(request)
        name = unqualified_function_of(request, caller)
        body = await read_body(request, schemas.UpdateFunctionCodeRequest)
        code = await asyncio.to_thread(body.to_new_code)
        return json_response(
            answers.configuration(await service.update_code(caller.account, caller.region, name, code))
        )

    @serve(router, "UpdateFunctionConfiguration", schemas.UpdateFunctionConfigurationRequest)
    async def update_function_configuration(request: Request) -> Response:
        caller = callers.read(request)
        name = unqualified_function_of(request, caller)
        body = await read_body(request, schemas.UpdateFunctionConfigurationRequest)
        new = body.to_new_configuration()
        found = await service.update_configuration(caller.account, caller.region, name, new)
        return json_response(answers.configuration(found))

    @serve(router, "DeleteFunction")
    async def delete_function(request: Request) -> Response:
        caller = callers.read(request)
        name = function_of(request, caller)
        is_version = name.qualifier not in (None, "$LATEST")
        await (versions if is_version else service).delete(caller.account, caller.region, name)
        return Response(status_code=200)
