"""The HTTP face of an account's settings."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from controller.api.identity import CallerReader
from controller.api.operations import serve
from controller.api.wire import json_response
from controller.resources.account.schemas import settings_of
from controller.resources.account.service import AccountService


def account_router(service: AccountService, callers: CallerReader) -> APIRouter:
    """Serve the operation on an account."""
    router = APIRouter(tags=["account"])

    @serve(router, "GetAccountSettings")
    async def get_account_settings(request: Request) -> Response:
        caller = callers.read(request)
        return json_response(settings_of(await service.get(caller.account, caller.region)))

    return router
