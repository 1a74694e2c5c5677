"""The HTTP face of reserved concurrency."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from controller.api.identity import CallerReader
from controller.api.operations import serve
from controller.api.params import unqualified_function_of
from controller.api.wire import json_response, read_body
from controller.resources.concurrency.schemas import PutFunctionConcurrencyRequest, reservation
from controller.resources.concurrency.service import ConcurrencyService


def concurrency_router(service: ConcurrencyService, callers: CallerReader) -> APIRouter:
    """Serve the operations on reserved concurrency."""
    router = APIRouter(tags=["concurrency"])

    @serve(router, "PutFunctionConcurrency", PutFunctionConcurrencyRequest)
    async def put_function_concurrency(request: Request) -> Response:
        caller = callers.read(request)
        name = unqualified_function_of(request, caller)
        wanted = (await read_body(request, PutFunctionConcurrencyRequest)).wanted()
        return json_response(reservation(await service.put(caller.account, caller.region, name, wanted)))

    @serve(router, "GetFunctionConcurrency")
    async def get_function_concurrency(request: Request) -> Response:
        caller = callers.read(request)
        name = unqualified_function_of(request, caller)
        return json_response(reservation(await service.get(caller.account, caller.region, name)))

    @serve(router, "DeleteFunctionConcurrency")
    async def delete_function_concurrency(request: Request) -> Response:
        caller = callers.read(request)
        await service.delete(caller.account, caller.region, unqualified_function_of(request, caller))
        return Response(status_code=204)

    return router
