"""Reads JSON requests and writes JSON answers in Lambda's dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from controller.domain.errors import InvalidRequestContentError, SerializationError

#: From here on, parsing takes long enough to be done in a thread.
_LARGE_BYTES = 256 * 1024


class WireModel(BaseModel):
    """A request's body: types only, since the constraints have AWS's own wording; unknown members are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    def members(self) -> dict[str, Any]:
        """Return what the caller wrote, by wire name; null counts as not written."""
        return self.model_dump(exclude_none=True)


Model = TypeVar("Model", bound=WireModel)


async def read_body(request: Request, model: type[Model]) -> Model:
    """Parse the body. Raises InvalidRequestContentError for what is not JSON, SerializationError for wrong types."""
    raw = await request.body()
    if len(raw) > _LARGE_BYTES:
        return await asyncio.to_thread(_parse, raw, model)
    return _parse(raw, model)


def _parse(raw: bytes, model: type[Model]) -> Model:
    try:
        data = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise InvalidRequestContentError(f"Could not parse request body into json: {error}") from error
    # Strings of JSON can have it by an escape only. No process gets it as argument or variable, no database takes it.
    if b"\\u0000" in raw and _has_nul(data):
        raise SerializationError("a member has a NUL character (\\u0000), which is not supported")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the body"
        raise SerializationError(f"{where}: {first['msg']}") from error


def _has_nul(data: object) -> bool:
    if isinstance(data, str):
        return "\0" in data
    if isinstance(data, dict):
        return any(_has_nul(key) or _has_nul(value) for key, value in data.items())
    return isinstance(data, list) and any(_has_nul(item) for item in data)


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(body), status, dict(headers or {}), media_type="application/json")


def body_of(model: type[WireModel]) -> dict[str, Any]:
    """Describe a body in the OpenAPI document, which can't see it, since routes read it themselves."""
    return {"requestBody": {"content": {"application/json": {"schema": model.model_json_schema()}}}}
