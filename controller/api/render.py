"""Turns errors into the bodies and headers that AWS's clients parse."""

from __future__ import annotations

import logging

from starlette.responses import Response

from controller.api.wire import json_response
from controller.domain.errors import INTERNAL_ERROR, LambdaError, PlatformError

_log = logging.getLogger(__name__)


def refusal(error: LambdaError) -> Response:
    """Render what the caller did wrong."""
    body = {"Type": error.fault, error.message_key: error.message, **error.members}
    return json_response(body, error.status, {"x-amzn-ErrorType": error.code, **error.headers})


def failure(error: Exception, request_id: str, path: str) -> Response:
    """Log what went wrong with us, once and with its traceback, and render an answer that leads to that line."""
    _log.error(
        "request failed", exc_info=error, extra={"request_id": request_id, "path": path, "error": type(error).__name__}
    )
    body = {"Type": PlatformError.fault, PlatformError.message_key: f"{INTERNAL_ERROR} (Request id: {request_id})"}
    return json_response(body, PlatformError.status, {"x-amzn-ErrorType": PlatformError.code})
