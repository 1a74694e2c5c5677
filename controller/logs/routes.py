"""`GET /_lambdock/logs/{FunctionName}`: what the live workers have kept of a function's log, oldest first."""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from contract.bus.operations import Operations, WorkerState
from contract.messages import LogsReply, LogsRequest
from controller.api.identity import CallerReader
from controller.api.params import unqualified_function_of
from controller.api.wire import json_response
from controller.domain.errors import InvalidParameterValueError
from controller.invocation.replies import Replies
from controller.resources.functions.resolver import Resolver

_LIMIT: Final = 1000
#: A worker that does not answer in time is left out of this page; its cursor stays.
_ANSWER_S: Final = 5.0


def logs_router(operations: Operations, replies: Replies, resolver: Resolver, callers: CallerReader) -> APIRouter:
    """Return the router. Query: `cursor` (opaque, of the page before), `limit` (1-1000), `since_ms`."""

    async def logs(request: Request) -> Response:
        caller = callers.read(request)
        name = unqualified_function_of(request, caller)
        resolved = await resolver.resolve(caller.account, caller.region, name)
        limit = _number(request, "limit", _LIMIT, 1, _LIMIT)
        since_ms = _number(request, "since_ms", 0, 0, 2**53)
        cursors = _decode(request.query_params.get("cursor", ""))
        workers = [i for i, found in (await operations.workers()).items() if found.get("state") == WorkerState.LIVE]
        pages = await asyncio.gather(
            *(
                _page(operations, replies, instance, resolved.launch.function_uid, cursors, limit, since_ms)
                for instance in workers
            )
        )
        events = [event for page in pages for event in page]
        events.sort(key=lambda event: event["timestamp"])
        return json_response({"events": events, "cursor": _encode(cursors)})

    router = APIRouter()
    router.add_route("/_lambdock/logs/{FunctionName}", logs, methods=["GET"], include_in_schema=False)
    return router


async def _page(
    operations: Operations,
    replies: Replies,
    instance: str,
    function_uid: str,
    cursors: dict[str, str],
    limit: int,
    since_ms: int,
) -> list[dict[str, Any]]:
    """Ask one worker, and remember in `cursors` how far it has been read. Its lives share one log."""
    worker = instance.rpartition("@")[0]
    token = uuid.uuid4().hex
    question = LogsRequest(
        token=token,
        controller=replies.controller,
        function_uid=function_uid,
        cursor=cursors.get(worker, ""),
        limit=limit,
        since_ms=since_ms,
    )
    with replies.expect(token) as pending:
        await operations.ask(instance, "logs", question.to_json())
        try:
            async with asyncio.timeout(_ANSWER_S):
                raw_header, payload = await pending.reply
        except TimeoutError:
            return []
    cursors[worker] = LogsReply.from_json(raw_header).cursor or cursors.get(worker, "")
    page: list[dict[str, Any]] = orjson.loads(payload)
    return page


def _number(request: Request, name: str, default: int, lowest: int, highest: int) -> int:
    raw = request.query_params.get(name, "")
    if not raw:
        return default
    if not raw.isdecimal() or len(raw) > len(str(highest)) or not lowest <= int(raw) <= highest:
        raise InvalidParameterValueError(f"{name} is {raw!r}: expected a whole number from {lowest} to {highest}")
    return int(raw)


def _decode(cursor: str) -> dict[str, str]:
    if not cursor:
        return {}
    try:
        raw = orjson.loads(base64.urlsafe_b64decode(cursor))
        return {str(worker): str(at) for worker, at in raw.items()}
    except (binascii.Error, ValueError, AttributeError) as error:
        raise InvalidParameterValueError(f"cursor {cursor!r} was not made by this controller") from error


def _encode(cursors: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(cursors)).decode()
