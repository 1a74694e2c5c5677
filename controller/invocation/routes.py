"""`POST /2015-03-31/functions/{FunctionName}/invocations`, without FastAPI's machinery: the hot path."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from controller.api.identity import CallerReader
from controller.api.params import function_of
from controller.events.acceptor import EventAcceptor
from controller.invocation.invoker import Invoker, InvokeResult
from controller.invocation.payload import InvocationType, check_payload, read_parameters
from controller.invocation.versions import VersionCache

INVOKE_PATH = "/2015-03-31/functions/{FunctionName}/invocations"


def invocation_router(
    invoker: Invoker, acceptor: EventAcceptor, versions: VersionCache, callers: CallerReader
) -> APIRouter:
    """Return the router of Invoke."""

    async def invoke(request: Request) -> Response:
        caller = callers.read(request)
        name = function_of(request, caller)
        parameters = read_parameters(request.headers)
        payload = check_payload(parameters.type, await request.body())
        request_id: str = request.scope["state"]["request_id"]
        match parameters.type:
            case InvocationType.REQUEST_RESPONSE:
                return _response(await invoker.invoke(caller, name, request_id, parameters, payload))
            case InvocationType.EVENT:
                await acceptor.accept(caller, name, request_id, payload)
                return Response(status_code=202)
            case InvocationType.DRY_RUN:
                (await versions.resolve_now(caller, name)).check_invocable()
                return Response(status_code=204)

    router = APIRouter()
    router.add_route(INVOKE_PATH, invoke, methods=["POST"], include_in_schema=False)
    return router


def _response(result: InvokeResult) -> Response:
    header = result.header
    headers = {"X-Amz-Executed-Version": header.executed_version}
    if header.function_error is not None:
        headers["X-Amz-Function-Error"] = header.function_error
    if header.log_result is not None:
        headers["X-Amz-Log-Result"] = header.log_result
    return Response(result.payload, 200, headers, media_type="application/json")
